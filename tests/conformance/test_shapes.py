"""What is written fits AWS's own description of the API, as botocore ships it: members, types, required ones."""

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape, StructureShape
from msgspec.structs import replace

from perdure import DurableContext, Duration, InvokeConfig, StepConfig, durable_execution
from perdure.config import CallbackConfig
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.ids import Home
from perdure.model.operation import OperationType
from perdure.store.protocol import Query
from perdure.wire.events import DETAILS, About, write_event
from perdure.wire.executions import write_execution, write_summary
from perdure.wire.forms import API, Form
from perdure.wire.operations import write_operation
from support.local import Local, Outcome

MODEL: Any = botocore.session.get_session().get_service_model("lambda")
OURS = "Perdure"
PYTHON: dict[str, Any] = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "timestamp": (int, float),
    "structure": dict,
    "list": list,
}


def faults(shape: Shape, value: Any, where: str) -> Iterator[str]:
    """What in `value` is not as `shape` says."""
    kind = PYTHON[shape.type_name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{where}: {value!r} is no {shape.type_name}"
    elif isinstance(shape, StructureShape):
        for name in shape.required_members:
            if name not in value:
                yield f"{where}.{name} is missing"
        for name, inner in value.items():
            if name == OURS:
                continue
            if name not in shape.members:
                yield f"{where}.{name} is unknown"
            else:
                yield from faults(shape.members[name], inner, f"{where}.{name}")
    elif shape.type_name == "list":
        for item in value:
            yield from faults(shape.member, item, f"{where}[]")


def assert_fits(shape_name: str, value: Any) -> None:
    assert list(faults(MODEL.shape_for(shape_name), value, shape_name)) == []


@durable_execution(name="everything")
def everything(event: Any, context: DurableContext) -> str:
    context.step(lambda _: "reserved", name="reserve")

    def flaky(step: Any) -> str:
        if step.attempt == 1:
            raise RuntimeError("no paper")
        return "printed"

    context.step(flaky, name="print", config=StepConfig(retry_strategy=lambda error, attempt: once(attempt)))
    context.wait(Duration.from_seconds(5), name="cool-down")
    context.run_in_child_context(lambda child: child.step(lambda _: 1, name="inner"), name="box")
    opened = context.create_callback("answer", CallbackConfig(timeout=Duration.from_seconds(60)))
    context.invoke("helper", {"n": 1}, name="call", config=InvokeConfig())
    return str(opened.result())


def once(attempt: int) -> Any:
    from perdure.retries import RetryDecision

    return RetryDecision.retry(Duration.from_seconds(2)) if attempt < 2 else RetryDecision.no_retry()


@pytest.fixture(scope="module")
def done() -> Outcome:
    local = Local(everything, functions={"helper": lambda event, context: event})
    outcome = local.run({"order": 7}, name="order-7", until_s=30)
    local.service.pause(outcome.id, "a look")
    local.service.resume(outcome.id)
    local.service.succeed_callback(outcome.callback_id("answer"), "yes")
    return local.go_on(outcome.id)


def about(outcome: Outcome) -> About:
    return About(outcome.id, outcome.view.name, Home())


@pytest.mark.parametrize("form", [API, API.without_data()], ids=["with data", "without data"])
def test_a_real_history_fits(done: Outcome, form: Form) -> None:
    assert done.result == "yes"
    for event in done.history:
        assert_fits("Event", write_event(event, about(done), form))


def test_every_kind_of_event_fits_even_with_nothing_in_it(done: Outcome) -> None:
    shown = [kind for kind in ev.EVENTS if kind.is_shown]
    assert set(DETAILS) == set(shown)
    assert {kind.__name__ for kind in shown} >= set(MODEL.shape_for("EventType").enum) - {"StepRetried"}
    for kind in shown:
        for error in (None, ErrorObject("m", "t", "d", ("f",))):
            assert_fits("Event", write_event(ev.HistoryEvent(1, sample(kind, error)), about(done), API))


def sample(kind: type[ev.Event], error: ErrorObject | None) -> ev.Event:
    import msgspec

    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "error":
            values["error"] = error
        elif field.required:
            values[field.name] = 5 if field.type is int else None if field.type is not str else "x"
    return kind(**values)


@pytest.mark.parametrize("form", [API, API.without_data()], ids=["with data", "without data"])
def test_every_operation_fits(done: Outcome, form: Form) -> None:
    written = [write_operation(operation, form) for operation in done.operations]
    assert {operation["Type"] for operation in written} == set(OperationType) - {OperationType.EXECUTION}
    for operation in written:
        assert_fits("Operation", operation)


@pytest.mark.parametrize("form", [API, API.without_data()], ids=["with data", "without data"])
def test_an_execution_fits_in_every_state_of_its_life(form: Form) -> None:
    local = Local(everything, functions={"helper": lambda event, context: event})
    outcome = local.run({"order": 7}, name="order-7", until_s=30)
    running = outcome.view
    assert_fits("GetDurableExecutionResponse", write_execution(running, form))
    local.service.pause(outcome.id, "a look")
    paused = write_execution(outcome.view, form)
    assert paused["PauseDetails"]["Reason"] == "a look"
    assert_fits("GetDurableExecutionResponse", paused)
    local.service.stop(outcome.id, ErrorObject("enough"))
    stopped = write_execution(replace(outcome.view, trace_header="Root=1"), form)
    assert stopped["Status"] == "STOPPED"
    assert ("Error" in stopped) is form.is_data_shown is stopped["ExecutionDataIncluded"]
    assert_fits("GetDurableExecutionResponse", stopped)


def test_a_row_of_a_list_fits(done: Outcome) -> None:
    (row,) = done.local.service.search(Query(now_ms=done.local.clock.now)).rows
    written = write_summary(row, Home(), API)
    assert_fits("Execution", written)
    assert written["DurableExecutionArn"] == done.view.arn
    assert written["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:everything:$LATEST"
