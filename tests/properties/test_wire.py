"""What goes over the wire comes back as it was, whatever the model holds."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from perdure.model import event as ev, operation as op
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.execution import DurableConfig, ExecutionRow, ExecutionStatus, ParentLink, WaitingOn
from perdure.model.ids import Home
from perdure.model.view import ExecutionView, OpenCallback, PauseView
from perdure.wire import forms
from perdure.wire.events import DETAILS, About, read_event, write_event
from perdure.wire.executions import (
    read_execution,
    read_open_callback,
    read_summary,
    write_execution,
    write_open_callback,
    write_summary,
)
from perdure.wire.operations import ERROR, OPERATIONS, SHOWN, UPDATE, read_operation, write_operation

TEXTS = st.none() | st.text(max_size=20)
TIMES = st.integers(0, 4_000_000_000_000)
ERRORS = st.builds(
    ErrorObject,
    message=TEXTS,
    type=TEXTS,
    data=TEXTS,
    stack_trace=st.none() | st.lists(st.text(max_size=9), max_size=3).map(tuple),
)
FORMS = st.sampled_from([forms.API, forms.FUNCTION, forms.PEOPLE])
COMMON: dict[str, Any] = {
    "id": st.text("abc012-_", min_size=1, max_size=64),
    "number": st.just(7),
    "status": st.sampled_from(op.OperationStatus),
    "start_ms": TIMES,
    "end_ms": st.none() | TIMES,
    "name": TEXTS,
    "sub_type": TEXTS,
    "parent_id": TEXTS,
}
OUTCOME: dict[str, Any] = {"result": TEXTS, "error": st.none() | ERRORS}
WIRED: dict[op.OperationType, st.SearchStrategy[Any]] = {
    op.OperationType.EXECUTION: st.builds(op.ExecutionOperation, **COMMON, input=TEXTS),
    op.OperationType.CONTEXT: st.builds(op.Context, **COMMON, **OUTCOME, replay_children=st.booleans()),
    op.OperationType.STEP: st.builds(
        op.Step, **COMMON, **OUTCOME, attempt=st.integers(0, 99), next_attempt_ms=st.none() | TIMES
    ),
    op.OperationType.WAIT: st.builds(op.Wait, **COMMON, scheduled_end_ms=st.none() | TIMES),
    op.OperationType.CALLBACK: st.builds(op.Callback, **COMMON, **OUTCOME, callback_id=st.text(max_size=30)),
    op.OperationType.CHAINED_INVOKE: st.builds(op.ChainedInvoke, **COMMON, **OUTCOME, function=st.just("")),
}
"""Operations as far as the wire carries them."""


def test_every_type_of_operation_has_a_shape() -> None:
    assert set(OPERATIONS) == set(op.OperationType) == set(WIRED)


def over_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


@pytest.mark.parametrize("kind", op.OperationType)
@given(data=st.data(), form=FORMS)
def test_an_operation_comes_back_as_it_was(kind: op.OperationType, data: st.DataObject, form: forms.Form) -> None:
    operation = data.draw(WIRED[kind])
    assert read_operation(over_json(write_operation(operation, form)), form, 7) == operation


@given(error=ERRORS, form=FORMS)
def test_an_error_comes_back_as_it_was(error: ErrorObject, form: forms.Form) -> None:
    assert ERROR.read(over_json(ERROR.write(error, form)), form) == error


@given(
    update=st.builds(
        op.OperationUpdate,
        id=st.text(max_size=9),
        type=st.sampled_from(op.OperationType),
        action=st.sampled_from(op.OperationAction),
        name=TEXTS,
        sub_type=TEXTS,
        parent_id=TEXTS,
        payload=TEXTS,
        error=st.none() | ERRORS,
    ),
    form=FORMS,
)
def test_an_update_comes_back_as_it_was(update: op.OperationUpdate, form: forms.Form) -> None:
    assert UPDATE.read(over_json(UPDATE.write(update, form)), form) == update


# --- what clients read -------------------------------------------------------------------------------------------

ID = "0190b2c5-7c4e-7abc-8def-0123456789ab"
CHILD = "0190b2c5-7c4e-7abc-8def-fedcba987654"
SHOWN_FORMS = st.sampled_from([forms.API, forms.PEOPLE])
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "execution_id": st.none() | st.just(CHILD),
    "target": st.none() | st.just("helper"),
    "version": st.sampled_from(["$LATEST", "3"]),
    "epoch": st.integers(0, 2**32 - 1),
    "operation_id": st.just("op-1"),
    "parent": st.none(),
    "end": st.just(ev.InvocationEnd.ANSWERED),
}


def values_of(field: msgspec.structs.FieldInfo) -> st.SearchStrategy[Any]:
    if field.name in SPECIAL:
        return SPECIAL[field.name]
    kinds = {int: TIMES, str: st.text(max_size=20), bool: st.booleans(), ErrorObject: ERRORS}
    inner = [kind for kind in kinds if kind in (field.type, *getattr(field.type, "__args__", ()))]
    found = kinds[inner[0]]
    return found if field.type is inner[0] else st.none() | found


@pytest.mark.parametrize("kind", DETAILS)
@given(data=st.data(), form=SHOWN_FORMS)
def test_an_event_comes_back_with_all_that_the_wire_has_of_it(
    kind: type[ev.Event], data: st.DataObject, form: forms.Form
) -> None:
    event = kind(**{field.encode_name: data.draw(values_of(field)) for field in msgspec.structs.fields(kind)})
    is_of_operation = isinstance(event, ev.OperationEvent)
    named = {name: data.draw(TEXTS) for name in ("name", "sub_type", "parent_id")} if is_of_operation else {}
    shown = ev.HistoryEvent(5, event, operation_id="op-1" if is_of_operation else None, **named)
    about = About(ID, "order-7", Home())
    written = write_event(shown, about, form)
    read = read_event(over_json(written), about, form)
    assert write_event(read, about, form) == written
    assert type(read.event) is kind


@pytest.mark.parametrize("kind", op.OperationType)
@given(data=st.data(), form=FORMS)
def test_operators_see_more_of_an_operation_and_a_client_reads_it(
    kind: op.OperationType, data: st.DataObject, form: forms.Form
) -> None:
    operation = data.draw(WIRED[kind])
    if isinstance(operation, op.Callback):
        operation = replace(operation, timeout_ms=data.draw(st.none() | TIMES), heartbeat_ms=data.draw(TIMES))
    elif isinstance(operation, op.ChainedInvoke):
        operation = replace(operation, function="helper:3", version="3", execution_id=CHILD)
    written = over_json(write_operation(operation, form, SHOWN))
    assert read_operation(written, form, 7, shapes=SHOWN) == operation
    if kind is not op.OperationType.EXECUTION:
        ordinary = {name: value for name, value in written.items() if name != "Perdure"}
        assert ordinary == over_json(write_operation(operation, form))


@given(
    row=st.builds(
        ExecutionRow,
        execution_id=st.just(ID),
        function=st.just("f"),
        status=st.sampled_from(ExecutionStatus),
        start_ms=TIMES,
        version=st.sampled_from(["$LATEST", "3"]),
        name=st.none() | st.just("order-7"),
        end_ms=st.none() | TIMES,
        operations=st.integers(0, 9),
        invocations=st.integers(0, 9),
        waiting_on=st.lists(st.sampled_from(WaitingOn), max_size=2).map(tuple),
        error_type=TEXTS,
        parent=st.none() | st.just(ParentLink(CHILD, "op-1")),
    ),
    form=SHOWN_FORMS,
)
def test_a_row_of_a_list_comes_back_as_it_was(row: ExecutionRow, form: forms.Form) -> None:
    assert read_summary(over_json(write_summary(row, Home(), form)), form) == row


@given(
    view=st.builds(
        ExecutionView,
        execution_id=st.just(ID),
        arn=st.just(Home().execution_arn("f", "3", "order-7", ID)),
        name=st.just("order-7"),
        function=st.just("f"),
        version=st.just("3"),
        status=st.sampled_from(ExecutionStatus),
        start_ms=TIMES,
        end_ms=st.none() | TIMES,
        input=TEXTS,
        result=TEXTS,
        error=st.none() | ERRORS,
        config=st.builds(DurableConfig, st.integers(1, 99), st.integers(1, 99)),
        deadline_ms=st.none() | TIMES,
        pause=st.none() | st.builds(PauseView, TIMES, TEXTS, st.booleans(), st.booleans()),
        parent=st.none() | st.just(ParentLink(CHILD, "op-1")),
        operations=st.integers(0, 9),
        written_bytes=st.integers(0, 9),
        invocations=st.integers(0, 9),
        is_running=st.booleans(),
        waiting_on=st.lists(st.sampled_from(WaitingOn), max_size=2).map(tuple),
        failures=st.integers(0, 9),
        last_failure=st.none() | ERRORS,
        tenant_id=TEXTS,
        trace_header=TEXTS,
    ),
    form=SHOWN_FORMS,
)
def test_an_execution_comes_back_as_it_was(view: ExecutionView, form: forms.Form) -> None:
    assert read_execution(over_json(write_execution(view, form)), form) == view


def test_an_execution_of_aws_is_read_without_what_perdure_adds() -> None:
    arn = Home().execution_arn("f", "$LATEST", "n", "0190")
    given = {"DurableExecutionArn": arn, "DurableExecutionName": "n", "Status": "RUNNING", "StartTimestamp": 1.5}
    view = read_execution(given, forms.API)
    assert (view.execution_id, view.function, view.version, view.start_ms) == ("0190", "f", "$LATEST", 1500)
    assert (view.operations, view.waiting_on, view.result) == (0, (), None)


@given(
    found=st.builds(
        OpenCallback,
        callback_id=st.text(max_size=9),
        name=TEXTS,
        operation_id=st.just("op-1"),
        execution_id=st.just(ID),
        execution_name=st.just("n"),
        function=st.just("f"),
        start_ms=TIMES,
        timeout_ms=st.none() | TIMES,
        heartbeat_ms=st.none() | TIMES,
    ),
    form=SHOWN_FORMS,
)
def test_an_open_callback_comes_back_as_it_was(found: OpenCallback, form: forms.Form) -> None:
    assert read_open_callback(over_json(write_open_callback(found, form)), form) == found


@pytest.mark.parametrize("given_", [None, [], {"EventType": "Unheard"}, {"EventType": "StepStarted"}])
def test_what_is_no_event_is_refused(given_: Any) -> None:
    with pytest.raises(InvalidParameterValue):
        read_event(given_, About(ID, "n", Home()), forms.API)
