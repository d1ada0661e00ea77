"""What a test says of an execution, in one line each; a failure shows the tree, and what differs.

Each assertion gives the result back, so that they can be said one after another.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

from perdure.exceptions import ValidationError, qualified_name
from perdure.lambda_service import OperationType
from perdure.model.execution import ExecutionStatus
from perdure.testing.tree import human

if TYPE_CHECKING:
    from perdure.testing.exceptions import RecordedError
    from perdure.testing.metering import Metering
    from perdure.testing.operations import Operation
    from perdure.testing.result import Invocation, Result

ErrorClass = type[BaseException]

Outline = Sequence["str | Outline"]
"""Names in order; a list after a name has the names within it: `["validate", "order", ["charge", "ship"]]`."""


class _Any:
    def __repr__(self) -> str:
        return "..."


ANY_RESULT: Final = _Any()


class Assertions:
    """The assertions of a result. All raise AssertionError."""

    if TYPE_CHECKING:

        @property
        def execution_status(self) -> ExecutionStatus: ...
        @property
        def error(self) -> RecordedError | None: ...
        @property
        def operations(self) -> list[Operation]: ...
        @property
        def invocations(self) -> list[Invocation]: ...
        @property
        def metering(self) -> Metering: ...
        @property
        def duration(self) -> timedelta: ...
        @property
        def value(self) -> Any: ...
        def op(self, path: str) -> Operation: ...
        def ops(self, glob: str) -> list[Operation]: ...
        def tree(self) -> str: ...

    handler: "Callable[..., Any] | None" = None
    """The function that was run, where it is known."""

    # --- how it ended --------------------------------------------------------------------------------------------

    def assert_succeeded(self, result: Any = ANY_RESULT) -> Self:
        """It SUCCEEDED; with `result`, with this value."""
        self._assert_status(ExecutionStatus.SUCCEEDED)
        if result is not ANY_RESULT:
            value = self.value
            if value != result:
                from pprint import pformat

                self._fail("the execution succeeded with another result", pformat(result), pformat(value))
        return self

    def assert_failed(
        self,
        type: "str | ErrorClass | None" = None,  # noqa: A002 - as the specification has it
        match: str | None = None,
    ) -> Self:
        """It FAILED; with an error of this type (a class, a name, or a qualified name) and a message in which the
        regular expression `match` is found.
        """
        self._assert_status(ExecutionStatus.FAILED)
        error = self.error
        if type is not None and not _is_of_type(error, type):
            wanted = type if isinstance(type, str) else qualified_name(type)
            self._fail("the execution failed with an error of another type", wanted, str(error and error.type))
        if match is not None and re.search(match, (error.message if error else None) or "") is None:
            self._fail("the execution failed with another message", f"a match of {match!r}", str(error))
        return self

    def assert_stopped(self) -> Self:
        """Somebody stopped it."""
        return self._assert_status(ExecutionStatus.STOPPED)

    def assert_timed_out(self) -> Self:
        """It took longer than its execution time-out."""
        return self._assert_status(ExecutionStatus.TIMED_OUT)

    def _assert_status(self, wanted: ExecutionStatus) -> Self:
        if self.execution_status is not wanted:
            error = self.error
            self._fail(
                f"the execution should be {wanted}, and is {self.execution_status}"
                + (f" with {error}" if error is not None else "")
                + (f"\n{_stack(error)}" if error is not None and error.stack_trace else "")
            )
        return self

    # --- what it did ---------------------------------------------------------------------------------------------

    def assert_operations(self, expected: Outline) -> Self:
        """The operations at the top are these, by name and in the order of the code; nothing more, nothing less.

        A list after a name says what is within that operation; without one, anything may be. One without a name is
        `(Wait)`, `(Step)` and so on.
        """
        wanted, found = outlines(expected, self.operations)
        if wanted != found:
            self._fail("the execution did other operations", "\n".join(wanted), "\n".join(found))
        return self

    def assert_attempts(self, path: str, n: int) -> Self:
        """The step at `path` took this many attempts, the condition this many polls."""
        operation = self.op(path)
        attempts = operation.attempts
        if len(attempts) != n:
            said = "\n".join(f"{a.number} {a.status}" + (f" {a.error}" if a.error else "") for a in attempts)
            self._fail(f"{operation.path!r} should have {n} attempts, and has {len(attempts)}:\n{said}")
        return self

    def assert_ran_once(self, path: str) -> Self:
        """Every step that `path` means succeeded in its first attempt; AssertionError as well if it means none."""
        steps = [found for found in self.ops(path) if found.operation_type is OperationType.STEP]
        if not steps:
            self._fail(f"no step is at {path!r}")
        for step in steps:
            self.assert_attempts(step.path, 1)
        return self

    # --- what it may cost ----------------------------------------------------------------------------------------

    def assert_invocations(self, n: int) -> Self:
        """The handler was invoked exactly this many times."""
        found = len(self.invocations)
        if found != n:
            said = "\n".join(map(str, self.invocations))
            self._fail(f"the execution should have {n} invocations, and has {found}:\n{said}")
        return self

    def assert_max_invocations(self, n: int) -> Self:
        return self._assert_at_most(n, len(self.invocations), "invocations")

    def assert_max_operations(self, n: int) -> Self:
        """At most this many operations, as they are counted: retries and polls are among them."""
        return self._assert_at_most(n, self.metering.operations, "operations, retries and polls included")

    def assert_deterministic(self, handler: "Callable[..., Any] | None" = None) -> Self:
        """What is recorded, replayed with another clock, other random numbers and another order of sets, is asked for.

        No body runs. Results of local runners know their handler; others need it. Raises NotDeterministic.
        """
        from perdure.testing.determinism import check_replay

        found = handler or self.handler
        if found is None:
            raise ValidationError("this result does not know its handler: assert_deterministic(handler)")
        check_replay(found, cast("Result", self))
        return self

    def assert_max_bytes(self, n: int) -> Self:
        """At most this many bytes of payloads and errors were written."""
        return self._assert_at_most(n, self.metering.written_bytes, "bytes written")

    def assert_max_cost(self, usd: float) -> Self:
        """At most this estimated cost in USD, of operations at the default price."""
        return self._assert_at_most(usd, self.metering.estimated_cost, "USD of operations")

    def assert_max_duration(self, limit: "timedelta | float") -> Self:
        """At most this much modelled time (a timedelta, or seconds) from start to end."""
        limit = limit if isinstance(limit, timedelta) else timedelta(seconds=limit)
        if self.duration > limit:
            self._fail(f"the execution should take at most {human(limit)}, and took {human(self.duration)}")
        return self

    def _assert_at_most(self, limit: float, found: float, what: str) -> Self:
        if found > limit:
            self._fail(f"the execution may have at most {limit:g} {what}, and has {found:g}")
        return self

    # --- saying what is wrong ------------------------------------------------------------------------------------

    def _fail(self, said: str, expected: str | None = None, actual: str | None = None) -> NoReturn:
        __tracebackhide__ = True
        parts = [said]
        if expected is not None and actual is not None:
            parts.append(diff(expected, actual))
        raise AssertionError("\n\n".join([*parts, self.tree()]))


def diff(expected: str, actual: str) -> str:
    """A unified diff of two texts, without the counts of lines."""
    import difflib

    lines = difflib.unified_diff(expected.splitlines(), actual.splitlines(), "expected", "actual", lineterm="", n=20)
    return "\n".join(line for line in lines if not line.startswith("@@"))


def outlines(expected: Outline, operations: "Sequence[Operation]", indent: str = "") -> tuple[list[str], list[str]]:
    """The lines that were expected and those that are there, as deep as the expectation goes."""
    wanted, found = list[str](), list[str]()
    names: list[tuple[str, Outline | None]] = []
    for item in expected:
        if isinstance(item, str):
            names.append((item, None))
        elif names and names[-1][1] is None:
            names[-1] = (names[-1][0], item)
        else:
            raise ValueError(f"the list {item!r} must come after the name of the operation that it is within")
    asked = {key: within for key, (_, within) in zip(_counted(name for name, _ in names), names, strict=True)}
    for name, within in names:
        wanted.append(indent + name)
        if within is not None:
            wanted += outlines(within, (), indent + "  ")[0]
    for key, operation in zip(_counted(each.display_name for each in operations), operations, strict=True):
        found.append(indent + operation.display_name)
        inside = asked.get(key)
        if inside is not None:
            found += outlines(inside, operation.children, indent + "  ")[1]
    return wanted, found


def _counted(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each name with how often it has come before."""
    seen = Counter[str]()
    for name in names:
        yield name, seen[name]
        seen[name] += 1


def _is_of_type(error: "RecordedError | None", wanted: "str | ErrorClass") -> bool:
    from perdure.exceptions import is_recorded_as
    from perdure.testing.exceptions import class_named

    if error is None or error.type is None:
        return False
    if isinstance(wanted, str):
        return wanted in (error.type, error.type.rpartition(".")[2])
    if is_recorded_as(error.type, wanted):
        return True
    kind = class_named(error.type)
    return kind is not None and issubclass(kind, wanted)


def _stack(error: "RecordedError") -> str:
    return "\n".join(error.stack_trace or ())
