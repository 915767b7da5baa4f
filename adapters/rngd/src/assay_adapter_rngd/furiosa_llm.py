"""furiosa-llm's server: how it is started, and what it does with the fields of a request."""

from collections.abc import Sequence

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

_MOST_PARALLEL = 64

CONVENTIONS = ServerConventions(
    program=("furiosa-llm", "serve"),
    listen_arguments=lambda host, port: ("--host", host, "--port", str(port)),
    # One word: a random key may begin with a hyphen, which a separate word must not.
    key_arguments=lambda key: (f"--api-key={key}",),
    accelerator_resource="furiosa.ai/rngd",
)

CAPABILITIES = Capabilities(
    generate=Support.YES,
    score=Support.YES,
    score_method=ScoreMethod.PROMPT_LOGPROBS,
    # Taken without a word and not used: sampled answers cannot be repeated here.
    seed=Support.IGNORED,
    top_k=Support.YES,
    min_p=Support.YES,
    repetition_penalty=Support.YES,
    presence_penalty=Support.IGNORED,
    frequency_penalty=Support.IGNORED,
    chat=Support.YES,
    ignore_eos=Support.YES,
    # Whether greedy answers repeat has not been measured on a card.
    greedy_determinism=Determinism.NOT_REPEATABLE,
)

PARAMETERS = (
    ServingParameter(
        name="fxb",
        description="path of the compiled bundle, where it is not in the model's directory; below the "
        "adapter's artifact roots",
    ),
    ServingParameter(name="pipeline_parallel", description="cards that the layers are spread over"),
    ServingParameter(name="data_parallel", description="copies of the model"),
    ServingParameter(name="prefix_caching", description="reuse of prompts' beginnings", choices=SWITCH),
    ServingParameter(name="max_num_batched_tokens", description="most tokens of one step"),
    ServingParameter(
        name="tensor_parallel", description="refused: it is fixed when the bundle is built (fxb build -tp)"
    ),
)

SOFTWARE = ServerSoftware(
    backend=Backend.RNGD,
    engine="furiosa-llm",
    distribution="furiosa-llm",
    capabilities=CAPABILITIES,
    parameters=PARAMETERS,
    conventions=CONVENTIONS,
    exporter_sensors=(SensorKind.RNGD_EXPORTER_POWER,),
)


def furiosa_command(
    spec: ProvisionSpec, *, model: str, revision: str, context_tokens: int, devices: Sequence[str]
) -> ServerCommand:
    """Arguments of a server.

    Args:
        spec: what is asked for.
        model: local directory or name of a repository.
        revision: of the repository; empty for a directory.
        context_tokens: of one sequence; 0 leaves it to the compiled bundle.
        devices: names of whole cards (``npu:0``); empty where its place chooses.

    Raises:
        InvalidRequest: a serving parameter is wrong, or cannot be chosen here.
    """
    given = ServingParameters(spec.serving_parameters)
    if given.text("tensor_parallel", pattern=r".+", meaning="a number"):
        raise InvalidRequest(
            "serving_parameters.tensor_parallel: furiosa-llm fixes it when the bundle is built "
            "(fxb build -tp N); leave it out, or name another bundle by 'fxb'"
        )
    arguments = [model]
    if revision:
        arguments += ["--revision", revision]
    if devices:
        arguments += ["--devices", ",".join(devices)]
    if context_tokens:
        arguments += ["--max-model-len", str(context_tokens)]
    arguments += ["--max-concurrency", str(spec.max_concurrency)]
    if fxb := spec.serving_parameters.get("fxb"):
        arguments += ["--fxb", fxb]
    for name, option in (("pipeline_parallel", "-pp"), ("data_parallel", "-dp")):
        number = given.whole(name, least=1, most=_MOST_PARALLEL)
        if number is not None:
            arguments += [option, str(number)]
    batched = given.whole("max_num_batched_tokens", least=1, most=2**31 - 1)
    if batched is not None:
        arguments += ["--max-num-batched-tokens", str(batched)]
    caching = given.switch("prefix_caching")
    if caching is not None:
        arguments.append("--enable-prefix-caching" if caching else "--no-enable-prefix-caching")
    arguments.append("--disable-uvicorn-access-log")
    return ServerCommand(arguments=tuple(arguments), environment={"DO_NOT_TRACK": "1"})
