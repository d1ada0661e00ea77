"""A store file as operators work on it: beside the process that runs its functions, or without one."""

import threading
from collections.abc import Iterator
from itertools import islice
from typing import Final

from perdure.cli.recording import note
from perdure.engine.tokens import callback_owner
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.event import HistoryEvent
from perdure.model.execution import ExecutionRow
from perdure.model.ids import ExecutionArn, Home, execution_key, execution_text
from perdure.model.operation import Operation
from perdure.model.view import Changes, ExecutionView, OpenCallback
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Call, Invocation
from perdure.service.ledger import not_found
from perdure.service.service import Service
from perdure.store.protocol import Query, Store

ROWS_MAX: Final = 1_000
LOOK_S: Final = 0.5
"""What another process writes is looked for as often as this."""


class _NoWorker:
    """Runs nothing: what becomes runnable waits for a process that has the functions."""

    def reserve(self, target: str) -> bool:
        return False

    has_backlog = False

    def release(self, target: str) -> None:
        raise AssertionError("no place was reserved")

    def run(self, invocation: Invocation) -> None:
        raise AssertionError("no place was reserved")

    def call(self, call: Call) -> None:
        """Leave it owed: an answer made up here would be taken for the function's own."""


class StoreDesk:
    """What is done to executions and callbacks goes on record under the name of who typed it."""

    def __init__(self, store: Store, url: str) -> None:
        self.home = Home()
        self.where = f"in {url.removeprefix('sqlite:///')}"
        self._store = store
        self._service = Service(store, LoadedFunctions({}, self.home), _NoWorker())

    def now_ms(self) -> int:
        return self._service.clock.now_ms()

    # --- looking -------------------------------------------------------------------------------------------------

    def rows(self, query: Query) -> Iterator[ExecutionRow]:
        return self._service.all_rows(query)

    def last_started(self) -> str | None:
        return None

    def functions(self) -> Iterator[str]:
        """Those that have had executions lately."""
        rows = islice(self.rows(Query(now_ms=self.now_ms(), limit=ROWS_MAX)), ROWS_MAX)
        yield from sorted({row.function for row in rows})

    def get(self, execution: str) -> ExecutionView:
        return self._service.get(_id(execution))

    def operations(self, execution: str) -> list[Operation]:
        return self._service.operations(_id(execution))

    def events(self, execution: str, *, is_reversed: bool = False) -> Iterator[HistoryEvent]:
        return self._service.all_events(_id(execution), is_reversed=is_reversed)

    def source(self, execution: str, *, is_with_data: bool = False) -> "_Looked":
        return _Looked(self._service, _id(execution))

    def open_callbacks(self, execution: str | None = None, *, limit: int = 1000) -> list[OpenCallback]:
        return self._service.open_callbacks(None if execution is None else _id(execution), limit=limit)

    # --- acting --------------------------------------------------------------------------------------------------

    def stop(self, execution: str, error: ErrorObject | None) -> None:
        self._service.stop(_id(execution), error)
        self._note("StopDurableExecution", _id(execution))

    def pause(self, execution: str, reason: str | None, *, is_timeout_paused: bool) -> None:
        self._service.pause(_id(execution), reason, is_timeout_paused=is_timeout_paused)
        self._note("PauseDurableExecution", _id(execution))

    def resume(self, execution: str, reason: str | None) -> None:
        self._service.resume(_id(execution), reason)
        self._note("ResumeDurableExecution", _id(execution))

    def delete(self, execution: str) -> None:
        arn = self._service.get(_id(execution)).arn
        self._service.delete(_id(execution))
        note(self._store, "DeleteDurableExecution", arn)

    def succeed_callback(self, callback_id: str, result: str | None) -> None:
        self._service.succeed_callback(callback_id, result)
        self._note("SendDurableExecutionCallbackSuccess", _owner(callback_id))

    def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        self._service.fail_callback(callback_id, error)
        self._note("SendDurableExecutionCallbackFailure", _owner(callback_id))

    def heartbeat_callback(self, callback_id: str) -> None:
        self._service.heartbeat_callback(callback_id)

    def _note(self, operation: str, execution_id: str) -> None:
        """On record is the execution, of a callback too: who has a callback's id may answer it."""
        note(self._store, operation, self._service.get(execution_id).arn)


def _id(execution: str) -> str:
    if not execution.startswith("arn:"):
        return execution
    execution_id = ExecutionArn.parse(execution).execution_id
    try:
        execution_key(execution_id)
    except InvalidParameterValue:
        raise not_found(execution) from None
    return execution_id


def _owner(callback_id: str) -> str:
    key = callback_owner(callback_id)
    assert key is not None, "a callback that was answered is one of ours"
    return execution_text(key)


class _Looked:
    """The news of an execution that another process runs: looked for, as nobody tells."""

    def __init__(self, service: Service, execution_id: str) -> None:
        self._service = service
        self._execution_id = execution_id

    def changes(self, after: str | None, wait_s: float) -> Changes:
        found = self._service.changes(self._execution_id, after)
        if found.position == after and found.view.end_ms is None and wait_s > 0:
            threading.Event().wait(min(wait_s, LOOK_S))
            found = self._service.changes(self._execution_id, after)
        return found
