"""What type checkers infer, and how costs grow. Numbers in brackets are those of the SDK specification's checklist."""

import time
from typing import Any, assert_type

from perdure import DurableContext, StepContext, durable_execution, durable_step, durable_with_child_context
from support.local import Local


@durable_step
def greet(step: StepContext, name: str) -> str:
    return f"hello {name}"


@durable_with_child_context
def count(child: DurableContext, words: list[str]) -> int:
    return len(words)


@durable_execution(name="typed")
def typed(event: Any, context: DurableContext) -> Any:
    greeting = context.step(greet("Ada"))
    assert_type(greeting, str)
    number = context.run_in_child_context(count(["a", "b"]))
    assert_type(number, int)
    length = context.step(lambda _: len(greeting), name="length")
    assert_type(length, int)
    return [greeting, number, length]


def test_the_type_of_a_step_is_that_of_its_function() -> None:
    """[86] `make types` checks the assertions above with mypy --strict; here they only have to hold."""
    assert Local(typed).run().result == ["hello Ada", 2, 9]


def test_the_cost_of_a_replay_grows_with_its_operations_and_not_faster() -> None:
    """[83] Four times the steps take about four times as long; were it quadratic, sixteen times."""

    def replay_s(steps: int) -> float:
        took: list[float] = []

        @durable_execution(name="long")
        def long(event: Any, context: DurableContext) -> Any:
            began = time.perf_counter()
            for number in range(steps):
                context.step(lambda _, number=number: number, name="step")
            took.append(time.perf_counter() - began)
            for _ in range(3):
                context.wait(1)

        Local(long).run()
        assert len(took) == 4
        return min(took[1:])

    assert replay_s(8_000) / replay_s(2_000) < 9
