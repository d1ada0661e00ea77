# mypy: ignore-errors
# pyright: basic
"""The handler that runs programs. It is written for the official SDK, and executed with either root in its imports."""

import datetime
import decimal
import re
import uuid

from aws_durable_execution_sdk_python import (
    BatchResult,
    CallbackError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildContextError,
    CompletionOutcome,
    DurableContext,
    ExecutionError,
    InvokeError,
    ParallelBranch,
    SerDesError,
    StepError,
    ValidationError,
    WaitForConditionError,
    complete_batch,
    continue_batch,
    durable_execution,
    durable_step,
    durable_with_child_context,
)
from aws_durable_execution_sdk_python.config import (
    CallbackConfig,
    ChildConfig,
    CompletionConfig,
    Duration,
    InvokeConfig,
    JitterStrategy,
    MapConfig,
    NestingType,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from aws_durable_execution_sdk_python.retries import (
    LinearRetryStrategyConfig,
    RetryPresets,
    RetryStrategyConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
)
from aws_durable_execution_sdk_python.serdes import JsonSerDes
from aws_durable_execution_sdk_python.waits import (
    WaitForConditionConfig,
    WaitStrategyConfig,
    create_wait_strategy,
)


class Refused(Exception):
    """An error of the author's own."""


ERRORS = {"ValueError": ValueError, "KeyError": KeyError, "Refused": Refused, "ExecutionError": ExecutionError}
KINDS = [
    StepError,
    InvokeError,
    ChildContextError,
    WaitForConditionError,
    CallbackTimeoutError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackError,
    SerDesError,
    ValidationError,
    ExecutionError,
    Refused,
    Exception,
]


@durable_execution
def handler(event, context: DurableContext):
    return run(context, event["program"])


def run(context, program):
    return [OPERATIONS[operation["kind"]](context, operation) for operation in program]


# --- values ----------------------------------------------------------------------------------------------------------


def make(spec):
    """The value that a spec stands for."""
    kind, given = spec
    return MAKERS[kind](given)


MAKERS = {
    "json": lambda given: given,
    "bytes": bytes.fromhex,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "tuple": lambda given: tuple(make(one) for one in given),
    "list": lambda given: [make(one) for one in given],
    "dict": lambda given: {name: make(one) for name, one in given.items()},
    "numbered": lambda given: {number: make(one) for number, one in enumerate(given)},
    "large": lambda given: given * 300_000,
    "object": lambda given: object(),
}


def seen(value):
    """What the author's code sees of a value, as JSON."""
    if isinstance(value, BatchResult):
        items = [[item.index, str(item.status.value), seen(item.result), told(item.error)] for item in value.all]
        return [str(value.completion_reason.value), str(value.status.value), items]
    if isinstance(value, str) and len(value) > 1000:
        return f"{value[:10]}... {len(value)}"
    if isinstance(value, list):
        return [seen(one) for one in value]
    return value if value is None or isinstance(value, (str, bool)) else repr(value)


def told(error):
    return None if error is None else [rootless(error.type), error.message, error.data]


def rootless(name):
    """The name of an error of an SDK, without the root under which it, or the other one, has recorded it."""
    return re.sub(r"^\w+\.(exceptions|concurrency\.models)\.", r"\1.", name) if name else name


def fail(kind):
    raise ERRORS[kind](f"a {kind} on purpose")


# --- operations ------------------------------------------------------------------------------------------------------


def step(context, operation):
    @durable_step
    def named(step_context):
        if step_context.attempt <= operation["failures"]:
            fail(operation["error"])
        return make(operation["value"])

    once = operation["once"]
    config = StepConfig(
        retry_strategy=retry_strategy(operation["retry"]),
        step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY if once else StepSemantics.AT_LEAST_ONCE_PER_RETRY,
        serdes=JsonSerDes() if operation["as_json"] else None,
        sub_type=operation["sub_type"],
    )
    if operation["is_unnamed"]:
        body = named()
        return seen(context.step(lambda given: body(given), config=config))
    return seen(context.step(named(), name=operation["name"], config=config))


def retry_strategy(retry):
    kind, attempts, delay = retry
    none = JitterStrategy.NONE
    if kind == "none":
        return RetryPresets.none()
    if kind == "linear":
        first = Duration(delay)
        return create_linear_retry_strategy(
            LinearRetryStrategyConfig(attempts, first, Duration(2), jitter_strategy=none)
        )
    if kind == "filtered":
        return create_retry_strategy(
            RetryStrategyConfig(attempts, Duration(delay), jitter_strategy=none, retryable_error_types=[ValueError])
        )
    return create_retry_strategy(RetryStrategyConfig(attempts, Duration(delay), jitter_strategy=none))


def wait(context, operation):
    return seen(context.wait(Duration.from_seconds(operation["seconds"]), name=operation["name"]))


def child(context, operation):
    @durable_with_child_context
    def named(inner):
        results = run(inner, operation["body"])
        return [make(operation["value"]), results]

    is_large = operation["value"][0] == "large"
    config = ChildConfig(
        is_virtual=operation["is_virtual"],
        sub_type=operation["sub_type"],
        summary_generator=(lambda result: f"{len(result)} results") if is_large and operation["is_summed_up"] else None,
    )
    return seen(context.run_in_child_context(named(), name=operation["name"], config=config))


def condition(context, operation):
    def check(state, check_context):
        if state["polls"] + 1 == operation["fails_at"]:
            fail(operation["error"])
        return {"polls": state["polls"] + 1, "attempt": check_context.attempt}

    strategy = create_wait_strategy(
        WaitStrategyConfig(
            should_continue_polling=lambda state: state["polls"] < operation["polls"],
            max_attempts=operation["attempts"],
            initial_delay=Duration(operation["seconds"]),
            jitter_strategy=JitterStrategy.NONE,
        )
    )
    config = WaitForConditionConfig(wait_strategy=strategy, initial_state={"polls": 0})
    return seen(context.wait_for_condition(check, config, name=operation["name"]))


def callback(context, operation):
    config = CallbackConfig(
        timeout=Duration(operation["timeout"]), serdes=JsonSerDes() if operation["as_json"] else None
    )
    created = context.create_callback(name=operation["name"], config=config)
    results = run(context, operation["body"])
    return [results, seen(created.result())]


def wait_for_callback(context, operation):
    def submitter(callback_id, submit_context):
        attempts.append(callback_id)
        if operation["is_refused"]:
            fail(operation["error"])

    attempts = []
    config = WaitForCallbackConfig(
        timeout=Duration(operation["timeout"]),
        serdes=JsonSerDes() if operation["as_json"] else None,
        retry_strategy=retry_strategy(operation["retry"]),
    )
    return seen(context.wait_for_callback(submitter, name=operation["name"], config=config))


def invoke(context, operation):
    payload = operation["payload"]
    return seen(context.invoke(operation["function"], payload, name=operation["name"], config=InvokeConfig()))


def map_(context, operation):
    bodies = operation["bodies"]
    names = operation["names"]

    def item(inner, body, index, items):
        assert items[index] == body
        return [run(inner, body), make(operation["value"])]

    config = MapConfig(
        max_concurrency=operation["max_concurrency"],
        completion_config=completion(operation["completion"]),
        nesting_type=NestingType.FLAT if operation["is_flat"] else NestingType.NESTED,
        item_namer=(lambda _item, index: names[index]) if names else None,
    )
    return after_batch(context.map(bodies, item, name=operation["name"], config=config), operation)


def parallel(context, operation):
    names = operation["names"]

    def branch(index):
        body = operation["bodies"][index]

        def run_branch(inner):
            return [run(inner, body), make(operation["value"])]

        return ParallelBranch(run_branch, names[index]) if names else run_branch

    config = ParallelConfig(
        max_concurrency=operation["max_concurrency"],
        completion_config=completion(operation["completion"]),
        nesting_type=NestingType.FLAT if operation["is_flat"] else NestingType.NESTED,
    )
    branches = [branch(index) for index in range(len(operation["bodies"]))]
    return after_batch(context.parallel(branches, name=operation["name"], config=config), operation)


def after_batch(result, operation):
    if operation["throws"]:
        result.throw_if_error()
    return seen(result)


def completion(spec):
    kind, number = spec
    if kind == "predicate":

        def should_complete(status):
            assert status.total_count == len(status.items)
            if status.completed_count >= number:
                failed = status.failure_count > 0
                return complete_batch(CompletionOutcome.FAILED if failed else CompletionOutcome.SUCCEEDED)
            return continue_batch()

        return CompletionConfig(should_complete=should_complete)
    if kind in ("min_successful", "tolerated_failure_count", "tolerated_failure_percentage"):
        return CompletionConfig(**{kind: number})
    return getattr(CompletionConfig, kind)() if kind else CompletionConfig()


def attempt(context, operation):
    try:
        return run(context, operation["body"])
    except Exception as error:
        (kind, *_) = [kind.__name__ for kind in KINDS if isinstance(error, kind)]
        cause = error.__cause__
        inner = [rootless(getattr(cause, "error_type", None)), str(cause)] if cause is not None else None
        return ["caught", kind, rootless(getattr(error, "error_type", None)), str(error), inner]


def raise_(context, operation):
    fail(operation["error"])


OPERATIONS = {
    "step": step,
    "wait": wait,
    "child": child,
    "condition": condition,
    "callback": callback,
    "wait_for_callback": wait_for_callback,
    "invoke": invoke,
    "map": map_,
    "parallel": parallel,
    "attempt": attempt,
    "raise": raise_,
}


# --- other functions --------------------------------------------------------------------------------------------------


def echo(event, context):
    return {"echoed": event}


def refuse(event, context):
    raise Refused(f"no: {event}")


@durable_execution
def other(event, context):
    context.wait(Duration.from_minutes(1))
    return [context.step(lambda _: event, name="seen"), "from the other"]


@durable_execution
def other_refuses(event, context):
    def refuse(step_context):
        raise Refused(f"no: {event}")

    return context.step(refuse, config=StepConfig(retry_strategy=RetryPresets.none()))


FUNCTIONS = {"echo": echo, "refuse": refuse, "other": other, "other-refuses": other_refuses}
