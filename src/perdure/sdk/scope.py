"""Where in the tree of contexts the code is: the counter that ids come from, and what has become of the context."""

import itertools
from typing import Any

from perdure.exceptions import SuspendExecution


class Scope:
    """The place of one context. `prefix` makes the ids of its operations, `parent_id` is what they record as parent.

    The two differ in a virtual context, which records nothing itself; `sub_type` is what it would record. `owner` is
    the thread or task that runs the context's function; None while nobody does. `suspended` is set once the context
    can't go on in this invocation, `is_closed` once it has recorded its end. `last_id` is the operation that ended
    last, `chances` counts what was drawn by chance, `keys` are the ids that the author gave, `timeouts` are those of
    the blocks that are open, the innermost last. `beside` are the operations that were started and not waited for at
    once. `unused` are the futures made in it that nobody has asked for;
    `group` runs those that were started, in threads.
    """

    __slots__ = (
        "beside",
        "chances",
        "counter",
        "group",
        "is_closed",
        "is_replaying",
        "is_virtual",
        "keys",
        "last_id",
        "name",
        "numbers",
        "outer",
        "owner",
        "parent_id",
        "prefix",
        "settled",
        "sub_type",
        "suspended",
        "timeouts",
        "unused",
        "upcoming",
    )

    def __init__(
        self,
        prefix: str = "",
        parent_id: str | None = None,
        outer: "Scope | None" = None,
        name: str | None = None,
        *,
        is_replaying: bool,
        is_virtual: bool = False,
        sub_type: str | None = None,
    ) -> None:
        self.prefix = prefix
        self.parent_id = parent_id
        self.outer = outer
        self.name = name
        self.is_replaying = is_replaying
        self.is_virtual = is_virtual
        self.sub_type = sub_type
        self.numbers = itertools.count(1)
        self.counter = 0
        self.chances = 0
        self.keys: set[str] | None = None
        self.last_id: str | None = None
        self.beside: set[str] | None = None
        self.owner: object = None
        self.upcoming: tuple[int, str] | None = None
        self.suspended: SuspendExecution | None = None
        self.is_closed = False
        self.unused: dict[Any, None] | None = None
        self.settled = 0
        self.timeouts: tuple[Any, ...] = ()
        self.group: Any = None

    @property
    def is_orphaned(self) -> bool:
        """This context or one around it has recorded its end: nothing in it may be recorded any more."""
        scope: Scope | None = self
        while scope is not None:
            if scope.is_closed:
                return True
            scope = scope.outer
        return False

    def __str__(self) -> str:
        if self.outer is None:
            return "the handler's context"
        return f"the child context '{self.name}'" if self.name else "an unnamed child context"
