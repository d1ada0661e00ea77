"""Workers: they join, poll for work, say how it has ended, and leave. Messages are those of `perdure.wire.workers`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from perdure.api.app import RawRequest, RawRoute
from perdure.api.backing import Backing
from perdure.wire.api import Message
from perdure.wire.workers import MEDIA_TYPE, CallEnded, Ended, Join, Joined, Poll, encode, read

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""A result of 6 MiB, and updates that were not sent."""
_HEADERS: Final = (("Content-Type", MEDIA_TYPE),)


class Workers(Protocol):
    """Whoever gives workers their work."""

    def join(self, join: Join) -> Joined: ...

    async def poll(self, worker_id: str, poll: Poll, is_gone: Callable[[], Awaitable[None]] | None) -> bytes: ...

    def end(self, worker_id: str, request_id: str, ended: Ended) -> None: ...

    def end_call(self, worker_id: str, call_id: str, ended: CallEnded) -> None: ...

    def leave(self, worker_id: str) -> None: ...

    def listed(self) -> Sequence[msgspec.Struct]: ...


def join(backing: Backing, request: RawRequest) -> Message:
    joined = backing.workers.join(read(Join, request.body))
    return Message(encode(joined), _HEADERS, status=200)


async def poll(backing: Backing, request: RawRequest) -> Message:
    """On the loop: a poll that waits takes no thread."""
    asked = read(Poll, request.body)
    return Message(await backing.workers.poll(request.path["WorkerId"], asked, request.is_gone), _HEADERS, status=200)


def end(backing: Backing, request: RawRequest) -> Message:
    backing.workers.end(request.path["WorkerId"], request.path["RequestId"], read(Ended, request.body))
    return Message(status=204)


def end_call(backing: Backing, request: RawRequest) -> Message:
    backing.workers.end_call(request.path["WorkerId"], request.path["CallId"], read(CallEnded, request.body))
    return Message(status=204)


def leave(backing: Backing, request: RawRequest) -> Message:
    backing.workers.leave(request.path["WorkerId"])
    return Message(status=204)


def listed(backing: Backing, _request: RawRequest) -> Message:
    """In JSON: this one is for people."""
    body: dict[str, Any] = {"Workers": backing.workers.listed()}
    return Message(msgspec.json.encode(body), status=200)


def _route(method: str, path: str, handler: Any, **more: Any) -> RawRoute:
    return RawRoute(
        method=method,
        path=f"/perdure/v1/workers{path}",
        handler=handler,
        **{"action": "perdure:RunWorker", **more},
    )


ROUTES: Final = (
    _route("POST", "", join, is_audited=True),
    _route("GET", "", listed, action="perdure:ListWorkers"),
    _route("POST", "/{WorkerId}/poll", poll),
    _route("POST", "/{WorkerId}/invocations/{RequestId}", end, body_bytes_max=BODY_BYTES_MAX),
    _route("POST", "/{WorkerId}/calls/{CallId}", end_call, body_bytes_max=BODY_BYTES_MAX),
    _route("DELETE", "/{WorkerId}", leave, is_audited=True),
)
