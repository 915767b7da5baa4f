"""vLLM's server: how it is started, and what it does with the fields of a request."""

from collections.abc import Callable

from assay_serving.errors import InvalidRequest
from assay_serving.launchers.server import ServerConventions
from assay_serving.server_software import ServerCommand, ServerSoftware
from assay_serving.serving_parameters import SWITCH, ServingParameters
from assay_serving.types import (
    Backend,
    Capabilities,
    Determinism,
    ProvisionSpec,
    ScoreMethod,
    SensorKind,
    ServingParameter,
    Support,
)

_MOST_PARALLEL = 1024
_NAME = r"[A-Za-z0-9_.-]{1,64}"

CONVENTIONS = ServerConventions(
    program=("vllm", "serve"),
    listen_arguments=lambda host, port: ("--host", host, "--port", str(port)),
    key_variable="VLLM_API_KEY",
    accelerator_resource="nvidia.com/gpu",
    wants_shared_memory=True,
)

CAPABILITIES = Capabilities(
    generate=Support.YES,
    score=Support.YES,
    score_method=ScoreMethod.PROMPT_LOGPROBS,
    seed=Support.YES,
    top_k=Support.YES,
    min_p=Support.YES,
    # Of prompt and answer together, as everywhere.
    repetition_penalty=Support.YES,
    # Of the answer's tokens alone, which is what these two mean in OpenAI's interface.
    presence_penalty=Support.YES,
    frequency_penalty=Support.YES,
    chat=Support.YES,
    ignore_eos=Support.YES,
    # Greedy texts depend on what else is in the batch. Batch-invariant kernels are said to end that; nobody
    # has measured it for Assay on a GPU yet, so it is not promised.
    greedy_determinism=Determinism.NOT_REPEATABLE,
)

PARAMETERS = (
    ServingParameter(
        name="dtype",
        description="type of weights and activations",
        choices=("auto", "bfloat16", "float16", "float32"),
    ),
    ServingParameter(name="quantization", description="method, where the model's own files do not say it"),
    ServingParameter(name="tensor_parallel", description="GPUs that each layer is split over"),
    ServingParameter(name="pipeline_parallel", description="GPUs that the layers are spread over"),
    ServingParameter(name="gpu_memory_utilization", description="share of a GPU's memory, such as 0.9"),
    ServingParameter(name="max_num_batched_tokens", description="most tokens of one step"),
    ServingParameter(
        name="kv_cache_dtype",
        description="type of the cache of keys and values",
        choices=("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    ),
    ServingParameter(name="seed", description="of the server, for requests without one"),
    ServingParameter(name="enforce_eager", description="no CUDA graphs and no compilation", choices=SWITCH),
    ServingParameter(name="prefix_caching", description="reuse of prompts' beginnings", choices=SWITCH),
    ServingParameter(
        name="batch_invariant", description="kernels whose results ignore the batch", choices=SWITCH
    ),
    ServingParameter(
        name="trust_remote_code",
        description="run code of the model's repository, where the operator allows it",
        choices=SWITCH,
    ),
)

SOFTWARE = ServerSoftware(
    backend=Backend.GPU,
    engine="vLLM",
    distribution="vllm",
    capabilities=CAPABILITIES,
    parameters=PARAMETERS,
    conventions=CONVENTIONS,
    exporter_sensors=(SensorKind.DCGM_ENERGY, SensorKind.DCGM_POWER),
)

_FIXED = (
    # Nothing but the request decides how tokens are chosen.
    ("--generation-config", "vllm"),
    ("--logprobs-mode", "raw_logprobs"),
    # A chunk per token, so that each has a time of its own.
    ("--stream-interval", "1"),
    # It names the token that an empty context stands for.
    ("--enable-tokenizer-info-endpoint",),
    ("--disable-uvicorn-access-log",),
)
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1"}


def accelerators_of(spec: ProvisionSpec) -> int:
    """GPUs that a server of this specification needs.

    Without `tensor_parallel` that is `resources.accelerators` over the pipeline's stages.
    """
    tensor, pipeline = _parallelism(spec)
    return tensor * pipeline


def vllm_command(
    spec: ProvisionSpec, *, model: str, revision: str, context_tokens: int, allow_remote_code: bool
) -> ServerCommand:
    """Arguments and variables of a server.

    Args:
        spec: what is asked for.
        model: local directory or name of a repository.
        revision: of the repository; empty for a directory.
        context_tokens: of one sequence; 0 leaves it to the model.
        allow_remote_code: whether the operator lets code of the repository be run.

    Raises:
        InvalidRequest: a serving parameter is wrong or not allowed.
    """
    given = ServingParameters(spec.serving_parameters)
    tensor, pipeline = _parallelism(spec)
    arguments: list[str] = [model]
    arguments += [word for option in _FIXED for word in option]
    if revision:
        arguments += ["--revision", revision, "--tokenizer-revision", revision]
    if context_tokens:
        arguments += ["--max-model-len", str(context_tokens)]
    arguments += ["--max-num-seqs", str(spec.max_concurrency)]
    arguments += ["--tensor-parallel-size", str(tensor), "--pipeline-parallel-size", str(pipeline)]
    arguments += _options(given)
    if given.switch("trust_remote_code"):
        if not allow_remote_code:
            raise InvalidRequest(
                "serving_parameters.trust_remote_code: this adapter runs no code of repositories; its "
                "operator allows that by ASSAY_GPU_ALLOW_REMOTE_CODE=true"
            )
        arguments += ["--trust-remote-code", "--code-revision", revision or "main"]
    environment = dict(_ENVIRONMENT)
    if given.switch("batch_invariant"):
        environment["VLLM_BATCH_INVARIANT"] = "1"
    return ServerCommand(arguments=tuple(arguments), environment=environment)


def _parallelism(spec: ProvisionSpec) -> tuple[int, int]:
    given = ServingParameters(spec.serving_parameters)
    pipeline = given.whole("pipeline_parallel", least=1, most=_MOST_PARALLEL) or 1
    tensor = given.whole("tensor_parallel", least=1, most=_MOST_PARALLEL)
    return tensor or max(1, spec.resources.accelerators // pipeline), pipeline


def _options(given: ServingParameters) -> list[str]:
    """The options that a parameter sets one by one."""
    read: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("dtype", lambda name: given.text(name, pattern=_NAME, meaning="the name of a type")),
        ("quantization", lambda name: given.text(name, pattern=_NAME, meaning="the name of a method")),
        ("gpu_memory_utilization", given.share),
        ("max_num_batched_tokens", lambda name: given.whole(name, least=1, most=2**31 - 1)),
        ("kv_cache_dtype", lambda name: given.text(name, pattern=_NAME, meaning="the name of a type")),
        ("seed", lambda name: given.whole(name, least=0, most=2**32 - 1)),
    )
    options: list[str] = []
    for name, value_of in read:
        value = value_of(name)
        if value is not None:
            options += [f"--{name.replace('_', '-')}", str(value)]
    if given.switch("enforce_eager"):
        options.append("--enforce-eager")
    caching = given.switch("prefix_caching")
    if caching is not None:
        options.append("--enable-prefix-caching" if caching else "--no-enable-prefix-caching")
    return options
