"""What can go wrong between a caller and a model.

The class says what; `retryable` says whether to try again.
"""

from typing import ClassVar

from assay_serving.types import ErrorCode, Failure


class ServingError(Exception):
    """Base of all errors of this interface.

    `code` names the case, `message` what to do, `retryable` whether the same request may succeed later or on
    a new instance, `engine_detail` what the engine said (for a failed start the end of its log), and
    `tokens_before_error` how many tokens had already come.
    """

    code: ClassVar[ErrorCode] = ErrorCode.ENGINE_ERROR
    retryable_by_default: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        engine_detail: str = "",
        tokens_before_error: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.engine_detail = engine_detail
        self.tokens_before_error = tokens_before_error

    def to_failure(self) -> Failure:
        """The same as data."""
        return Failure(
            code=self.code,
            message=self.message,
            retryable=self.retryable,
            engine_detail=self.engine_detail,
            tokens_before_error=self.tokens_before_error,
        )


class InvalidRequest(ServingError):
    """The request cannot be right on any adapter."""

    code = ErrorCode.INVALID_REQUEST


class UnsupportedField(ServingError):
    """This backend would not honour a field of the request."""

    code = ErrorCode.UNSUPPORTED_FIELD


class ContextTooLong(ServingError):
    """Prompt plus wanted tokens exceed the instance's context."""

    code = ErrorCode.CONTEXT_TOO_LONG


class NoCapacity(ServingError):
    """No room for another instance now."""

    code = ErrorCode.NO_CAPACITY
    retryable_by_default = True


class ArtifactNotFound(ServingError):
    """The artifact's URI leads nowhere, or to a place that this adapter may not read."""

    code = ErrorCode.ARTIFACT_NOT_FOUND


class ArtifactMismatch(ServingError):
    """The file at the URI is not the one that was named (digest, format)."""

    code = ErrorCode.ARTIFACT_MISMATCH


class StartFailed(ServingError):
    """The engine did not become ready; `engine_detail` is the end of its log."""

    code = ErrorCode.START_FAILED


class EngineDied(ServingError):
    """The engine process ended while it was needed; a new instance may succeed."""

    code = ErrorCode.ENGINE_DIED
    retryable_by_default = True


class EngineError(ServingError):
    """The engine answered with an error, or with something that makes no sense."""

    code = ErrorCode.ENGINE_ERROR


class DeadlineExceeded(ServingError):
    """It took longer than the caller allowed."""

    code = ErrorCode.DEADLINE
    retryable_by_default = True


class RequestCancelled(ServingError):
    """The request was cancelled before it finished."""

    code = ErrorCode.CANCELLED
    retryable_by_default = True


class NotReady(ServingError):
    """The instance is not in state READY."""

    code = ErrorCode.NOT_READY
    retryable_by_default = True


class UnknownInstance(ServingError):
    """The adapter knows no such instance; a restarted adapter has forgotten its instances."""

    code = ErrorCode.UNKNOWN_INSTANCE


class Fenced(ServingError):
    """Somebody with a newer lease has taken the instance's owner over; this caller must stop."""

    code = ErrorCode.FENCED


class AdapterUnavailable(ServingError):
    """The adapter cannot be reached, or the connection to it broke."""

    code = ErrorCode.ADAPTER_UNAVAILABLE
    retryable_by_default = True


_CLASS_OF_CODE: dict[ErrorCode, type[ServingError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        UnsupportedField,
        ContextTooLong,
        NoCapacity,
        ArtifactNotFound,
        ArtifactMismatch,
        StartFailed,
        EngineDied,
        EngineError,
        DeadlineExceeded,
        RequestCancelled,
        NotReady,
        UnknownInstance,
        Fenced,
        AdapterUnavailable,
    )
}


def error_of(failure: Failure) -> ServingError:
    """The exception that `failure` describes, of the class that belongs to its code."""
    return _CLASS_OF_CODE[failure.code](
        failure.message,
        retryable=failure.retryable,
        engine_detail=failure.engine_detail,
        tokens_before_error=failure.tokens_before_error,
    )
