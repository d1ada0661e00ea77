"""What may be asked of every durable test beside what it says: that its code can go on with histories that are kept."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.execution import definition_of

if TYPE_CHECKING:
    from perdure.testing.histories import History

_replayed: set[tuple[int, Path]] = set()


def check_histories(handler: Callable[..., Any], folder: Path) -> None:
    """Replay the histories of a function in a folder with its code, once in a process.

    Raises IncompatibleError, which says where code and history part.
    """
    definition = definition_of(handler)
    if definition is None or (id(handler), folder) in _replayed:
        return
    _replayed.add((id(handler), folder))
    found = [history for history in _histories(folder) if history.view.function == definition.name]
    if found:
        from perdure.testing.replaying.replayer import Replayer

        Replayer(handler).replay_many(found).assert_compatible()


@lru_cache(maxsize=8)
def _histories(folder: Path) -> "Sequence[History]":
    from perdure.testing.histories import find_histories, load_history

    return [load_history(path) for path in find_histories(folder)]
