"""An invocation with plugins: its journal and its driver tell the observer, and it tells of its begin and its end."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from perdure.model.operation import Operation, OperationStatus, OperationType
from perdure.plugin import InvocationEndInfo, InvocationStartInfo, InvocationStatus, OperationInfo
from perdure.sdk.drivers.observed import ObservedDriver
from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.errors import error_object
from perdure.sdk.infos import Operations, as_object, facts_of_record, info, moment
from perdure.sdk.journal import Journal, Place
from perdure.sdk.observer import FATAL, HOOKS, Observer, log
from perdure.sdk.scope import Scope

if TYPE_CHECKING:
    from types import TracebackType

    from perdure.sdk.invocation import Definition, InvocationAnswer, InvocationInput
    from perdure.sdk.plugins import Watch


class ObservedJournal(Journal):
    """A journal that tells of what is looked up in it, and of what comes in."""

    def __init__(self, journal: Journal, observer: Observer) -> None:
        super().__init__(journal.execution, ())
        self.records = journal.records
        self._observer = observer

    def begin_at(self, place: str, scope: Scope, kind: OperationType, sub_type: str, name: str | None) -> Place:
        found = super().begin_at(place, scope, kind, sub_type, name)
        if found[1] is not None:
            self._observer.met(found[1])
        return found

    def merge(self, records: Iterable[Operation], on_their_way: Collection[str] = ()) -> None:
        changed = [record for record in records if record.id not in on_their_way]
        for record in changed:
            before = self.records.get(record.id)
            if record.is_terminal and (before is None or not before.is_terminal):
                self._observer.ended_elsewhere(record)
        super().merge(changed)
        self._observer.changed(changed)


_STATUS: Final = {
    "SUCCEEDED": InvocationStatus.SUCCEEDED,
    "FAILED": InvocationStatus.FAILED,
    "PENDING": InvocationStatus.PENDING,
}


class Watched:
    """An invocation with plugins: tells of its begin and of its end."""

    def __init__(self, definition: "Definition", given: "InvocationInput", lambda_context: object) -> None:
        self._definition = definition
        self._given = given
        self._request_id = getattr(lambda_context, "aws_request_id", None)
        self._journal = Journal(given.execution_name, given.operations)
        self._operations = Operations(self._execution(), self._journal.records)
        self._is_ended = False
        self._observer: Observer | None = None

    @property
    def observer(self) -> Observer | None:
        return self._observer

    def journal(self) -> Journal:
        return self._journal

    def around(self, driver: Driver) -> Driver:
        observer = self._observer
        return driver if observer is None or not observer.watches_operations else ObservedDriver(driver, observer)

    def __enter__(self) -> "Watch":
        start = self._start()
        observer = Observer(self._plugins(start), self._given.arn, self._journal, self._operations)
        self._observer = observer
        if observer.watches_records:
            self._journal = ObservedJournal(self._journal, observer)
        for operation_id in self._given.updated_ids:
            record = self._journal.records.get(operation_id)
            if record is not None and record.is_terminal:
                observer.ended_elsewhere(record)
        try:
            observer.started(start)
        except BaseException as error:
            self._end(InvocationStatus.RETRY, error=as_object(error_object(error)))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if error is not None and not self._is_ended:
            self._end(InvocationStatus.RETRY, error=as_object(error_object(error)))

    def ended(self, answer: "InvocationAnswer") -> "InvocationAnswer":
        observer = self._observer
        if observer is not None and answer.updates:
            records = self._journal.records
            for update in answer.updates:  # recorded together with the answer
                if update.id not in records:
                    self._journal.expect(update)
            observer.changed([records[update.id] for update in answer.updates if update.id in records])
        error = as_object(answer.error)
        self._end(_STATUS[answer.status], error=error, execution_result=answer.result)
        return answer

    def _end(self, status: InvocationStatus, **more: Any) -> None:
        self._is_ended = True
        observer = self._observer
        assert observer is not None
        try:
            observer.finish()
        finally:
            observer.ended(InvocationEndInfo(**self._described(), status=status, **more))

    def _plugins(self, start: InvocationStartInfo) -> list[Any]:
        """The plugins of this invocation; a factory that gives none is left out."""
        plugins: list[Any] = []
        for factory in self._definition.plugins:
            try:
                plugin = factory.create_plugin(start)
            except FATAL:
                raise
            except BaseException:  # noqa: BLE001 - whatever is wrong with a plugin stays with it
                log.exception("a plugin factory failed; this invocation goes without its plugin: %r", factory)
                continue
            if not isinstance(plugin, type) and all(callable(getattr(plugin, hook, None)) for hook in HOOKS):
                plugins.append(plugin)
            else:
                log.error("a plugin factory gave no plugin, but %r: %r", plugin, factory)
        return plugins

    def _described(self) -> dict[str, Any]:
        given = self._given
        return {
            "request_id": self._request_id,
            "execution_arn": given.arn,
            "is_first_invocation": not given.operations,
            "execution_start_time": moment(given.start_ms),
            "execution_input": self._input(),
            "operations": self._operations,
        }

    def _start(self) -> InvocationStartInfo:
        records = self._journal.records
        updated = {
            each: info(OperationInfo, facts_of_record(records[each]))
            for each in self._given.updated_ids
            if each in records
        }
        return InvocationStartInfo(**self._described(), updated_operations=updated)

    def _input(self) -> Any:
        """The input's value, made for the plugins; None if it can't be read."""
        from perdure.sdk.invocation import read_input

        try:
            return read_input(self._definition, self._given)
        except Exception:  # noqa: BLE001 - the handler is told
            return None

    def _execution(self) -> OperationInfo:
        given = self._given
        return OperationInfo(
            given.execution_id,
            OperationType.EXECUTION,
            None,
            given.execution_name,
            None,
            moment(given.start_ms),
            bool(given.operations),
            OperationStatus.STARTED,
        )
