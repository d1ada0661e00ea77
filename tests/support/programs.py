"""Random programs: trees of operations, as JSON, that a handler interprets.

What a program returns depends on nothing but the program, so that a run with faults must return what one without does.
"""

import random
from collections.abc import Callable
from typing import Any

from perdure import (
    ChildContextError,
    CompletionConfig,
    DurableContext,
    InvokeError,
    MapConfig,
    NestingType,
    RetryDecision,
    StepConfig,
    StepContext,
    StepError,
    StepSemantics,
    WaitForConditionConfig,
    fixed_wait,
)

Program = list[dict[str, Any]]


def random_program(rng: random.Random, depth: int = 0) -> Program:
    """One to five operations, some of them with operations of their own."""
    return [_random_operation(rng, depth, number) for number in range(rng.randint(1, 5 if depth == 0 else 3))]


def _random_operation(rng: random.Random, depth: int, number: int) -> dict[str, Any]:
    kinds = ["step"] * 5 + ["wait", "wait", "callback", "condition", "plain", "failing"]
    if depth < 2:
        kinds += ["child", "child", "invoke"]
    if depth < 1:
        kinds += ["map", "first"]
    kind = rng.choice(kinds)
    operation: dict[str, Any] = {"kind": kind, "name": f"{kind}-{number}"}
    match kind:
        case "step":
            operation["failures"] = rng.choice([0, 0, 0, 1, 2])
            operation["once"] = rng.random() < 0.3
        case "wait":
            operation["seconds"] = rng.choice([1, 2, 30, 3_600])
        case "condition":
            operation["polls"] = rng.randint(1, 3)
        case "child" | "invoke":
            operation["body"] = random_program(rng, depth + 1)
        case "map":
            operation["bodies"] = [random_program(rng, depth + 1) for _ in range(rng.randint(0, 3))]
            operation["flat"] = rng.random() < 0.4
        case "first":
            operation["bodies"] = [random_program(rng, depth + 1) for _ in range(rng.randint(1, 2))]
    return operation


def outcome_of(program: Program) -> list[Any]:
    """What a program returns."""
    results: list[Any] = []
    for operation in program:
        match operation["kind"]:
            case "step":
                results.append(f"{operation['name']} done at attempt {operation['failures'] + 1}")
            case "wait":
                results.append("waited")
            case "callback":
                results.append("answered")
            case "condition":
                results.append(operation["polls"])
            case "plain":
                results.append("plain")
            case "failing":
                results.append("failed as it should")
            case "child" | "invoke":
                results.append(outcome_of(operation["body"]))
            case "map":
                results.append([outcome_of(body) for body in operation["bodies"]])
            case "first":
                results.append([outcome_of(operation["bodies"][0])])
    return results


class Journalist:
    """Told by the bodies of all executions what happens in them; survives every crash."""

    def body_starts(self, execution: str, path: str, attempt: int, *, once: bool) -> None: ...
    def body_ends(self, execution: str, path: str, attempt: int) -> None: ...
    def value_seen(self, execution: str, path: str, value: Any) -> None: ...
    def wait_begins(self, execution: str, path: str, seconds: int) -> None: ...
    def wait_over(self, execution: str, path: str) -> None: ...


def interpreter(journalist: Journalist) -> Callable[[Any, DurableContext], Any]:
    """The handler that runs programs."""

    def handler(event: Any, context: DurableContext) -> Any:
        execution = context.execution_context.durable_execution_arn.rpartition("/")[2]
        return _run(journalist, execution, context, event, "")

    return handler


def _run(journalist: Journalist, execution: str, context: DurableContext, program: Program, place: str) -> list[Any]:
    results: list[Any] = []
    for number, operation in enumerate(program):
        path = f"{place}/{number}-{operation['name']}"
        value = _run_one(journalist, execution, context, operation, path)
        journalist.value_seen(execution, path, value)
        results.append(value)
    return results


def _run_one(
    journalist: Journalist, execution: str, context: DurableContext, operation: dict[str, Any], path: str
) -> Any:
    name = operation["name"]
    match operation["kind"]:
        case "step":
            once = operation["once"]

            def body(step: StepContext) -> str:
                journalist.body_starts(execution, path, step.attempt, once=once)
                # An interrupted at-most-once attempt counts as a failed one: the attempts that fail on purpose are
                # counted by the journalist's world, not by the number of the attempt.
                if _fails(journalist, execution, path, operation["failures"]):
                    raise ValueError(f"attempt {step.attempt} fails on purpose")
                journalist.body_ends(execution, path, step.attempt)
                return f"{name} done at attempt {operation['failures'] + 1}"

            semantics = StepSemantics.AT_MOST_ONCE_PER_RETRY if once else StepSemantics.AT_LEAST_ONCE_PER_RETRY
            return context.step(body, name=name, config=StepConfig(_patiently, semantics))
        case "failing":
            try:
                context.step(_always_failing, name=name, config=StepConfig(lambda _e, _n: RetryDecision.no_retry()))
            except StepError:
                return "failed as it should"
        case "wait":
            journalist.wait_begins(execution, path, operation["seconds"])
            context.wait(operation["seconds"], name=name)
            journalist.wait_over(execution, path)
            return "waited"
        case "callback":
            return context.wait_for_callback(lambda _callback_id: None, name=name)
        case "condition":
            polls = operation["polls"]
            strategy = fixed_wait(lambda state: state < polls, delay=2)
            return context.wait_for_condition(lambda state: state + 1, WaitForConditionConfig(strategy, 0), name=name)
        case "plain":
            return context.invoke("plain", name=name)
        case "child":
            try:
                return context.run_in_child_context(
                    lambda child: _run(journalist, execution, child, operation["body"], path), name=name
                )
            except ChildContextError as error:
                return f"unexpected: {error}"
        case "map" | "first":
            # One branch after the other, in the thread of the handler: more would run in an order of their own.
            flat = operation.get("flat", False)
            is_first = operation["kind"] == "first"
            config = MapConfig(
                max_concurrency=1,
                completion_config=CompletionConfig.first_successful() if is_first else CompletionConfig(),
                nesting_type=NestingType.FLAT if flat else NestingType.NESTED,
            )
            result = context.map(
                operation["bodies"],
                lambda branch, body, index: _run(journalist, execution, branch, body, f"{path}/{index}"),
                name=name,
                config=config,
            )
            result.throw_if_error()
            return result.get_results()
        case "invoke":
            try:
                return context.invoke("program", operation["body"], name=name)
            except InvokeError as error:
                return f"unexpected: {error}"
    raise AssertionError(operation)


def _fails(journalist: Journalist, execution: str, path: str, failures: int) -> bool:
    counted: dict[tuple[str, str], int] = journalist.__dict__.setdefault("failed_on_purpose", {})
    if counted.get((execution, path), 0) >= failures:
        return False
    counted[execution, path] = counted.get((execution, path), 0) + 1
    return True


def _patiently(_error: Exception, attempts_made: int) -> RetryDecision:
    return RetryDecision.retry(1) if attempts_made < 60 else RetryDecision.no_retry()


def _always_failing(_: StepContext) -> None:
    raise RuntimeError("as it should")
