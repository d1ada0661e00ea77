"""What can go wrong with a request: the server refused it, could not be reached, or is none of ours."""

from collections.abc import Mapping
from typing import Any

import msgspec

THROTTLING = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded"})


class ClientError(Exception):
    """The root; `message` says what happened, `hint` the way out, if one is known."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ApiError(ClientError):
    """The server's answer was an error: its name in the API (`code`) and its HTTP status."""

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        *,
        hint: str | None = None,
        request_id: str | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    @property
    def is_refusal(self) -> bool:
        """Whether the server had no capacity and has done nothing; the same request may succeed later."""
        return self.status == 429 or self.code in THROTTLING

    @property
    def is_passing(self) -> bool:
        """Whether the fault is the server's, and may be over soon."""
        return self.status in (500, 502, 503, 504)


class Unreachable(ClientError):
    """No answer: nobody listens there, the connection broke, or the answer took too long.

    `may_have_arrived` says that the server may have done what was asked for.
    """

    def __init__(self, endpoint: str, reason: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(f"no answer from {endpoint}: {reason}")
        self.endpoint = endpoint
        self.reason = reason
        self.may_have_arrived = may_have_arrived


class TooLate(Unreachable):
    """The answer took longer than it may."""


class NotUnderstood(ClientError):
    """The answer is none of this API's: something else may listen there."""


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that an answer holds. Its name travels in a header, or in the body; header names are in lower case."""
    document = _object(body)
    code = headers.get("x-amzn-errortype") or document.get("__type") or document.get("code") or f"HTTP {status}"
    message = document.get("message") or document.get("Message") or f"HTTP status {status} without a message"
    hint = document.get("Hint")
    return ApiError(
        str(code).partition(":")[0].rpartition("#")[2],
        str(message),
        status,
        hint=str(hint) if hint is not None else None,
        request_id=headers.get("x-amzn-requestid"),
        retry_after_s=_seconds(headers.get("retry-after")),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() else 0.0
