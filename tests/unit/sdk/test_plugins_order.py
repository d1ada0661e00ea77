"""What plugins are told and in which order, beside the official SDK. Numbers are those of the SDK's checklist."""

from collections.abc import Callable
from typing import Any

import pytest

from support.hooks import Told, listening
from support.yardstick import run_official, run_ours


def step(sdk: Any, context: Any) -> None:
    context.step(lambda _: {"a": 1}, name="s")


def at_most_once(sdk: Any, context: Any) -> None:
    semantics = sdk.config.StepSemantics.AT_MOST_ONCE_PER_RETRY
    context.step(lambda _: 1, name="s", config=sdk.config.StepConfig(step_semantics=semantics))


def failing(sdk: Any, context: Any) -> None:
    none = sdk.config.StepConfig(sdk.retries.RetryPresets.none())
    with pytest.raises(sdk.exceptions.StepError):
        context.step(lambda _: 1 / 0, name="s", config=none)


def retried(sdk: Any, context: Any) -> None:
    def body(given: Any) -> int:
        if given.attempt == 1:
            raise ValueError("once")
        return 2

    context.step(body, name="s", config=sdk.config.StepConfig(sdk.retries.RetryPresets.fixed(sdk.config.Duration(1))))


def child(sdk: Any, context: Any) -> None:
    def body(inner: Any) -> Any:
        inner.step(lambda _: 1, name="before")
        inner.wait(sdk.config.Duration(1), name="w")
        return inner.step(lambda _: 2, name="after")

    context.run_in_child_context(body, name="c")


def failing_child(sdk: Any, context: Any) -> None:
    with pytest.raises(sdk.exceptions.ChildContextError):
        context.run_in_child_context(lambda inner: 1 / 0, name="c")


def virtual_child(sdk: Any, context: Any) -> None:
    config = sdk.config.ChildConfig(is_virtual=True)
    context.run_in_child_context(lambda inner: inner.step(lambda _: 1, name="s"), name="c", config=config)


def large_child(sdk: Any, context: Any) -> None:
    context.run_in_child_context(lambda inner: inner.step(lambda _: "x", name="s") * 300_000, name="c")


def condition(sdk: Any, context: Any) -> None:
    decision = sdk.waits.WaitForConditionDecision
    again = decision.continue_waiting(sdk.config.Duration(1))
    config = sdk.waits.WaitForConditionConfig(lambda state, _: decision.stop_polling() if state == 2 else again, 0)
    context.wait_for_condition(lambda state, _: state + 1, config, name="c")


def nested_map(sdk: Any, context: Any) -> None:
    config = sdk.config.MapConfig(max_concurrency=1)
    context.map([1, 2], lambda ctx, item, index, items: ctx.step(lambda _: item, name="s"), name="m", config=config)


def flat_map(sdk: Any, context: Any) -> None:
    config = sdk.config.MapConfig(max_concurrency=1, nesting_type=sdk.config.NestingType.FLAT)
    context.map([1, 2], lambda ctx, item, index, items: ctx.step(lambda _: item, name="s"), name="m", config=config)


def waiting_map(sdk: Any, context: Any) -> None:
    config = sdk.config.MapConfig(max_concurrency=1)

    def body(ctx: Any, item: int, index: int, items: Any) -> int:
        ctx.wait(sdk.config.Duration(1), name=f"w{item}")
        return item

    context.map([1, 2], body, name="m", config=config)


def empty_map(sdk: Any, context: Any) -> None:
    context.map([], lambda ctx, item, index, items: item, name="m")


PROGRAMS = [
    step,
    at_most_once,
    failing,
    retried,
    child,
    failing_child,
    virtual_child,
    large_child,
    condition,
    nested_map,
    flat_map,
    waiting_map,
    empty_map,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_plugins_are_told_what_the_official_sdk_tells_them(program: Callable[[Any, Any], None]) -> None:
    """The program, then a wait, then a replay of both."""

    def run(runner: Callable[..., Any]) -> list[Told]:
        heard: list[Told] = []

        def make(sdk: Any) -> Callable[..., Any]:
            nonlocal heard
            factory, heard = listening(sdk)

            @sdk.durable_execution(plugins=[factory])  # type: ignore[untyped-decorator]
            def handler(event: Any, context: Any) -> Any:
                program(sdk, context)
                context.wait(sdk.config.Duration(1), name="last")
                return 1

            return handler  # type: ignore[no-any-return]

        assert runner(make).status == "SUCCEEDED"
        return heard

    official, ours = run(run_official), run(run_ours)
    if program is virtual_child:  # there the official SDK forgets to tell that the wait has ended
        assert ours[-2][0] == "operation end"
        del ours[-2]
    assert [(what, said.get("name")) for what, said in ours] == [(what, said.get("name")) for what, said in official]
    for mine, theirs in zip(ours, official, strict=True):
        assert mine == theirs


def test_a_failing_handler_is_told_as_the_official_sdk_tells_it() -> None:
    def run(runner: Callable[..., Any]) -> list[Told]:
        heard: list[Told] = []

        def make(sdk: Any) -> Callable[..., Any]:
            nonlocal heard
            factory, heard = listening(sdk)

            @sdk.durable_execution(plugins=[factory])  # type: ignore[untyped-decorator]
            def handler(event: Any, context: Any) -> Any:
                raise ValueError(event)

            return handler  # type: ignore[no-any-return]

        assert runner(make, {"a": 1}).status == "FAILED"
        return heard

    assert run(run_ours) == run(run_official)


def test_a_chained_invoke_is_told_and_gets_its_trace_header_as_from_the_official_sdk() -> None:
    """The official runner says at once that there is no such function; ours when the handler is invoked again."""

    def run(runner: Callable[..., Any]) -> list[Told]:
        heard: list[Told] = []

        def make(sdk: Any) -> Callable[..., Any]:
            nonlocal heard
            factory, heard = listening(sdk)

            @sdk.durable_execution(plugins=[factory])  # type: ignore[untyped-decorator]
            def handler(event: Any, context: Any) -> Any:
                with pytest.raises(sdk.exceptions.InvokeError):
                    context.invoke("nobody", {"a": 1}, name="i")

            return handler  # type: ignore[no-any-return]

        assert runner(make).status == "SUCCEEDED"
        return [(what, said) for what, said in heard if not what.startswith("invocation")]

    ours, official = run(run_ours), run(run_official)
    assert [what for what, _ in ours] == ["propagation", "operation start", "operation end"]
    ours[-1][1]["error"] = official[-1][1]["error"] = "the service's"
    assert ours == official
