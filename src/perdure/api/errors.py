"""From an error to the answer that clients know it by.

The name travels in `x-amzn-ErrorType`, the text under the member that the error's shape has.
Source: Lambda API 2015-03-31; REST-JSON protocol.
"""

from typing import Final

import msgspec

from perdure.model.error import ServiceError, TooManyRequests
from perdure.wire.api import ErrorForm, Message, lambda_api
from perdure.wire.table import Json

_UNMODELLED: Final = ErrorForm(400, "message")


def error_answer(error: ServiceError) -> Message:
    """The answer that says what went wrong. A hint, the way out, is one more member, which other clients ignore."""
    form = lambda_api().errors.get(error.code, _UNMODELLED)
    body: Json = {"Type": "User" if error.http_status < 500 else "Service", form.message: error.message}
    headers = [("x-amzn-ErrorType", error.code)]
    if isinstance(error, TooManyRequests):
        headers.append(("Retry-After", str(error.retry_after_s)))
        body["Reason"] = error.reason
    if error.hint is not None:
        body["Hint"] = error.hint
    return Message(msgspec.json.encode(body), tuple(headers), status=error.http_status)
