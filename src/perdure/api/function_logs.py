"""What functions have printed, and their code: routes that AWS's API does not have."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from perdure.api.app import RawRequest, RawRoute
from perdure.api.backing import Backing
from perdure.api.executions import ready
from perdure.api.request import Stream
from perdure.model.error import InvalidParameterValue, ResourceNotFound
from perdure.model.ids import FunctionReference
from perdure.runtimes.logs import FunctionLogs, Record
from perdure.wire.api import Message
from perdure.wire.forms import API
from perdure.wire.table import Json

LIMIT: Final = 1_000
LIMIT_MAX: Final = 10_000
WAITING_MAX: Final = 10_000
"""So many lines may wait for a slow follower; then the oldest of them are left out."""


class _Wanted(msgspec.Struct, frozen=True):
    """Which lines are asked for."""

    since_ms: int | None
    request_id: str | None
    version: str | None
    limit: int

    def read(self, logs: FunctionLogs, function: str) -> list[Record]:
        return logs.read(
            function, since_ms=self.since_ms, request_id=self.request_id, version=self.version, limit=self.limit
        )

    def fits(self, record: Record) -> bool:
        return (self.request_id is None or record.request_id == self.request_id) and (
            self.version is None or record.version == self.version
        )


async def logs(backing: Backing, request: RawRequest) -> Message | Stream:
    """The newest lines of a function that fulfil all conditions, the oldest first; with Follow=true, and what comes.

    Query: Since (ISO 8601), RequestId, Version, Limit, Follow.
    """
    asked = dict(request.query)
    name = FunctionReference.parse(request.path["FunctionName"]).name
    await asyncio.to_thread(backing.registry.function, name)
    wanted = _Wanted(
        since_ms=_moment(asked.get("Since")),
        request_id=asked.get("RequestId"),
        version=asked.get("Version"),
        limit=_limit(asked.get("Limit")),
    )
    if asked.get("Follow") != "true":
        found = await asyncio.to_thread(wanted.read, backing.logs, name)
        return ready({"Records": [written(record) for record in found]})
    return Stream(_followed(backing, name, wanted), "application/x-ndjson")


async def _followed(backing: Backing, name: str, wanted: _Wanted) -> AsyncIterator[bytes]:
    """A JSON object a line: what there is, then what comes, until the client goes away."""
    loop = asyncio.get_running_loop()
    come: asyncio.Queue[Sequence[Record]] = asyncio.Queue(WAITING_MAX)

    def put(records: Sequence[Record]) -> None:
        if come.full():
            come.get_nowait()
        come.put_nowait(records)

    def come_in(records: Sequence[Record]) -> None:
        loop.call_soon_threadsafe(put, records)

    logs = backing.logs
    found, leave = await asyncio.to_thread(logs.read_and_follow, name, come_in, lambda: wanted.read(logs, name))
    try:
        yield _lines(found)
        while True:
            yield _lines([record for record in await come.get() if wanted.fits(record)])
    finally:
        leave()


def written(record: Record) -> Json:
    """A line as it is shown outside."""
    line: Json = {
        "Timestamp": API.times.write(record.at_ms),
        "Message": record.text,
        "Version": record.version,
        "Sandbox": record.sandbox,
        "RequestId": record.request_id,
        "Level": record.level,
        "IsPlatform": record.is_platform or None,
    }
    return {name: value for name, value in line.items() if value is not None}


def _lines(records: Sequence[Record]) -> bytes:
    return b"".join(msgspec.json.encode(written(record)) + b"\n" for record in records)


def _moment(text: str | None) -> int | None:
    return API.times.read(text, "Since") if text else None


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MAX:
        raise InvalidParameterValue(f"Limit must be from 1 to {LIMIT_MAX}, not {text[:40]!r}")
    return int(text[:9])


def code(backing: Backing, request: RawRequest) -> Message:
    """The deployment package of a version: what GetFunction's Code.Location points at."""
    version = backing.registry.get(request.path["FunctionName"], request.path["Version"])
    if version.code_key is None:
        raise ResourceNotFound(f"{version.target} has no deployment package")
    return Message(backing.registry.code(version.code_key), (("Content-Type", "application/zip"),), status=200)


ROUTES: Final = (
    RawRoute(
        method="GET", path="/perdure/v1/functions/{FunctionName}/logs", handler=logs, action="perdure:GetFunctionLogs"
    ),
    RawRoute(method="GET", path="/perdure/code/{FunctionName}/{Version}", handler=code, action="lambda:GetFunction"),
)
