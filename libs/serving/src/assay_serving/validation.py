"""Refusing what cannot be honoured, before the engine sees it."""

from assay_serving.errors import InvalidRequest, UnsupportedField
from assay_serving.types import (
    AdapterDescription,
    Capabilities,
    GenerateRequest,
    ProvisionSpec,
    SamplingParameters,
    ScoreRequest,
    Support,
)

_MAX_STOP_STRINGS = 64
_MAX_LEASE_SECONDS = 24 * 3600
_MAX_OWNER_LENGTH = 256
_LOG_BYTES = 65536
_MAX_LOG_BYTES = 8 * 1024 * 1024


def check_provision(spec: ProvisionSpec, description: AdapterDescription) -> None:
    """Check a specification against what the adapter says of itself.

    Raises:
        InvalidRequest: a value is out of range, or a serving parameter is unknown.
    """
    if not spec.idempotency_key:
        raise InvalidRequest("idempotency_key: must not be empty")
    if not spec.artifact.uri:
        raise InvalidRequest("artifact.uri: must not be empty")
    check_lease(spec.lease)
    if spec.ready_timeout <= 0:
        raise InvalidRequest("ready_timeout_ms: must be above 0")
    _check_owner(spec)
    if spec.artifact.format and spec.artifact.format not in description.artifact_formats:
        known = ", ".join(description.artifact_formats)
        raise InvalidRequest(f"artifact.format {spec.artifact.format!r}: this adapter serves {known}")
    limits = description.capabilities
    for name, wanted, most in (
        ("max_context_tokens", spec.max_context_tokens, limits.max_context_tokens),
        ("max_concurrency", spec.max_concurrency, limits.max_concurrency),
    ):
        if wanted < 0 or (most and wanted > most):
            raise InvalidRequest(f"{name} {wanted}: this adapter allows at most {most}")
    _check_serving_parameters(spec, description)


def check_lease(lease: float) -> None:
    """Check how long an instance shall live without a heartbeat; raises InvalidRequest."""
    if not 0 < lease <= _MAX_LEASE_SECONDS:
        raise InvalidRequest(f"lease_ms: must be above 0 and at most {_MAX_LEASE_SECONDS * 1000}")


def check_log_bytes(max_bytes: int) -> int:
    """How many bytes of a log to give: `max_bytes`, or the default for 0; raises InvalidRequest."""
    if max_bytes > _MAX_LOG_BYTES:
        raise InvalidRequest(f"max_bytes: must be at most {_MAX_LOG_BYTES}")
    return max_bytes or _LOG_BYTES


def _check_owner(spec: ProvisionSpec) -> None:
    if len(spec.owner) > _MAX_OWNER_LENGTH:
        raise InvalidRequest(f"owner: must have at most {_MAX_OWNER_LENGTH} characters")
    if spec.fencing_token < 0:
        raise InvalidRequest("fencing_token: must not be negative")
    if spec.fencing_token and not spec.owner:
        raise InvalidRequest("fencing_token: means nothing without an owner; set owner too")
    if spec.endpoint_key and not spec.artifact.uri.startswith(("http://", "https://")):
        raise InvalidRequest("endpoint_key: only an artifact with an http(s) URI takes one; leave it out")


def _check_serving_parameters(spec: ProvisionSpec, description: AdapterDescription) -> None:
    known = {parameter.name: parameter for parameter in description.serving_parameters}
    for name, value in spec.serving_parameters.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"serving_parameters.{name}: unknown here; known: {names}")
        choices = known[name].choices
        if choices and value not in choices:
            raise InvalidRequest(f"serving_parameters.{name} {value!r}: choose one of {', '.join(choices)}")


def check_generate(request: GenerateRequest, capabilities: Capabilities) -> None:
    """Check what is asked; `check_sampling` checks how.

    Raises:
        InvalidRequest: there is no prompt, or two.
        UnsupportedField: the backend does not generate, or not from a conversation.
    """
    if capabilities.generate is not Support.YES:
        raise UnsupportedField("this instance does not generate")
    if request.chat and request.text:
        raise InvalidRequest("give either text or chat, not both")
    if not request.chat and not request.text:
        raise InvalidRequest("text: an empty prompt has no defined continuation")
    if request.chat:
        _check_support("chat", capabilities.chat)


def check_sampling(sampling: SamplingParameters, capabilities: Capabilities) -> None:
    """Check the sampling parameters of a generation request.

    Raises:
        InvalidRequest: a value is out of range.
        UnsupportedField: a field is set that this backend refuses or would ignore.
    """
    used = {
        "seed": sampling.seed is not None,
        "top_k": sampling.top_k is not None,
        "min_p": sampling.min_p is not None,
        "repetition_penalty": sampling.repetition_penalty is not None,
        "presence_penalty": sampling.presence_penalty is not None,
        "frequency_penalty": sampling.frequency_penalty is not None,
        "ignore_eos": sampling.ignore_eos,
    }
    for name, is_used in used.items():
        if is_used:
            _check_support(f"sampling.{name}", getattr(capabilities, name))
    _check_ranges(sampling)


def _check_support(name: str, support: Support) -> None:
    if support is not Support.YES:
        verb = "ignores" if support is Support.IGNORED else "refuses"
        raise UnsupportedField(f"{name}: the engine {verb} it; leave it out or use another backend")


def _check_ranges(sampling: SamplingParameters) -> None:
    if sampling.max_tokens < 1:
        raise InvalidRequest("sampling.max_tokens: must be at least 1")
    if len(sampling.stop) > _MAX_STOP_STRINGS or not all(sampling.stop):
        raise InvalidRequest(f"sampling.stop: at most {_MAX_STOP_STRINGS} strings, none empty")
    ranges: tuple[tuple[str, float | None, float, float], ...] = (
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_p", sampling.top_p, 1e-9, 1.0),
        ("top_k", sampling.top_k, 1, 2**31 - 1),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("seed", sampling.seed, 0, 2**32 - 2),
        ("repetition_penalty", sampling.repetition_penalty, 1e-9, 2.0),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
    )
    for name, value, least, most in ranges:
        if value is not None and not least <= value <= most:
            raise InvalidRequest(f"sampling.{name} {value}: must be between {least} and {most}")


def check_score(request: ScoreRequest, capabilities: Capabilities) -> None:
    """Check one scoring request.

    Raises:
        InvalidRequest: nothing to score.
        UnsupportedField: this backend cannot score.
    """
    if capabilities.score is not Support.YES:
        raise UnsupportedField("this backend gives no log-probabilities of a given continuation")
    if not request.continuation:
        raise InvalidRequest("continuation: must not be empty")
