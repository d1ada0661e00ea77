"""A server as operators work at it, over its HTTP API."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from perdure.cli import remembered
from perdure.cli.exits import CliError, Exit
from perdure.client.client import Client, segment
from perdure.client.errors import ApiError, NotUnderstood, Unreachable
from perdure.model.error import CallbackTimeout, ErrorObject, InvalidParameterValue, ResourceNotFound
from perdure.model.event import HistoryEvent
from perdure.model.execution import ExecutionRow, ExecutionStatus
from perdure.model.ids import ExecutionArn, Home
from perdure.model.operation import Operation
from perdure.model.view import Changes, ExecutionView, OpenCallback
from perdure.wire.events import About, read_event
from perdure.wire.executions import read_execution, read_open_callback, read_summary
from perdure.wire.forms import API, IsoText
from perdure.wire.operations import ERROR, SHOWN, read_operation
from perdure.wire.table import Json

if TYPE_CHECKING:
    from perdure.store.protocol import Query

ROUTE: Final = "/perdure/v1"
EXECUTIONS: Final = f"{ROUTE}/durable-executions"
EVENTS_PAGE: Final = 200
"""An event may hold 6 MiB."""
WAIT_S_MAX: Final = 20.0
LOST_S_MAX: Final = 60.0
"""Who follows an execution outlasts a server that is begun anew."""
AGAIN_S: Final = 1.0

T = TypeVar("T")


class ServerDesk:
    """What is done here goes on the server's own record."""

    def __init__(self, client: Client) -> None:
        self.where = f"at {client.endpoint}"
        self.home = Home()
        self._client = client
        self._arns: dict[str, str] = {}

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # --- looking -------------------------------------------------------------------------------------------------

    def rows(self, query: "Query") -> Iterator[ExecutionRow]:
        after = query.after
        while True:
            asked = _asked(query, after)
            answer = self._client.request("GET", EXECUTIONS, query=asked)
            for given in answer.get("DurableExecutions") or ():
                row = self._read(read_summary, given, API)
                self._know(str(given["DurableExecutionArn"]))
                yield row
            after = answer.get("NextMarker")
            if not after:
                return

    def executions_of(self, function: str, status: ExecutionStatus, since_ms: int | None) -> Iterator[str]:
        """The ARNs of a function's executions with one status, the newest first, by AWS's own operation alone."""
        found = self._client.paginate(
            "ListDurableExecutionsByFunction",
            "DurableExecutions",
            FunctionName=function,
            Statuses=[str(status)],
            StartedAfter=since_ms,
        )
        return (str(each["DurableExecutionArn"]) for each in found)

    def last_started(self) -> str | None:
        return remembered.last(self._client.endpoint)

    def functions(self) -> Iterator[str]:
        return (str(found["FunctionName"]) for found in self._client.paginate("ListFunctions", "Functions"))

    def get(self, execution: str) -> ExecutionView:
        answer = self._client.call("GetDurableExecution", DurableExecutionArn=self._arn(execution))
        view = self._read(read_execution, answer, API)
        self._know(view.arn)
        return view

    def operations(self, execution: str) -> list[Operation]:
        path = f"{EXECUTIONS}/{segment(self._arn(execution))}/operations"
        found: list[Operation] = []
        query: list[tuple[str, str]] = []
        while True:
            answer = self._client.request("GET", path, query=query)
            for given in answer.get("Operations") or ():
                found.append(self._read(read_operation, given, API, len(found) + 1, shapes=SHOWN))
            if not answer.get("NextMarker"):
                return found
            query = [("Marker", answer["NextMarker"])]

    def events(self, execution: str, *, is_reversed: bool = False) -> Iterator[HistoryEvent]:
        arn = ExecutionArn.parse(self._arn(execution))
        about = About(arn.execution_id, arn.name, _home(arn))
        pages = self._client.paginate(
            "GetDurableExecutionHistory",
            "Events",
            DurableExecutionArn=self._arn(execution),
            ReverseOrder=is_reversed or None,
            MaxItems=EVENTS_PAGE,
        )
        return (self._read(read_event, given, about, API) for given in pages)

    def source(self, execution: str, *, is_with_data: bool = False) -> "_Told":
        return _Told(self._client, self._arn(execution), is_with_data=is_with_data)

    def open_callbacks(self, execution: str | None = None, *, limit: int = 1000) -> list[OpenCallback]:
        answer = self._client.request("GET", f"{ROUTE}/callbacks", query=[("MaxItems", str(limit))])
        found = [self._read(read_open_callback, given, API) for given in answer.get("Callbacks") or ()]
        if execution is None:
            return found
        execution_id = ExecutionArn.parse(self._arn(execution)).execution_id
        return [callback for callback in found if callback.execution_id == execution_id]

    # --- acting --------------------------------------------------------------------------------------------------

    def stop(self, execution: str, error: ErrorObject | None) -> None:
        self._client.call("StopDurableExecution", DurableExecutionArn=self._arn(execution), Error=_written(error))

    def pause(self, execution: str, reason: str | None, *, is_timeout_paused: bool) -> None:
        self._client.call(
            "PauseDurableExecution",
            DurableExecutionArn=self._arn(execution),
            Reason=reason,
            ExecutionTimeoutPaused=is_timeout_paused,
        )

    def resume(self, execution: str, reason: str | None) -> None:
        self._client.call("ResumeDurableExecution", DurableExecutionArn=self._arn(execution), Reason=reason)

    def delete(self, execution: str) -> None:
        self._client.call("DeleteDurableExecution", DurableExecutionArn=self._arn(execution))

    def succeed_callback(self, callback_id: str, result: str | None) -> None:
        payload = result.encode() if result is not None else None
        self._client.call("SendDurableExecutionCallbackSuccess", CallbackId=callback_id, Result=payload)

    def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        self._client.call("SendDurableExecutionCallbackFailure", CallbackId=callback_id, Error=_written(error))

    def heartbeat_callback(self, callback_id: str) -> None:
        try:
            self._client.call("SendDurableExecutionCallbackHeartbeat", CallbackId=callback_id)
        except ApiError as error:
            if error.code == CallbackTimeout.code:
                raise CallbackTimeout(error.message, hint=error.hint) from None
            raise

    # --- names ---------------------------------------------------------------------------------------------------

    def _know(self, arn: str) -> None:
        parts = ExecutionArn.parse(arn)
        self._arns[parts.execution_id] = arn
        self.home = _home(parts)

    def _arn(self, execution: str) -> str:
        """The ARN of an execution that is given by its id or ARN."""
        if execution.startswith("arn:"):
            return execution
        if execution not in self._arns:
            asked = [("IdPrefix", execution), ("MaxItems", "1")]
            found = self._client.request("GET", EXECUTIONS, query=asked).get("DurableExecutions")
            if not found:
                raise CliError(
                    f"Durable Execution does not exist: {execution}",
                    Exit.NOT_FOUND,
                    hint="it was never started here, or it is past its retention",
                    kind=ResourceNotFound.code,
                )
            self._know(str(found[0]["DurableExecutionArn"]))
        return self._arns[execution]

    def _read(self, reader: Callable[..., T], *arguments: Any, **more: Any) -> T:
        return read(self._client, reader, *arguments, **more)


def read(client: Client, reader: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """What `reader` makes of an answer; NotUnderstood if it can make nothing of it."""
    try:
        return reader(*arguments, **more)
    except InvalidParameterValue as error:
        raise NotUnderstood(
            f"an answer of {client.endpoint} can't be read: {error.message}",
            hint="the server may be newer than this command",
        ) from None


def _asked(query: "Query", after: str | None) -> list[tuple[str, str]]:
    """A query as the server is asked it."""
    times = IsoText()
    given: list[tuple[str, Any]] = [
        ("FunctionName", query.function),
        ("Version", query.version),
        ("DurableExecutionName", query.name),
        ("NamePrefix", query.name_prefix),
        ("IdPrefix", query.id_prefix),
        *(("Statuses", status) for status in query.statuses),
        ("WaitingOn", query.waiting_on),
        ("StartedAfter", None if query.started_from_ms is None else times.write(query.started_from_ms)),
        ("StartedBefore", None if query.started_until_ms is None else times.write(query.started_until_ms)),
        ("ReverseOrder", "true" if query.is_oldest_first else None),
        ("Marker", after),
        ("MaxItems", query.limit),
    ]
    return [(name, str(value)) for name, value in given if value is not None]


def _home(arn: ExecutionArn) -> Home:
    return Home(arn.partition, arn.region, arn.account)


def _written(error: ErrorObject | None) -> Json | None:
    return ERROR.write(error, API) if error is not None else None


class _Told:
    """The news of an execution, as the server tells them."""

    def __init__(self, client: Client, arn: str, *, is_with_data: bool) -> None:
        self._client = client
        self._is_with_data = is_with_data
        self._arn = arn
        self._numbers: dict[str, int] = {}
        self._last: Changes | None = None
        self._lost_at_s: float | None = None

    def changes(self, after: str | None, wait_s: float) -> Changes:
        try:
            found = self._asked(after, wait_s)
        except Unreachable:
            now_s = time.monotonic()
            if self._last is None or (self._lost_at_s is not None and now_s - self._lost_at_s > LOST_S_MAX):
                raise
            if self._lost_at_s is None:
                self._lost_at_s = now_s
                click.echo("the connection is lost; trying again", err=True)
            time.sleep(min(wait_s, AGAIN_S))
            return Changes(after or self._last.position, self._last.view, ())
        self._last, self._lost_at_s = found, None
        if found.position == after and found.view.end_ms is None and wait_s < 1:
            time.sleep(max(wait_s, 0))  # the server waits for whole seconds
        return found

    def _asked(self, after: str | None, wait_s: float) -> Changes:
        wait = int(min(wait_s, WAIT_S_MAX))
        query = [] if after is None else [("After", after), ("WaitSeconds", str(wait))]
        if self._is_with_data:
            query.append(("IncludeExecutionData", "true"))
        path = f"{EXECUTIONS}/{segment(self._arn)}/changes"
        answer = self._client.request("GET", path, query=query, timeout_s=wait + 30.0)
        return read(self._client, self._changes, answer)

    def _changes(self, answer: Json) -> Changes:
        view = read_execution(answer.get("Execution"), API)
        arn = ExecutionArn.parse(view.arn)
        about = About(view.execution_id, view.name, _home(arn))
        operations = tuple(
            read_operation(given, API, self._number(str(given.get("Id"))), shapes=SHOWN)
            for given in answer.get("Operations") or ()
        )
        events = tuple(read_event(given, about, API) for given in answer.get("Events") or ())
        return Changes(str(answer.get("Position")), view, operations, events, bool(answer.get("HasMore")))

    def _number(self, operation_id: str) -> int:
        """Operations are numbered in the order in which they are first told of, which is that of their start."""
        return self._numbers.setdefault(operation_id, len(self._numbers) + 1)
