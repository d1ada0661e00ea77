"""The news of an execution, wherever it runs: here, in another process on the same file, or at a server."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from perdure.model.view import Changes


class Source(Protocol):
    """Tells what has happened to one execution."""

    def changes(self, after: str | None, wait_s: float) -> "Changes":
        """What happened after a position; if that is nothing, wait for something, at most about `wait_s` seconds.

        Without a position, all operations and no events, at once.
        """
        ...
