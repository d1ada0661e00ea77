"""What passes between the service and the workers."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from perdure.engine.commands import Token
from perdure.model.error import ErrorObject
from perdure.model.operation import Operation


class Invocation(msgspec.Struct, frozen=True):
    """The right to move one execution on, and what its handler has to know.

    `operations` are what a replay needs, in the order in which they started, without the EXECUTION operation.
    `timeout_s` is what its handler is told of how long it may take.
    """

    execution_id: str
    arn: str
    name: str
    function: str
    version: str
    epoch: int
    request_id: str
    token: Token
    input: str | None
    start_ms: int
    execution_start_ms: int
    operations: Sequence[Operation]
    updated_ids: tuple[str, ...] = ()
    tenant_id: str | None = None
    trace_header: str | None = None
    timeout_s: int = 900


class Call(msgspec.Struct, frozen=True):
    """A function that is not durable is called for a chained invoke; `answer` takes its result, JSON text, or error."""

    function: str
    version: str
    input: str | None
    answer: Callable[[str | None, ErrorObject | None], None]


class Checkpointed(msgspec.Struct, frozen=True):
    """A checkpoint's answer: the next token, None if there is none, and what the handler has not seen yet."""

    token: Token | None
    operations: Sequence[Operation]


class Dispatcher(Protocol):
    """The workers of a process, as the service sees them: places, and work to put into them.

    A place is for a target, `function:version`.
    """

    def reserve(self, target: str) -> bool:
        """Take a place for an invocation of this target; False if there is none free, or nobody to run it."""
        ...

    @property
    def has_backlog(self) -> bool:
        """Whether invocations wait for a thread."""
        ...

    def release(self, target: str) -> None:
        """Give back a place that is not needed, or not needed any more."""
        ...

    def run(self, invocation: Invocation) -> None:
        """Run the handler in the place that was reserved."""
        ...

    def call(self, call: Call) -> None:
        """Call a function that is not durable, when there is a thread for it."""
        ...
