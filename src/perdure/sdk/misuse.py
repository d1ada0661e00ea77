"""The guard against contexts used where they must not be.

Each thread and task knows which body is running in it. A durable call is right only on the context of the innermost
one: in a step there is none, in a child context it is the child's own. The official SDK lets other calls pass and
corrupts the execution at its next replay.
"""

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from perdure.exceptions import ContextUsageError
from perdure.model.word import Word
from perdure.sdk.scope import Scope

if TYPE_CHECKING:
    from perdure.sdk.session import Session


class Guard(Word):
    """What the guard does: raise, log a warning, or nothing."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


class Body:
    """The body of a step, a check or a submitter: no durable call is right in it.

    `is_once` says that it runs at most once per attempt.
    """

    __slots__ = ("attempt", "is_once", "kind", "name", "operation_id")

    def __init__(
        self, kind: str, name: str | None, operation_id: str = "", attempt: int = 1, *, is_once: bool = False
    ) -> None:
        self.kind = kind
        self.name = name
        self.operation_id = operation_id
        self.attempt = attempt
        self.is_once = is_once

    def __str__(self) -> str:
        return f"the body of {self.kind} '{self.name}'" if self.name else f"the body of an unnamed {self.kind}"


active: Final[ContextVar[Scope | Body | None]] = ContextVar("perdure_active", default=None)
"""What runs in this thread or task: None outside of handlers, where the guard knows nothing."""


def check(scope: Scope, call: str, name: str | None, session: "Session") -> None:
    """ContextUsageError if a durable call on the context of `scope` is not right here."""
    now: object = active.get()
    guard = session.guard
    if guard is Guard.OFF:
        return
    what = f"context.{call}({name!r})" if name else f"context.{call}(…)"
    if isinstance(now, Body):
        way_out = "a body can't contain durable operations; group them with run_in_child_context, or call them after it"
    elif now is not None and now is not scope:
        way_out = "use the context that the child's function receives"
    else:
        if scope.owner is None or scope.owner == session.driver.owner():
            return
        now = session.driver.foreigner
        way_out = (
            "the order of its operations would depend on chance; give each its own context with map, parallel, "
            "run_in_child_context or context.start"
        )
    text = f"{what} was called on {scope} inside {now}: {way_out}"
    if guard is Guard.WARN:
        logging.getLogger("perdure").warning(text)
        return
    raise ContextUsageError(text)
