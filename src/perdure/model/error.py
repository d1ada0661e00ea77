"""What can go wrong, as values: the error object that is stored, and the errors that the service raises."""

from typing import Any, ClassVar

import msgspec


class ErrorObject(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An error as it is stored and shown: four optional texts.

    `data` is free text of the author's; `stack_trace` is one text per frame, outermost first.
    """

    message: str | None = None
    type: str | None = None
    data: str | None = None
    stack_trace: tuple[str, ...] | None = None

    def size_bytes(self) -> int:
        """The UTF-8 bytes of the texts, which is what metering counts."""
        texts = [text for text in (self.message, self.type, self.data) if text]
        return sum(len(text.encode()) for text in (*texts, *(self.stack_trace or ())))

    def __str__(self) -> str:
        return (
            f"{self.type or 'Error'}: {self.message}" if self.message else (self.type or "an error without a message")
        )


class ServiceError(Exception):
    """The root of what the service raises; `code` is the name AWS gives the error, `message` its text.

    `hint` is the way out, for people; it is not part of the wire.
    """

    code: ClassVar[str] = "ServiceException"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidParameterValue(ServiceError):
    """A request that can't be right, whatever the state of things."""

    code = "InvalidParameterValueException"
    http_status = 400


class InvalidUpdate(InvalidParameterValue):
    """An update that the status of its operation forbids. The batch that held it is refused whole."""

    def __init__(self, message: str, *, operation_id: str | None = None) -> None:
        super().__init__(message)
        self.operation_id = operation_id


class StaleToken(InvalidParameterValue):
    """The checkpoint token has been spent, or a newer invocation has taken the execution over.

    The text is the one that official SDKs compare by prefix.
    """

    def __init__(self) -> None:
        super().__init__("Invalid checkpoint token")


class ResourceNotFound(ServiceError):
    """No such execution, function or callback; or it is past its retention."""

    code = "ResourceNotFoundException"
    http_status = 404


class ResourceConflict(ServiceError):
    """The state of the thing forbids what was asked for."""

    code = "ResourceConflictException"
    http_status = 409


class PreconditionFailed(ServiceError):
    """The thing has changed since the caller read the RevisionId that was given."""

    code = "PreconditionFailedException"
    http_status = 412


class ExecutionAlreadyStarted(ServiceError):
    """The name is taken by an execution that was started with another payload."""

    code = "DurableExecutionAlreadyStartedException"
    http_status = 409

    def __init__(self, message: str, *, arn: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.arn = arn


class CallbackTimeout(ServiceError):
    """The callback is closed: completed before, timed out, or its execution has ended."""

    code = "CallbackTimeoutException"
    http_status = 400


class RequestTooLarge(ServiceError):
    """An input over its limit."""

    code = "RequestTooLargeException"
    http_status = 413


class TooManyRequests(ServiceError):
    """No capacity now; the same request may succeed later. `reason` is one of the words that the API has for it."""

    code = "TooManyRequestsException"
    http_status = 429

    def __init__(
        self,
        message: str,
        *,
        reason: str = "ConcurrentInvocationLimitExceeded",
        retry_after_s: int = 1,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.retry_after_s = retry_after_s


class InvalidRequestContent(ServiceError):
    """The input of an invocation is no JSON."""

    code = "InvalidRequestContentException"
    http_status = 400


class UnsupportedMediaType(ServiceError):
    """The input of an invocation says that it is something else than JSON."""

    code = "UnsupportedMediaTypeException"
    http_status = 415


class UnknownOperation(ServiceError):
    """No operation of the API has this method and path."""

    code = "UnknownOperationException"
    http_status = 404


class MissingAuthentication(ServiceError):
    """The request is not signed, and has to be."""

    code = "MissingAuthenticationTokenException"
    http_status = 403


class IncompleteSignature(ServiceError):
    """The request is signed in a way that can't be read."""

    code = "IncompleteSignatureException"
    http_status = 403


class UnrecognizedClient(ServiceError):
    """No such access key, or one that has been disabled."""

    code = "UnrecognizedClientException"
    http_status = 403


class InvalidSignature(ServiceError):
    """The signature is not that of this request, or its time is not now."""

    code = "InvalidSignatureException"
    http_status = 403


class ExpiredToken(ServiceError):
    """The access key, or the temporary credentials, have come to their end."""

    code = "ExpiredTokenException"
    http_status = 403


class AccessDenied(ServiceError):
    """The caller is known and may not do this."""

    code = "AccessDeniedException"
    http_status = 403


class StoreError(ServiceError):
    """The root of what goes wrong beneath the service: the store could not do what it was asked for.

    What was being written may or may not be on disk; whoever reads again sees which.
    """


class StoreFull(StoreError):
    """The disk, or the quota of the file, is full. Nothing of the commit was kept."""


class StoreReadOnly(StoreError):
    """The file, its folder or its file system can't be written."""


class StoreHeld(StoreError):
    """Another process owns the store; the text says which."""

    def __init__(self, message: str, *, holder: dict[str, Any], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class NotAStore(StoreError):
    """The file exists and is not a store of Perdure's."""


class StoreTooNew(StoreError):
    """The file was written by a newer version of Perdure."""


class StoreCorrupt(StoreError):
    """What was read is not what was written: a checksum, a gap, or the database's own check says so."""
