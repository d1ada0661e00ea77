"""From a stored execution to a test that reproduces it: with mocks in the place of bodies, and its end asserted."""

import json
import keyword
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.exceptions import SerDesError
from perdure.model import event as ev
from perdure.model.error import ErrorObject, ResourceConflict
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Callback, ChainedInvoke, Operation, OperationStatus, OperationType
from perdure.serdes import decode
from perdure.testing.histories import MARKERS, History, facts_of
from perdure.testing.operations import Operation as Shown
from perdure.testing.paths import escape
from perdure.testing.result import Result

WIDTH: Final = 112
_PLAIN: Final = frozenset({type(None), bool, int, str})
_FROM: Final[dict[type, str]] = {
    datetime: "import datetime",
    date: "import datetime",
    time: "import datetime",
    timedelta: "import datetime",
    Decimal: "from decimal import Decimal",
    UUID: "from uuid import UUID",
}
_REPRODUCED: Final = (ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED)
_KIT: Final = "perdure.testing"


def write_test(history: History, module: str, attribute: str) -> str:
    """The text of a pytest file that runs `module.attribute` as the history says that it ran, and asserts its end.

    Raises ResourceConflict if the execution has not ended by itself.
    """
    view = history.view
    if view.status not in _REPRODUCED:
        raise ResourceConflict(
            f"{history.label} is {view.status}: a test can be made of executions that SUCCEEDED or FAILED",
            hint="`perdure execution export` writes what there is, for replays",
        )
    return _Writer(history, module, attribute).text()


class _Writer:
    """Writes one test, and remembers what it has to import."""

    def __init__(self, history: History, module: str, attribute: str) -> None:
        self._history = history
        self._module = module
        self._attribute = attribute
        self._result = Result(facts_of(history))
        self._operations: dict[str, Operation] = {each.id: each for each in self._result.facts.operations}
        self._paths = _paths(list(self._operations.values()))
        self._imports: dict[str, set[str]] = {_KIT: {"LocalRunner"}, module: {attribute}}
        self._plain_imports: set[str] = {"import datetime"}

    def text(self) -> str:
        view = self._history.view
        body = [
            *self._mocks(),
            *self._targets(),
            f"execution = runner.start({', '.join(self._start())})",
            *self._answers(),
            "result = execution.result()",
        ]
        head = f"began = {datetime.fromtimestamp(view.start_ms / 1000, UTC)!r}"
        runs = f"with LocalRunner({self._attribute}, start_time=began) as runner:"
        lines = [head, runs, *(f"    {line}" for line in body), *self._end(), *self._sequence()]
        name = _identifier(f"test_{view.function}_{view.name}")
        about = f"Reproduces {self._history.label}, which {view.status}. Written by `perdure execution to-test`."
        return "\n".join(
            [
                f'"""{about}"""',
                "",
                *self._import_lines(),
                "",
                "",
                f"def {name}() -> None:",
                *(f"    {line}" for line in lines),
                "",
            ]
        )

    # --- before it begins ----------------------------------------------------------------------------------------

    def _mocks(self) -> Iterator[str]:
        """For every step a mock that gives what its attempts came to, one after the other."""
        outcomes: dict[str, list[str]] = {}
        for shown in self._history.events:
            event = shown.event
            if isinstance(event, ev.StepSucceeded):
                outcomes.setdefault(event.operation_id, []).append(self._value(event.result))
            elif isinstance(event, ev.StepFailed):
                outcomes.setdefault(event.operation_id, []).append(self._error(event.error))
        for operation in self._operations.values():
            if operation.type is OperationType.STEP and operation.sub_type not in MARKERS:
                made = outcomes.get(operation.id, ["None"])
                is_one = len(made) == 1 and operation.status is OperationStatus.SUCCEEDED
                given = f"returns={made[0]}" if is_one else f"side_effect=[{', '.join(made)}]"
                line = f"runner.mock_operation({self._paths[operation.id]!r}, {given})"
                if len(line) <= WIDTH:
                    yield line
                    continue
                yield "runner.mock_operation("
                yield f"    {self._paths[operation.id]!r},"
                yield from (f"    {part}" for part in ([f"{given},"] if is_one else _listed("side_effect=", made)))
                yield ")"

    def _targets(self) -> Iterator[str]:
        """For every function that was invoked what it came to."""
        invokes: dict[str, list[ChainedInvoke]] = {}
        for operation in self._operations.values():
            if isinstance(operation, ChainedInvoke):
                invokes.setdefault(operation.function, []).append(operation)
        for number, (function, calls) in enumerate(invokes.items()):
            target = f"runner.invoke_target({function!r})"
            outcomes = [self._outcome(call) for call in calls]
            if len(set(outcomes)) == 1:
                yield f"{target}.{outcomes[0]}"
            elif all(call.status is OperationStatus.SUCCEEDED for call in calls):
                values = ", ".join(self._json(call.result) for call in calls)
                yield f"answers_{number} = iter([{values}])"
                yield f"{target}.returns(lambda _event: next(answers_{number}))"
            else:
                yield f"# {function} came to different ends, of which this is the first: {', '.join(outcomes)}"
                yield f"{target}.{outcomes[0]}"

    def _outcome(self, call: ChainedInvoke) -> str:
        error = call.error or ErrorObject()
        match call.status:
            case OperationStatus.SUCCEEDED:
                return f"returns({self._json(call.result)})"
            case OperationStatus.TIMED_OUT:
                return "times_out()"
            case OperationStatus.STOPPED:
                return f"stops({error.message!r})"
        data = f", data={error.data!r}" if error.data is not None else ""
        return f"fails({error.message or ''!r}, type={error.type!r}{data})"

    def _start(self) -> Iterator[str]:
        view = self._history.view
        if view.input is not None:
            yield self._json(view.input)
        if view.name != view.execution_id:
            yield f"name={view.name!r}"

    # --- while it runs -------------------------------------------------------------------------------------------

    def _answers(self) -> Iterator[str]:
        """The answers that callbacks got, in their order; those without one time out by themselves."""
        numbers = self._numbered_callbacks()
        for shown in self._history.events:
            event = shown.event
            if isinstance(event, ev.CallbackSucceeded):
                given = "" if event.result is None else repr(event.result)
                yield f"execution.callback({numbers[event.operation_id]}).succeed({given})"
            elif isinstance(event, ev.CallbackFailed):
                error = event.error or ErrorObject()
                given = ", ".join(f"{value!r}" for value in (error.type, error.message, error.data))
                yield f"execution.callback({numbers[event.operation_id]}).fail({given})"

    def _numbered_callbacks(self) -> Mapping[str, str]:
        """How a test names each callback: by its name, and which of those with that name it is."""
        seen: Counter[str | None] = Counter()
        found: dict[str, str] = {}
        for operation in self._operations.values():
            if isinstance(operation, Callback):
                parent = self._operations.get(operation.parent_id or "")
                is_waited_for = parent is not None and parent.sub_type == "WaitForCallback"
                name = parent.name if is_waited_for and parent is not None and parent.name else operation.name
                at = seen[name]
                seen[name] += 1
                found[operation.id] = f"{name!r}, {at}" if at else repr(name)
        return found

    # --- after its end -------------------------------------------------------------------------------------------

    def _end(self) -> Iterator[str]:
        view = self._history.view
        if view.status is ExecutionStatus.FAILED:
            error = view.error or ErrorObject()
            yield "result.assert_failed()"
            yield f"assert (result.error.type, result.error.message) == ({error.type!r}, {error.message!r})"
        elif _is_json(view.result):
            yield "result.assert_succeeded()"
            yield f"assert result.result == {self._json(view.result)}"
        else:
            yield "result.assert_succeeded()"
            yield f"assert result.raw_result == {view.result!r}"

    def _sequence(self) -> Iterator[str]:
        """The operations, and what is within them."""
        lines = list(_outline(self._result.operations))
        if len(lines) == 1 or sum(map(len, lines)) < WIDTH - 30:
            yield f"result.assert_operations([{' '.join(line.strip() for line in lines).rstrip(',')}])"
            return
        yield "result.assert_operations("
        yield "    ["
        yield from (f"        {line}" for line in lines)
        yield "    ]"
        yield ")"

    # --- values --------------------------------------------------------------------------------------------------

    def _value(self, payload: str | None) -> str:
        """An expression for the value of a step's payload."""
        if payload is None:
            return "None"
        try:
            value = decode(payload)
        except SerDesError:
            if payload.startswith('{"t":"'):
                return self._kit("recorded_value", repr(payload))
            return self._json(payload) if _is_json(payload) else repr(payload)
        return self._literal(value) or self._kit("recorded_value", repr(payload))

    def _json(self, payload: str | None) -> str:
        """The same for a payload of plain JSON."""
        return repr(msgspec.json.decode(payload)) if payload and payload.strip() else "None"

    def _literal(self, value: Any) -> str | None:
        """The value as Python writes it; None if that does not make it again."""
        needed: set[str] = set()
        if not _is_written(value, needed):
            return None
        for line in needed:
            if line.startswith("from "):
                _, module, _, name = line.split()
                self._imports.setdefault(module, set()).add(name)
        return repr(value)

    def _error(self, error: ErrorObject | None) -> str:
        found = error or ErrorObject("the step failed", "Exception")
        given = [repr(found.type or "Exception"), repr(found.message or "")]
        if found.data is not None:
            given.append(repr(found.data))
        return self._kit("recorded_error", ", ".join(given))

    def _kit(self, name: str, arguments: str) -> str:
        self._imports[_KIT].add(name)
        return f"{name}({arguments})"

    def _import_lines(self) -> Iterator[str]:
        yield from sorted(self._plain_imports)
        standard = [module for module in self._imports if module in ("decimal", "uuid")]
        yield from (f"from {module} import {', '.join(sorted(self._imports[module]))}" for module in sorted(standard))
        yield ""
        for module in sorted(set(self._imports) - set(standard)):
            yield f"from {module} import {', '.join(sorted(self._imports[module]))}"


def _paths(operations: Sequence[Operation]) -> dict[str, str]:
    """A path to each operation that means it alone."""
    names = {each.id: escape(each.name or f"({each.sub_type})") for each in operations}
    all_names = Counter(names.values())
    places: Counter[tuple[str | None, str]] = Counter()
    siblings = Counter((each.parent_id, names[each.id]) for each in operations)
    own: dict[str, str] = {}
    for each in operations:
        key = (each.parent_id, names[each.id])
        is_one = siblings[key] == 1
        own[each.id] = names[each.id] if is_one else f"{names[each.id]}[{places[key]}]"
        places[key] += 1
    paths: dict[str, str] = {}
    for each in operations:
        above = paths.get(each.parent_id or "")
        path = own[each.id] if above is None else f"{above}/{own[each.id]}"
        paths[each.id] = path
    return {each.id: f"{path}[0]" if all_names[path] > 1 else path for each in operations for path in [paths[each.id]]}


def _listed(head: str, items: Sequence[str]) -> list[str]:
    """A list as an argument: on one line if it fits."""
    one = f"{head}[{', '.join(items)}],"
    return [one] if len(one) <= WIDTH - 4 else [f"{head}[", *(f"    {item}," for item in items), "],"]


def _outline(operations: Iterable[Shown]) -> Iterator[str]:
    for operation in operations:
        yield f"{operation.display_name!r},"
        within = list(_outline(operation.children))
        if within:
            yield "["
            yield from (f"    {line}" for line in within)
            yield "],"


def _is_json(payload: str | None) -> bool:
    try:
        json.loads(payload or "null")
    except ValueError:
        return False
    return True


def _is_written(value: Any, needed: set[str]) -> bool:
    """Whether Python's way to write a value makes the same value again; `needed` are the imports for that."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is float:
        return isfinite(value)
    if kind in _FROM:
        needed.add(_FROM[kind])
        return not isinstance(value, datetime) or value.tzinfo in (None, UTC)
    if kind in (list, tuple, set):
        return all(_is_written(item, needed) for item in value)
    if kind is dict:
        return all(_is_written(item, needed) for pair in value.items() for item in pair)
    return False


def _identifier(text: str) -> str:
    found = re.sub(r"\W+", "_", text).strip("_").lower()
    return f"{found}_" if keyword.iskeyword(found) else found
