"""What a handler of an API operation is given, and what it may answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from perdure.wire.api import Message
from perdure.wire.table import Json

if TYPE_CHECKING:
    from perdure.api.backing import Backing


class Stream(msgspec.Struct, frozen=True):
    """An answer that goes on until its chunks end or the client goes away."""

    chunks: AsyncIterator[bytes]
    content_type: str


Answer: TypeAlias = Json | Message
"""An answer's members under their API names (times in milliseconds), or a message that is ready to be sent."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request of an operation, checked against the API's table.

    `parameters` are its members under their API names: blobs as bytes, times in milliseconds. `caller` is who asks, as
    the audit log names it, `function` the function whose role asks, if one does.
    """

    operation: str
    parameters: Json
    request_id: str = ""
    caller: str = "anonymous"
    function: str | None = None
    is_gone: Callable[[], Awaitable[None]] | None = None
    """Returns once the client has gone away."""
    trace_header: str | None = None
    authorize: Callable[[str, str], None] | None = None
    """Raises AccessDenied unless the caller may do an action to a resource; None if anybody may do anything."""


Handler: TypeAlias = "Callable[[Backing, Request], Answer | Awaitable[Answer]]"
"""Handlers that are `def` run in a thread, `async def` ones on the loop."""
