"""Plugins: what they may be, when they are told what, and what they cost. Numbers are those of the SDK's checklist."""

import dataclasses
import inspect
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import pytest
from aws_durable_execution_sdk_python import plugin as official

from perdure import DurableContext, ExecutionError, InvocationError, durable_execution, plugin
from perdure.config import CompletionConfig, MapConfig, ParallelConfig
from perdure.exceptions import SuspendExecution
from perdure.model.execution import ExecutionStatus
from perdure.plugin import DurableInstrumentationPlugin, OperationChangeInfo, PropagationMetadata
from perdure.sdk import infos, observer
from support.local import Local
from support.wire import Handmade, Recording

WAIT_S = 10.0


class Noting(DurableInstrumentationPlugin):
    """Writes down hooks, the names of operations, and threads."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None]] = []
        self.threads: list[tuple[str, str | None, int]] = []

    def note(self, hook: str, name: str | None = None) -> None:
        self.told.append((hook, name))
        self.threads.append((hook, name, threading.get_ident()))

    def on_invocation_start(self, info: Any) -> None:
        self.note("invocation start")

    def on_invocation_end(self, info: Any) -> None:
        self.note("invocation end", str(info.status))

    def on_operation_start(self, info: Any) -> None:
        self.note("operation start", info.name)

    def on_operation_end(self, info: Any) -> None:
        self.note("operation end", info.name)

    def on_user_function_start(self, info: Any) -> None:
        self.note("function start", info.name)

    def on_user_function_end(self, info: Any) -> None:
        self.note("function end", info.name)


def ran(handler: Callable[[Any, DurableContext], Any], *plugins: Any, **local: Any) -> Any:
    """The outcome of a handler with these plugins."""
    return Local(durable_execution(plugins=list(plugins))(handler), **local).run()


def one_step(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: 1, name="s")


ONE_STEP = [
    ("invocation start", None),
    ("operation start", "s"),
    ("function start", "s"),
    ("function end", "s"),
    ("operation end", "s"),
    ("invocation end", "SUCCEEDED"),
]


# --- what may be registered --------------------------------------------------------------------------------------


def test_an_instance_a_class_and_a_factory_are_told() -> None:
    """[15]"""
    made: list[Noting] = []

    class Own(Noting):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    class Informed(Noting):
        def __init__(self, info: plugin.InvocationStartInfo) -> None:
            super().__init__()
            assert info.is_first_invocation
            made.append(self)

    class Factory:
        def create_plugin(self, info: plugin.InvocationStartInfo) -> Noting:
            return Informed(info)

    instance = Noting()
    assert ran(one_step, instance, Own, Informed, Factory()).result == 1
    assert len(made) == 3
    for each in (instance, *made):
        assert each.told == ONE_STEP


def test_a_factory_makes_a_plugin_for_each_invocation_an_instance_stays() -> None:
    made: list[Noting] = []

    class Factory:
        def create_plugin(self, info: plugin.InvocationStartInfo) -> Noting:
            made.append(Noting())
            return made[-1]

    def handler(event: Any, context: DurableContext) -> None:
        context.wait(1, name="w")

    instance = Noting()
    ran(handler, Factory(), instance)
    assert [each.told for each in made] == [
        [("invocation start", None), ("operation start", "w"), ("invocation end", "PENDING")],
        [("invocation start", None), ("operation end", "w"), ("invocation end", "SUCCEEDED")],
    ]
    assert instance.told == made[0].told + made[1].told


def test_a_factory_that_makes_no_plugin_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def create_plugin(self, info: Any) -> Any:
            raise SuspendExecution("not even this")

    class Wrong:
        def create_plugin(self, info: Any) -> Any:
            return "no plugin"

    noting = Noting()
    assert ran(one_step, Failing(), Wrong(), noting).result == 1
    assert noting.told == ONE_STEP
    assert ["a plugin factory" in entry.message for entry in caplog.records] == [True, True]


# --- what a hook does wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("hook"), SuspendExecution("hook"), ExecutionError("hook")])
def test_what_a_hook_raises_is_logged_and_goes_no_further(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(DurableInstrumentationPlugin):
        def fail(self, info: Any) -> Any:
            raise error

        on_invocation_start = on_invocation_end = on_operation_start = on_operation_end = fail
        on_operation_change = on_user_function_start = on_user_function_end = provide_propagation_metadata = fail

    noting = Noting()
    assert ran(one_step, Failing(), noting).result == 1
    assert noting.told == ONE_STEP
    assert len(caplog.records) == 7
    assert {entry.levelno for entry in caplog.records} == {logging.ERROR}


@pytest.mark.parametrize(
    "hook", ["on_invocation_start", "on_operation_start", "on_user_function_end", "on_operation_end"]
)
def test_what_ends_the_process_is_raised_after_the_end_has_been_told(hook: str) -> None:
    class Leaving(DurableInstrumentationPlugin):
        pass

    def leave(self: Any, info: Any) -> None:
        raise SystemExit(3)

    setattr(Leaving, hook, leave)
    noting = Noting()
    with pytest.raises(SystemExit):
        Handmade(durable_execution(plugins=[noting, Leaving()])(one_step)).invoke()
    assert noting.told[0] == ("invocation start", None)
    assert noting.told[-1] == ("invocation end", "RETRY")


@pytest.mark.parametrize("hook", ["on_operation_change", "on_invocation_end"])
def test_all_plugins_are_told_the_end_also_if_one_ends_the_process(hook: str) -> None:
    class Leaving(DurableInstrumentationPlugin):
        pass

    def leave(self: Any, info: Any) -> None:
        raise KeyboardInterrupt

    setattr(Leaving, hook, leave)
    noting = Noting()
    handler = durable_execution(plugins=[Leaving(), noting])(one_step)

    class Answering(Handmade):
        def checkpoint(self, updates: Any) -> Any:
            from perdure.sdk.client import Answer
            from perdure.sdk.expected import expected

            return Answer([record for each in updates if (record := expected(each, None, 1)) is not None])

    with pytest.raises(KeyboardInterrupt):
        Answering(handler).invoke()
    assert noting.told == ONE_STEP


# --- order and threads -------------------------------------------------------------------------------------------


def test_hooks_run_in_the_thread_of_their_operation() -> None:
    bodies: dict[str, int] = {}
    noting = Noting()

    def handler(event: Any, context: DurableContext) -> None:
        reached = threading.Barrier(3)

        def function(ctx: DurableContext, item: int) -> None:
            bodies[f"map-item-{item}"] = threading.get_ident()

            def body(_: Any) -> None:
                bodies[f"s{item}"] = threading.get_ident()
                reached.wait(WAIT_S)

            ctx.step(body, name=f"s{item}")

        context.map(range(3), function, config=MapConfig(item_namer=lambda item: f"map-item-{item}"))

    ran(handler, noting)
    assert len(set(bodies.values())) == 3
    for name, thread in bodies.items():
        assert {(hook, ident) for hook, what, ident in noting.threads if what == name} == {
            ("operation start", thread),
            ("function start", thread),
            ("function end", thread),
            ("operation end", thread),
        }


def test_an_operation_has_ended_for_plugins_when_that_is_recorded() -> None:
    wire = Recording()
    seen: list[tuple[str | None, list[str]]] = []

    class Looking(DurableInstrumentationPlugin):
        def on_operation_end(self, info: Any) -> None:
            seen.append((info.name, [f"{each.name} {each.action}" for call in wire.calls for each in call]))

    def handler(event: Any, context: DurableContext) -> None:
        context.map([1], lambda ctx, item: ctx.step(lambda _: item, name="s"), name="m")

    ran(handler, Looking, client=wire.client)
    assert [name for name, _ in seen] == ["s", "map-item-0", "m"]
    assert all(sent[-1] == f"{name} SUCCEED" for name, sent in seen)


def test_variables_set_by_a_hook_are_there_in_the_handler_and_in_branches() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")

    class Setting(DurableInstrumentationPlugin):
        def on_invocation_start(self, info: Any) -> None:
            variable.set("the plugin's")

    def handler(event: Any, context: DurableContext) -> Any:
        return [variable.get(), *context.map([1, 2], lambda ctx, item: variable.get()).get_results()]

    assert ran(handler, Setting).result == ["the plugin's"] * 3


def test_a_branch_that_was_left_behind_tells_nothing_any_more() -> None:
    go_on, gone = threading.Event(), threading.Event()
    noting = Noting()

    def handler(event: Any, context: DurableContext) -> None:
        begun = threading.Event()

        def slow(ctx: DurableContext) -> None:
            begun.set()
            try:
                assert go_on.wait(WAIT_S)
                ctx.step(lambda _: 1, name="too late")
            finally:
                gone.set()

        def fast(ctx: DurableContext) -> None:
            assert begun.wait(WAIT_S)

        context.parallel([slow, fast], config=ParallelConfig(completion_config=CompletionConfig.first_successful()))

    ran(handler, noting)
    told = list(noting.told)
    go_on.set()
    assert gone.wait(WAIT_S)
    assert noting.told == told
    assert "too late" not in [name for _, name in told]


@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [
        (InvocationError("again"), True, "RETRY"),
        (ExecutionError("no"), False, "FAILED"),
        (SystemExit(3), True, "RETRY"),
    ],
)
def test_the_end_is_told_however_the_handler_ends(error: BaseException, status: str, *, raised: bool) -> None:
    def handler(event: Any, context: DurableContext) -> None:
        raise error

    noting = Noting()
    wire = Handmade(durable_execution(plugins=[noting])(handler))
    if raised:
        with pytest.raises(type(error)):
            wire.invoke()
    else:
        wire.invoke()
    assert noting.told == [("invocation start", None), ("invocation end", status)]


def test_an_input_that_is_no_json_is_told_as_an_invocation_that_is_tried_again() -> None:
    noting = Noting()
    wire = Handmade(durable_execution(plugins=[noting])(one_step))
    wire.input = "{"
    with pytest.raises(ExecutionError):
        wire.invoke()
    assert noting.told == [("invocation start", None), ("invocation end", "RETRY")]


# --- chained invokes ---------------------------------------------------------------------------------------------


def test_the_first_trace_header_that_is_not_blank_is_sent() -> None:
    def giving(metadata: Any) -> DurableInstrumentationPlugin:
        class Giving(DurableInstrumentationPlugin):
            def provide_propagation_metadata(self, info: Any) -> Any:
                asked.append(info.target_function_name)
                return metadata

        return Giving()

    asked: list[str] = []
    given = [PropagationMetadata(" "), None, "Root=0", PropagationMetadata("Root=1"), PropagationMetadata("Root=2")]

    def handler(event: Any, context: DurableContext) -> None:
        context.invoke("other", 1, name="i")

    wire = Handmade(durable_execution(plugins=[giving(each) for each in given])(handler))
    wire.invoke()
    assert [update.trace_header for call in wire.calls for update in call] == ["Root=1"]
    assert asked == ["other"] * 5


# --- changes -----------------------------------------------------------------------------------------------------


def test_changes_come_on_another_thread_one_report_at_a_time() -> None:
    """What changes while a report is on its way is in the next one, all of it, with its latest state."""
    reports: list[dict[str | None, str]] = []
    threads: set[int] = set()
    begun, go_on = threading.Event(), threading.Event()
    ends: list[int] = []

    class Slow(DurableInstrumentationPlugin):
        def on_operation_change(self, info: OperationChangeInfo) -> None:
            threads.add(threading.get_ident())
            reports.append({each.name: str(each.status) for each in info.updated_operations.values()})
            begun.set()
            assert go_on.wait(WAIT_S)

        def on_invocation_end(self, info: Any) -> None:
            ends.append(len(reports))

    def handler(event: Any, context: DurableContext) -> None:
        context.step(lambda _: 1, name="a")
        assert begun.wait(WAIT_S)
        context.run_in_child_context(lambda child: child.step(lambda _: 2, name="b"), name="c")
        context.step(lambda _: 3, name="d")
        go_on.set()

    ran(handler, Slow)
    assert reports == [{"a": "SUCCEEDED"}, {"c": "SUCCEEDED", "b": "SUCCEEDED", "d": "SUCCEEDED"}]
    assert ends == [2], "all is told before the end"
    assert threading.get_ident() not in threads


def test_what_is_recorded_with_the_answer_is_a_change_too() -> None:
    told: list[Any] = []

    class Changes(DurableInstrumentationPlugin):
        def on_operation_change(self, info: OperationChangeInfo) -> None:
            told.extend((each.name, str(each.status), each.attempt) for each in info.updated_operations.values())

    def handler(event: Any, context: DurableContext) -> None:
        def fails(_: Any) -> None:
            raise ValueError

        context.parallel([lambda ctx: ctx.wait(60, name="w"), lambda ctx: ctx.step(fails, name="s")], name="p")

    Handmade(durable_execution(plugins=[Changes])(handler), answers_waits=False).invoke()
    assert set(told) == {
        ("p", "STARTED", None),
        ("parallel-branch-0", "STARTED", None),
        ("w", "STARTED", None),
        ("parallel-branch-1", "STARTED", None),
        ("s", "PENDING", 1),
    }


def test_the_operations_are_a_view_of_the_present() -> None:
    views: list[Mapping[str, Any]] = []

    class Keeping(DurableInstrumentationPlugin):
        def on_invocation_start(self, info: Any) -> None:
            views.append(info.operations)

    def handler(event: Any, context: DurableContext) -> Any:
        (view,) = views
        assert [str(each.operation_type) for each in view.values()] == ["EXECUTION"]
        context.step(lambda _: 1, name="s")
        assert [each.name for each in view.values()][1:] == ["s"]
        assert len(view) == 2
        with pytest.raises(KeyError):
            view["unknown"]
        with pytest.raises(TypeError):
            view["s"] = 1  # type: ignore[index]

    assert ran(handler, Keeping).status is ExecutionStatus.SUCCEEDED


# --- costs -------------------------------------------------------------------------------------------------------


class NoOp(Noting):
    """Overrides all hooks."""

    def note(self, hook: str, name: str | None = None) -> None:
        pass

    def on_operation_change(self, info: Any) -> None:
        pass


def test_what_a_plugin_costs_grows_with_the_steps_and_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """[85] Counted are the records that are turned into infos, in hooks and in changes: a handful for each step."""
    touched = [0]
    whole = infos.facts_of

    def counted(operation: Any) -> Any:
        touched[0] += 1
        return whole(operation)

    monkeypatch.setattr(infos, "facts_of", counted)
    monkeypatch.setattr(observer, "facts_of", counted)

    def per_step(steps: int) -> float:
        touched[0] = 0

        def handler(event: Any, context: DurableContext) -> None:
            for number in range(steps):
                context.step(lambda _, number=number: number)

        ran(handler, NoOp)
        return touched[0] / steps

    assert per_step(200) <= 3
    assert per_step(2_000) <= 3


def test_a_plugin_that_overrides_nothing_costs_nothing() -> None:
    """[85] Counted are the calls of functions in the thread of the handler."""

    def calls(*plugins: Any) -> int:
        counted = [0]

        def count(frame: Any, event: str, argument: Any) -> None:
            counted[0] += event == "call"

        def handler(event: Any, context: DurableContext) -> None:
            before = sys.getprofile()
            sys.setprofile(count)
            try:
                for number in range(500):
                    context.step(lambda _, number=number: number)
            finally:
                sys.setprofile(before)

        ran(handler, *plugins)
        return counted[0]

    assert calls(DurableInstrumentationPlugin) == calls()


def test_without_plugins_nothing_of_them_is_loaded() -> None:
    program = """
import sys
from perdure import durable_execution, open
@durable_execution(name="x")
def handler(event, context):
    return context.step(lambda _: 1)
with open("memory://", [handler]) as app:
    assert app.run(handler) == 1
print([name for name in sys.modules if name.startswith("perdure.plugin") or "observe" in name])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# --- names -------------------------------------------------------------------------------------------------------

PUBLIC = [
    "DurableInstrumentationPlugin",
    "InvocationEndInfo",
    "InvocationInfo",
    "InvocationStartInfo",
    "OperationChangeInfo",
    "OperationEndInfo",
    "OperationInfo",
    "OperationStartInfo",
    "PropagationInput",
    "PropagationMetadata",
    "UserFunctionEndInfo",
    "UserFunctionStartInfo",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_infos_have_the_fields_of_the_official_ones(name: str) -> None:
    ours, theirs = getattr(plugin, name), getattr(official, name)
    if name == "DurableInstrumentationPlugin":
        hooks = [each for each in vars(theirs) if not each.startswith("_")]
        assert [each for each in vars(ours) if not each.startswith("_")] == hooks
        for hook in hooks:
            assert list(inspect.signature(getattr(ours, hook)).parameters) == ["self", "info"]
        return
    assert [base.__name__ for base in ours.__mro__] == [base.__name__ for base in theirs.__mro__]
    mine, other = dataclasses.fields(ours), dataclasses.fields(theirs)
    assert [(each.name, each.kw_only) for each in mine] == [(each.name, each.kw_only) for each in other]
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert ours.__dataclass_params__.frozen is theirs.__dataclass_params__.frozen
    for field, their in zip(mine, other, strict=True):
        if not their.repr:
            assert (field.repr, field.compare, field.hash) == (their.repr, their.compare, their.hash)


@pytest.mark.parametrize("name", ["InvocationStatus", "OperationType", "UserFunctionOutcome"])
def test_words_are_the_official_ones(name: str) -> None:
    ours, theirs = getattr(plugin, name), getattr(official, name)
    assert [(each.name, each.value) for each in ours] == [(each.name, each.value) for each in theirs]
