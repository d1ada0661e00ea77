"""Callbacks: completed, failed or kept alive by whoever has their id.

Source: Lambda API 2025-12-01.
"""

from typing import Final

from perdure.api.backing import Backing
from perdure.api.request import Handler, Request
from perdure.wire.api import Message
from perdure.wire.forms import API
from perdure.wire.operations import ERROR


def succeed(backing: Backing, request: Request) -> Message:
    backing.service.succeed_callback(request.parameters["CallbackId"], request.parameters.get("Result"))
    return Message(status=200)


def fail(backing: Backing, request: Request) -> Message:
    error = ERROR.read(request.parameters.get("Error") or {}, API, "Error")
    backing.service.fail_callback(request.parameters["CallbackId"], error)
    return Message(status=200)


def heartbeat(backing: Backing, request: Request) -> Message:
    backing.service.heartbeat_callback(request.parameters["CallbackId"])
    return Message(status=200)


OPERATIONS: Final[dict[str, Handler]] = {
    "SendDurableExecutionCallbackSuccess": succeed,
    "SendDurableExecutionCallbackFailure": fail,
    "SendDurableExecutionCallbackHeartbeat": heartbeat,
}
