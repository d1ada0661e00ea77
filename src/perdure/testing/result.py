"""What a test gets of an execution: how it ended, all that it did, and ways to find and assert things in it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, Final, Self

from perdure.exceptions import ExecutionStopped, ExecutionTimedOut
from perdure.lambda_service import InvocationStatus
from perdure.model.execution import ExecutionStatus
from perdure.testing.assertions import Assertions
from perdure.testing.exceptions import RecordedError, recorded
from perdure.testing.facts import Facts, InvocationRecord
from perdure.testing.metering import Metering, metered_execution
from perdure.testing.operations import CallbackOperation, Operation, StepOperation, WaitOperation
from perdure.testing.search import Search
from perdure.testing.trace import Trace
from perdure.testing.tree import DEFAULT_COLUMNS, headline, table, tree
from perdure.testing.values import result_of
from perdure.wire.forms import from_ms

if TYPE_CHECKING:
    import logging
    import os

    from perdure.testing.model import Event

_STATUSES: Final = {
    ExecutionStatus.SUCCEEDED: InvocationStatus.SUCCEEDED,
    ExecutionStatus.RUNNING: InvocationStatus.PENDING,
    ExecutionStatus.PAUSING: InvocationStatus.PENDING,
    ExecutionStatus.PAUSED: InvocationStatus.PENDING,
}


@dataclass(frozen=True)
class Invocation:
    """One invocation of the handler. See `InvocationRecord` for `status`; times are modelled."""

    number: int
    request_id: str
    start: datetime
    end: datetime | None
    status: str
    replayed_operations: int
    new_operations: int
    error: RecordedError | None

    @classmethod
    def of(cls, record: InvocationRecord) -> Self:
        return cls(
            record.number,
            record.request_id,
            from_ms(record.start_ms),
            None if record.end_ms is None else from_ms(record.end_ms),
            record.status,
            record.replayed_operations,
            record.new_operations,
            recorded(record.error),
        )

    def __str__(self) -> str:
        error = f": {self.error}" if self.error is not None else ""
        return f"{self.number} {self.status}, {self.replayed_operations} replayed, {self.new_operations} new{error}"


class Result(Search, Assertions):
    """An execution as a test sees it. Times are modelled, in UTC.

    `status` is SUCCEEDED, FAILED, or PENDING while it has no end; `execution_status` also says STOPPED, TIMED_OUT,
    RUNNING, PAUSED.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.trace = Trace(facts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {headline(self.facts)}>"

    # --- how it ended --------------------------------------------------------------------------------------------

    @property
    def status(self) -> InvocationStatus:
        return _STATUSES.get(self.facts.status, InvocationStatus.FAILED)

    @property
    def execution_status(self) -> ExecutionStatus:
        return self.facts.status

    @property
    def value(self) -> Any:
        """What the handler returned, as a Python value: read with its own serdes if it has one, else from JSON.

        None if it has not returned, or returned None.
        """
        return result_of(self.facts)

    @property
    def result(self) -> Any:
        """The same as `value`."""
        return self.value

    @property
    def raw_result(self) -> str | None:
        """The result as it is recorded."""
        return self.facts.result

    @property
    def raw_input(self) -> str | None:
        """The input as it is recorded."""
        return self.facts.input

    @property
    def error(self) -> RecordedError | None:
        """What it failed with, or was stopped with."""
        return recorded(self.facts.error)

    def raise_if_failed(self) -> Self:
        """Raise what the handler raised, of its own class where that can be made again; see `RecordedError.exception`.

        Raises ExecutionTimedOut and ExecutionStopped for executions that ended so.
        """
        error, facts = self.error, self.facts
        ended = {ExecutionStatus.TIMED_OUT: ExecutionTimedOut, ExecutionStatus.STOPPED: ExecutionStopped}
        if facts.status in ended:
            given = error or RecordedError(None, None, None, None)
            kind = ended[facts.status]
            raise kind(
                given.message, given.type, given.data, given.stack_trace, arn=facts.arn, status=str(facts.status)
            )
        if facts.status is ExecutionStatus.FAILED and error is not None:
            raise error.exception()
        return self

    # --- what it is ----------------------------------------------------------------------------------------------

    @property
    def arn(self) -> str:
        return self.facts.arn

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def start_timestamp(self) -> datetime:
        return from_ms(self.facts.start_ms)

    @property
    def end_timestamp(self) -> datetime | None:
        return None if self.facts.end_ms is None else from_ms(self.facts.end_ms)

    @property
    def duration(self) -> timedelta:
        """The modelled time from its start to its end; while it has none, to the last thing that is known of it."""
        end_ms = self.facts.end_ms
        if end_ms is None:
            end_ms = max([self.facts.start_ms, *(shown.event.at_ms for shown in self.facts.events)])
        return timedelta(milliseconds=end_ms - self.facts.start_ms)

    @property
    def wall_time(self) -> timedelta:
        """What the test has waited for it, in real time."""
        return timedelta(seconds=self.facts.wall_s)

    # --- what it did ---------------------------------------------------------------------------------------------

    @property
    def operations(self) -> list[Operation]:
        """The operations at the top, in the order of the code."""
        return self.trace.roots

    @property
    def all_operations(self) -> list[Operation]:
        """All operations in document order: a parent before what is within it."""
        return list(self.trace.walk())

    def get_all_operations(self) -> list[Operation]:
        """All operations, as officially ordered: the last at the top first, a parent before its last child."""
        found, open_ones = [], list(self.operations)
        while open_ones:
            operation = open_ones.pop()
            found.append(operation)
            open_ones.extend(operation.children)
        return found

    @property
    def history(self) -> "list[Event]":
        """The events, in the order in which they happened, with their payloads."""
        return self.trace.history

    @property
    def invocations(self) -> list[Invocation]:
        """The invocations of the handler, in order."""
        return [Invocation.of(record) for record in self.facts.invocations]

    @property
    def logs(self) -> "Sequence[logging.LogRecord]":
        """What was logged by the SDK's loggers while the execution ran here."""
        return self.facts.logs

    @property
    def metering(self) -> Metering:
        """The operations and bytes that it counts for, and their estimated cost."""
        return metered_execution(self.trace)

    @property
    def steps(self) -> list[StepOperation]:
        """All steps and conditions, at any depth, in document order."""
        return [found for found in self.trace.walk() if isinstance(found, StepOperation)]

    @property
    def waits(self) -> list[WaitOperation]:
        return [found for found in self.trace.walk() if isinstance(found, WaitOperation)]

    @property
    def callbacks(self) -> list[CallbackOperation]:
        return [found for found in self.trace.walk() if isinstance(found, CallbackOperation)]

    def _roots(self) -> list[Operation]:
        return self.trace.roots

    # --- as text -------------------------------------------------------------------------------------------------

    def tree(self, *, now_ms: int | None = None) -> str:
        """The operations as a tree, with values, errors, timers that are due, and ids of open callbacks."""
        return tree(self.trace, now_ms=now_ms)

    def print(self, columns: Sequence[str] = DEFAULT_COLUMNS, *, file: "IO[str] | None" = None) -> None:
        """Print a table of all operations. ValueError names the columns there are."""
        text = f"{headline(self.facts)}\n{table(self.all_operations, columns)}"
        print(text, file=file or sys.stdout)

    def to_json(self) -> str:
        """The execution and its history as a JSON document, as `save` writes it."""
        from perdure.testing.saved import write

        return write(self.facts)

    @classmethod
    def from_json(cls, document: "str | bytes | Mapping[str, Any]") -> Self:
        """The result that `to_json` has written, or that AWS's tools print of GetDurableExecutionHistory.

        Raises DurableFunctionsTestError, which says what is missing or can't be.
        """
        from perdure.testing.saved import read

        return cls(read(document))

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the history for the replayer; by custom its name ends in `.history.json`."""
        from pathlib import Path

        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: "str | os.PathLike[str]") -> Self:
        """Read what `save` wrote."""
        from pathlib import Path

        return cls.from_json(Path(path).read_text("utf-8"))


class DurableFunctionTestResult(Result):
    """The same under its official name: `result` is the recorded text, as officially; `value` is the value."""

    @property
    def result(self) -> str | None:
        return self.facts.result
