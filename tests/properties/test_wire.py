"""What goes over the wire comes back as it was, whatever the model holds."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from perdure.model import operation as op
from perdure.model.error import ErrorObject
from perdure.wire import forms
from perdure.wire.operations import ERROR, OPERATIONS, UPDATE, read_operation, write_operation

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
