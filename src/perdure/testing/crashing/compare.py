"""What became of a run, and how that differs from what became of another."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from perdure.model.operation import ChainedInvoke, Context, Operation
from perdure.testing.facts import Facts

Path = tuple[str | int, ...]
"""A place in what became of a run: `("result", "total")`, `("operations", ID, "result", 0)`."""

_MISSING: Final = "nothing"
_SHOWN_MAX: Final = 200
BATCHES: Final = frozenset({"Map", "Parallel"})
_ALL: Final = "ALL_COMPLETED"


class Difference(NamedTuple):
    """Where two runs differ, and in what."""

    path: Path
    expected: Any
    found: Any


class Ending(NamedTuple):
    """What became of a run."""

    status: str
    result: Any
    error: Any
    operations: Mapping[str, Mapping[str, Any]]
    loose: Collection[str]
    effects: list[Any] | None

    @property
    def interrupted(self) -> list[str]:
        """The names of the steps that failed because they run at most once, and were cut off."""
        return [
            str(each["name"] or key)
            for key, each in self.operations.items()
            if each["error"] is not None and each["error"].endswith("StepInterruptedError")
        ]


def ending_of(facts: Facts, effects: list[Any] | None) -> Ending:
    """What is compared of a run."""
    error = facts.error
    return Ending(
        str(facts.status),
        _value(facts.result),
        None if error is None else {"type": error.type, "message": error.message},
        {each.id: _fields(each) for each in facts.operations},
        _loose(facts.operations),
        effects,
    )


def _loose(operations: Sequence[Operation]) -> set[str]:
    """Contexts that were over before all that is in them was: what is in them ended, or did not, as it happened."""
    ended = {each.id for each in operations if isinstance(each, Context) and each.is_terminal}
    open_ones = {each.parent_id for each in operations if each.parent_id in ended and not each.is_terminal}
    early = {
        each.id
        for each in operations
        if each.sub_type in BATCHES and each.result is not None and _ALL not in each.result
    }
    return early | {each for each in open_ones if each is not None}


def _visible(ending: Ending, loose: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The operations that are not within a loose context, and of loose ones what does not depend on that."""
    if not loose:
        return dict(ending.operations)
    visible: dict[str, Mapping[str, Any]] = {}
    for key, fields in ending.operations.items():
        if not any(each in loose for each in _outer(fields["parent"], ending.operations)):
            visible[key] = {**fields, "result": None} if key in loose else fields
    return visible


def _outer(key: str | None, operations: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    while key is not None:
        yield key
        key = operations[key]["parent"] if key in operations else None


def _fields(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": str(operation.type),
        "sub_type": operation.sub_type,
        "name": operation.name,
        "parent": operation.parent_id,
        "status": str(operation.status),
    }
    found["result"] = _value(operation.result)
    found["error"] = None if operation.error is None else operation.error.type
    if isinstance(operation, ChainedInvoke):
        found["input"] = _value(operation.input)
    return found


def _value(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def differences(expected: Ending, found: Ending) -> list[Difference]:
    """Where the second differs from the first; effects aside."""
    loose = {*expected.loose, *found.loose}
    one, other = (
        {"status": each.status, "result": each.result, "error": each.error, "operations": _visible(each, loose)}
        for each in (expected, found)
    )
    return list(_differences(one, other, ()))


def _differences(expected: Any, found: Any, path: Path) -> Iterator[Difference]:
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in [*expected, *(key for key in found if key not in expected)]:
            yield from _differences(expected.get(key, _MISSING), found.get(key, _MISSING), (*path, key))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differences(one, other, (*path, index))
    elif expected != found:
        yield Difference(path, expected, found)


def beyond(found: Sequence[Difference], volatile: Collection[Path]) -> list[Difference]:
    """The differences in what two runs without a crash agree on."""
    return [each for each in found if not any(each.path[: len(path)] == path for path in volatile)]


def may_vary(difference: Difference) -> bool:
    """Whether it is a value that a body may find differently each time. What the code asks for may not vary."""
    path = difference.path
    return path[0] == "result" or (path[0] == "operations" and len(path) > 2 and path[2] in ("result", "input"))


def in_words(difference: Difference, expected: Ending) -> str:
    """`the result is 0 instead of 1`."""
    path = difference.path
    if path[0] == "operations":
        known = expected.operations.get(str(path[1]))
        name = (known["name"] if known is not None else None) or path[1]
        if len(path) == 2:
            if difference.found == _MISSING:
                return f"operation '{name}' is missing"
            return f"there is one operation more: {difference.found['type']} '{difference.found['name'] or path[1]}'"
        what = f"the {path[2]} of operation '{name}'{_within(path[3:])}"
    else:
        what = f"the {path[0]}{_within(path[1:])}"
    return f"{what} is {_shown(difference.found)} instead of {_shown(difference.expected)}"


def _within(path: Path) -> str:
    return "".join(f"[{part!r}]" for part in path)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


def effect_differences(
    expected: list[Any] | None, found: list[Any] | None, *, is_steady: bool, is_more: bool = False
) -> list[str]:
    """What was done more often than without a crash; unless only that counts (`is_more`), also what was done less often
    and what was not done at all.

    If effects vary anyhow, only their kinds are counted.
    """
    if expected is None or found is None or (is_more and not is_steady):
        return []
    one, other = ([_kind(each, is_steady=is_steady) for each in given] for given in (expected, found))
    texts: list[str] = []
    for kind in dict.fromkeys([*one, *other]):
        before, after = one.count(kind), other.count(kind)
        if before != after and not (is_more and (after < before or not before)):
            texts.append(f"{kind} was done {_times(after)} instead of {_times(before)}")
    return texts


def _kind(effect: Any, *, is_steady: bool) -> str:
    if is_steady:
        return repr(effect)
    name = getattr(effect, "name", None)
    if isinstance(name, str):
        return name
    if isinstance(effect, (tuple, list)) and effect and isinstance(effect[0], str):
        return effect[0]
    return type(effect).__name__


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
