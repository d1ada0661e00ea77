"""The handler that runs programs, and tells the oracle what it sees."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from perdure import (
    CallbackConfig,
    CallbackError,
    ChildConfig,
    ChildContextError,
    CompletionConfig,
    DurableContext,
    DurableTimeoutError,
    InvokeError,
    MapConfig,
    NestingType,
    ParallelConfig,
    PromiseCombinatorError,
    RetryDecision,
    StepConfig,
    StepContext,
    StepError,
    StepInterruptedError,
    StepSemantics,
    WaitForCallbackConfig,
    WaitForConditionConfig,
    WaitForConditionError,
    complete_batch,
    continue_batch,
    fixed_wait,
)
from simulation.oracle import Facts
from simulation.programs import ALWAYS, Operation, Program

PATIENCE: Final = 10_000
STEP_TIMEOUT_S: Final = 5


class Teller:
    """Whom the interpreter tells what happens. All of it may be where a process ends, or where others do something."""

    def body(self, facts: Facts, path: str, attempt: int, *, once: bool) -> None: ...

    def body_ends(self, facts: Facts, path: str) -> None: ...

    def handed_out(self, facts: Facts, path: str, callback_id: str, operation: Operation) -> None: ...

    def pass_time(self, seconds: float) -> None: ...

    def now_ms(self) -> int:
        raise NotImplementedError

    def handle(self, event: Any, context: DurableContext) -> Any: ...


def failed(error: BaseException) -> list[str]:
    """How a failure stands among the values of a program."""
    return ["!", type(error).__name__]


class Interpreter:
    """One run of a program, in one invocation."""

    __slots__ = ("facts", "teller")

    def __init__(self, teller: Teller, facts: Facts) -> None:
        self.teller = teller
        self.facts = facts

    def run(self, context: DurableContext, event: dict[str, Any]) -> Any:
        values = self.some(context, event["ops"], "")
        if event.get("raises"):
            raise ValueError("as it should")
        return values

    def some(self, context: DurableContext, program: Program, place: str) -> list[Any]:
        facts, values = self.facts, []
        for number, operation in enumerate(program):
            path = f"{place}{number}"
            value = _RUNNERS[operation["do"]](self, context, operation, path)
            facts.saw(path, operation, value)
            values.append(value)
        return values

    # --- steps ---------------------------------------------------------------------------------------------------

    def body_of(self, operation: Operation, path: str) -> Callable[[StepContext], Any]:
        """The body of a step. Attempts that fail on purpose are counted over all crashes."""
        teller, facts = self.teller, self.facts
        once = operation.get("once", False)
        fails = operation.get("fails", 0)
        timeout = operation.get("timeout")
        size = operation.get("bytes", 0)

        def body(step: StepContext) -> Any:
            attempt = step.attempt
            teller.body(facts, path, attempt, once=once)
            if fails and (facts.fails_on_purpose(path, fails) if once else attempt <= fails):
                raise ValueError("on purpose")
            if timeout == "exceeded" and attempt == 1:
                teller.pass_time(STEP_TIMEOUT_S + 1)
            teller.body_ends(facts, path)
            return path + "x" * size if size else path

        return body

    def step(self, context: DurableContext, operation: Operation, path: str) -> Any:
        config = step_config(
            operation.get("attempts", 0), operation.get("once", False), operation.get("timeout") is not None
        )
        try:
            value = context.step(self.body_of(operation, path), path, config)
        except StepError as error:
            return failed(error)
        size = operation.get("bytes")
        return [value[:-size], len(value)] if size else value

    def saga(self, context: DurableContext, operation: Operation, path: str) -> Any:
        done: list[str] = []
        try:
            with context.saga() as saga:
                for number, operation_of in enumerate(operation["body"]):
                    name = f"{path}.{number}"
                    config = step_config(0, operation_of.get("once", False), operation_of.get("timeout") is not None)
                    saga.step(self.body_of(operation_of, name), name, config, undo=self.undo_of(name))
                    done.append(name)
                if operation["raises"]:
                    raise ValueError("on purpose")
        except ValueError:
            return ["undone", done]
        return ["done", done]

    def undo_of(self, name: str) -> Callable[[Any], None]:
        def undo(_result: Any) -> None:
            self.facts.undone(name)

        return undo

    # --- what waits ----------------------------------------------------------------------------------------------

    def wait(self, context: DurableContext, operation: Operation, path: str) -> Any:
        self.facts.wait_begins(path, operation["seconds"])
        context.wait(operation["seconds"], path)
        self.facts.wait_over(path)

    def condition(self, context: DurableContext, operation: Operation, path: str) -> Any:
        raises = operation.get("raises")

        def check(state: int) -> int:
            self.teller.body_ends(self.facts, path)
            if state + 1 == raises:
                raise ValueError("on purpose")
            return state + 1

        try:
            return context.wait_for_condition(check, condition_config(operation["polls"], operation["seconds"]), path)
        except WaitForConditionError as error:
            return failed(error)

    def callback(self, context: DurableContext, operation: Operation, path: str) -> Any:
        callback = context.create_callback(path, callback_config(*_limits(operation)))
        self.teller.handed_out(self.facts, path, callback.callback_id, operation)
        between = self.some(context, operation.get("between", ()), f"{path}.")
        try:
            return [*between, callback.result()]
        except CallbackError as error:
            return [*between, failed(error)]

    def wait_for_callback(self, context: DurableContext, operation: Operation, path: str) -> Any:
        fails = operation.get("submitter_fails", 0)
        teller, facts = self.teller, self.facts

        def submit(callback_id: str) -> None:
            teller.body_ends(facts, path)
            if facts.fails_on_purpose(path, fails):
                raise ValueError("on purpose")
            teller.handed_out(facts, path, callback_id, operation)

        config = wait_for_callback_config(*_limits(operation), fails == ALWAYS)
        try:
            return context.wait_for_callback(submit, path, config)
        except CallbackError as error:
            return failed(error)

    def race(self, context: DurableContext, operation: Operation, path: str) -> Any:
        callback = context.create_callback(f"{path} callback", callback_config(*_limits(operation)))
        self.teller.handed_out(self.facts, f"{path} callback", callback.callback_id, operation)
        self.facts.wait_begins(path, operation["seconds"])
        try:
            won = context.race(callback, context.start.wait(operation["seconds"], f"{path} wait"), name=path)
        except PromiseCombinatorError as error:
            return failed(error)
        return ["waited"] if won is None else ["answered", won]

    # --- other functions -----------------------------------------------------------------------------------------

    def call(self, context: DurableContext, operation: Operation, path: str) -> Any:
        try:
            return context.invoke("refusing" if operation.get("fails") else "plain", path, path)
        except InvokeError as error:
            return failed(error)

    def invoke(self, context: DurableContext, operation: Operation, path: str) -> Any:
        payload = {"ops": operation["body"], "raises": operation.get("raises", False)}
        try:
            return context.invoke("short" if operation.get("short") else "program", payload, path)
        except InvokeError as error:
            return failed(error)

    def again(self, context: DurableContext, operation: Operation, path: str) -> Any:
        try:
            return context.continue_as_new({"ops": operation["body"]}, path)
        except InvokeError as error:
            return failed(error)

    # --- contexts ------------------------------------------------------------------------------------------------

    def child(self, context: DurableContext, operation: Operation, path: str) -> Any:
        raises, size = operation.get("raises"), operation.get("bytes", 0)

        def body(inner: DurableContext) -> Any:
            values = self.some(inner, operation["body"], f"{path}.")
            if raises:
                raise ValueError("on purpose")
            return [values, "x" * size] if size else values

        try:
            value = context.run_in_child_context(body, path, child_config(operation.get("virtual", False)))
        except ChildContextError as error:
            return failed(error)
        return [value[0], len(value[1])] if size else value

    def branch(self, context: DurableContext, operation: Operation, path: str, index: int) -> Any:
        values = self.some(context, operation["bodies"][index], f"{path}.{index}.")
        if index in operation.get("failing", ()):
            raise ValueError("on purpose")
        return values

    def map(self, context: DurableContext, operation: Operation, path: str) -> Any:
        result = context.map(
            range(len(operation["bodies"])),
            lambda inner, index: self.branch(inner, operation, path, index),
            path,
            MapConfig(
                max_concurrency=operation["at_once"],
                completion_config=until(operation),
                nesting_type=nesting(operation),
            ),
        )
        return batch(result)

    def parallel(self, context: DurableContext, operation: Operation, path: str) -> Any:
        def make(index: int) -> Callable[[DurableContext], Any]:
            return lambda inner: self.branch(inner, operation, path, index)

        result = context.parallel(
            [make(index) for index in range(len(operation["bodies"]))],
            path,
            ParallelConfig(
                max_concurrency=operation["at_once"],
                completion_config=until(operation),
                nesting_type=nesting(operation),
            ),
        )
        return batch(result)

    def futures(self, context: DurableContext, operation: Operation, path: str) -> Any:
        started = [
            context.start.child(self.branch, operation, path, index, name=f"{path}.{index}")
            for index in range(len(operation["bodies"]))
        ]
        match operation["how"]:
            case "gather":
                return list(context.gather(*started))
            case "all":
                return list(context.all(*started, name=path))
            case "settled":
                return [each.value for each in context.all_settled(*started, name=path)]
            case "any":
                return context.any(*started, name=path)
            case "race":
                return context.race(*started, name=path)
            case how:
                assert how == "completed"
                ended = [future.result() for future in context.as_completed(*started, name=path)]
                return sorted(ended, key=str)

    def timeout(self, context: DurableContext, operation: Operation, path: str) -> Any:
        self.facts.wait_begins(path, operation["seconds"])
        try:
            with context.timeout(operation["seconds"]):
                return self.some(context, operation["body"], f"{path}.")
        except DurableTimeoutError:
            self.facts.wait_over(path)
            return ["timeout"]

    def marker(self, context: DurableContext, operation: Operation, path: str) -> Any:
        match operation["kind"]:
            case "patched":
                return context.patched(path)
            case "version":
                return context.version(path, max=3)
            case "now":
                return context.now().isoformat()
            case _:
                return str(context.uuid4())


_RUNNERS: Final[dict[str, Callable[[Interpreter, DurableContext, Operation, str], Any]]] = {
    kind: getattr(Interpreter, kind)
    for kind in (
        "step",
        "saga",
        "wait",
        "condition",
        "callback",
        "wait_for_callback",
        "race",
        "call",
        "invoke",
        "again",
        "child",
        "map",
        "parallel",
        "futures",
        "timeout",
        "marker",
    )
}


# --- configurations --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def step_config(attempts: int, once: bool, is_limited: bool) -> StepConfig:
    """At-most-once steps are tried until the end of time: how often they are interrupted is up to the faults."""

    def retry(error: Exception, made: int) -> RetryDecision:
        if isinstance(error, StepInterruptedError) or made < (attempts or PATIENCE):
            return RetryDecision.retry(1)
        return RetryDecision.no_retry()

    semantics = StepSemantics.AT_MOST_ONCE_PER_RETRY if once else StepSemantics.AT_LEAST_ONCE_PER_RETRY
    return StepConfig(retry, semantics, timeout=STEP_TIMEOUT_S if is_limited else None)


@lru_cache(maxsize=256)
def condition_config(polls: int, seconds: int) -> WaitForConditionConfig[int]:
    return WaitForConditionConfig(fixed_wait(lambda state: state < polls, delay=seconds), 0)


def _limits(operation: Operation) -> tuple[int, int]:
    return operation.get("timeout_s", 0), operation.get("heartbeat_s", 0)


@lru_cache(maxsize=256)
def callback_config(timeout_s: int, heartbeat_s: int) -> CallbackConfig:
    return CallbackConfig(timeout_s, heartbeat_s)


@lru_cache(maxsize=256)
def wait_for_callback_config(timeout_s: int, heartbeat_s: int, gives_up: bool) -> WaitForCallbackConfig:
    attempts = 2 if gives_up else PATIENCE

    def retry(_error: Exception, made: int) -> RetryDecision:
        return RetryDecision.retry(1) if made < attempts else RetryDecision.no_retry()

    return WaitForCallbackConfig(timeout_s, heartbeat_s, retry_strategy=retry)


@lru_cache(maxsize=2)
def child_config(is_virtual: bool) -> ChildConfig[Any]:
    return ChildConfig(is_virtual=is_virtual)


def nesting(operation: Operation) -> NestingType:
    return NestingType.FLAT if operation["flat"] else NestingType.NESTED


def until(operation: Operation) -> CompletionConfig:
    kind, number = operation["until"]
    return completion(kind, number)


@lru_cache(maxsize=256)
def completion(kind: str, number: int) -> CompletionConfig:
    match kind:
        case "all_completed":
            return CompletionConfig.all_completed()
        case "all_successful":
            return CompletionConfig.all_successful()
        case "first_successful":
            return CompletionConfig.first_successful()
        case "min_successful":
            return CompletionConfig(min_successful=number)
        case "tolerated_count":
            return CompletionConfig(tolerated_failure_count=number)
        case "tolerated_percentage":
            return CompletionConfig(tolerated_failure_percentage=number)
        case "predicate":
            return CompletionConfig(
                should_complete=lambda status: (
                    complete_batch() if status.completed_count >= min(number, status.total_count) else continue_batch()
                )
            )
        case _:
            return CompletionConfig()


def batch(result: Any) -> list[Any]:
    """What a program sees of a map or parallel."""
    items = [[item.index, item.status.value, item.result] for item in result.all]
    return [result.completion_reason.value, items]
