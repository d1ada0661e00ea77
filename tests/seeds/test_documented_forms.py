"""The forms of the documentation that the official 3.0 itself rejects, and the rest of those of the seed pages.

The numbers with an S are those of the SDK specification, section 0.1; the others are of section 0.2.
"""

import dataclasses
import importlib
import inspect
import warnings
from concurrent.futures import Future
from typing import Any

import pytest

import perdure
from perdure import (
    BatchResult,
    DurableContext,
    StepConfig,
    durable_execution,
    durable_parallel_branch,
    durable_step,
)
from perdure.config import (
    BatchedInput,
    CheckpointMode,
    ChildConfig,
    InvokeConfig,
    ItemBatcher,
    ItemsPerBatchUnit,
    MapConfig,
    StepFuture,
    TerminationMode,
)
from perdure.dropped import _warned
from perdure.exceptions import (
    CallableRuntimeError,
    CallableRuntimeErrorSerializableDetails,
    StepInterruptedError,
    UserlandError,
)
from perdure.model.execution import ExecutionStatus
from perdure.retries import RetryPresets, WithRetryConfig, with_retry
from perdure.waits import WaitDecision, WaitForConditionConfig, fixed_wait
from support.local import Local
from support.sdks import PERDURE, Ground


def test_s10_s11_a_map_function_takes_the_context_and_the_item() -> None:
    """[8]"""

    def process_item(ctx: DurableContext, item: Any) -> int:
        return int(ctx.step(lambda _: item["price"] * 2, name=f"process-{item['id']}"))

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        results = context.map(event["items"], process_item)
        return {"total": sum(results.get_results())}

    outcome = Local(handler).run({"items": [{"id": 1, "price": 5}, {"id": 2, "price": 8}]})
    assert outcome.result == {"total": 26}


def test_callable_runtime_errors_are_caught_around_steps_and_invokes() -> None:
    """[13]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def fail(_: Any) -> None:
            raise ValueError("bad")

        found = []
        for call in (
            lambda: context.step(fail, config=StepConfig(retry_strategy=RetryPresets.none())),
            lambda: context.invoke("nobody", {}),
        ):
            try:
                call()
            except CallableRuntimeError as error:
                found.append([error.message, error.error_type])
        return found

    found = Local(handler).run().result
    assert found[0] == ["bad", "ValueError"]
    assert found[1][1] == "ResourceNotFoundException"
    assert UserlandError is CallableRuntimeError


def test_an_interrupted_step_is_caught_by_the_name_that_the_documentation_shows() -> None:
    """[14]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config = StepConfig(RetryPresets.none(), execution_mode="AT_MOST_ONCE_PER_RETRY")
        try:
            return context.step(lambda _: "charged", name="charge", config=config)
        except StepInterruptedError:
            return "unknown"

    ground = Ground({PERDURE: {"main": handler}}, PERDURE, crashes={1: False})
    assert ground.run_answering({}, lambda _ground, _callback: False).result == "unknown"


@dataclasses.dataclass
class Job:
    polls: int


def test_the_state_of_a_condition_may_be_a_dataclass_and_the_result_of_a_handler_too() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Job:
        def check(job: Job) -> Job:
            return Job(job.polls + 1)

        strategy = fixed_wait(lambda job: job.polls < 2, delay=5)
        return context.wait_for_condition(check, WaitForConditionConfig(strategy, Job(0)))

    assert Local(handler).run().result == {"polls": 2}


def test_a_map_without_a_configuration_ends_with_the_first_failure_whatever_the_docs_say() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, item: int) -> int:
            return 1 // item

        result: BatchResult[int] = context.map([0, 1, 2], body, config=MapConfig(max_concurrency=1))
        return [result.completion_reason, result.total_count]

    assert Local(handler).run().result == ["FAILURE_TOLERANCE_EXCEEDED", 1]


def test_a_branch_without_a_name_is_named_by_its_place() -> None:
    """Bare, called, with a name: all three give branches."""

    @durable_parallel_branch
    def bare(ctx: DurableContext, n: int) -> int:
        return n

    @durable_parallel_branch()
    def called(ctx: DurableContext, n: int) -> int:
        return n

    @durable_parallel_branch(name="the third")
    def named(ctx: DurableContext, n: int = 3) -> int:
        """Doc."""
        return n

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.parallel([bare(1), called(n=2), named()]).get_results()

    outcome = Local(handler).run()
    assert outcome.result == [1, 2, 3]
    assert [operation.name for operation in outcome.operations][1:] == [
        "parallel-branch-0",
        "parallel-branch-1",
        "the third",
    ]
    assert (named.__name__, named.__doc__) == ("named", "Doc.")


def test_durable_steps_keep_their_names_and_signatures() -> None:
    @durable_step
    def quote(step: Any, sku: str) -> int:
        """Ask for a price."""
        return len(sku)

    assert (quote.__name__, quote.__doc__) == ("quote", "Ask for a price.")
    assert list(inspect.signature(quote).parameters) == ["step", "sku"]


# --- what ends everything is not tried again ------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
def test_with_retry_does_not_try_again_what_ends_the_execution(wrapped: bool) -> None:
    tries: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> Any:
            tries.append(attempt)
            raise perdure.ExecutionError("enough")

        with_retry(context, body, WithRetryConfig(wrap_with_run_in_child_context=wrapped))

    assert Local(handler).run().status is ExecutionStatus.FAILED
    assert tries == [1]


def test_with_retry_needs_no_configuration_and_lets_a_suspension_pass() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> int:
            ctx.wait(60)
            return attempt

        return with_retry(context, body)

    assert Local(handler).run().result == 1


# --- names of the 1.x line ------------------------------------------------------------------------------------------


def test_the_dropped_names_are_still_there() -> None:
    assert [mode.value for mode in TerminationMode] == ["TERMINATE", "CANCEL", "WAIT", "ABANDON"]
    assert CheckpointMode("NO_CHECKPOINT") is CheckpointMode.NO_CHECKPOINT
    assert ItemsPerBatchUnit.COUNT.value == "COUNT"
    assert BatchedInput("all", [1]).items == [1]
    future: Future[int] = Future()
    future.set_result(7)
    named = StepFuture(future, "answer")
    assert (named.name, named.result(timeout_seconds=1)) == ("answer", 7)
    assert (WaitDecision.wait(60).should_wait, WaitDecision.wait(60).delay_seconds) == (True, 60)
    assert (WaitDecision.no_wait().should_wait, WaitDecision.no_wait().delay_seconds) == (False, 0)
    details = CallableRuntimeErrorSerializableDetails.from_exception(ValueError("bad"))
    assert str(details) == "ValueError: bad"
    assert MapConfig(item_batcher=ItemBatcher(max_items_per_batch=2)).item_batcher is not None
    for module in (perdure.config, importlib.import_module("perdure.waits"), perdure.exceptions):
        with pytest.raises(AttributeError, match="nothing"):
            module.nothing  # noqa: B018


def test_a_dropped_option_warns_once_if_it_would_have_done_something() -> None:
    _warned.clear()
    with pytest.warns(DeprecationWarning, match=r"InvokeConfig\(timeout=…\) does nothing") as told:
        assert InvokeConfig(timeout=60) == InvokeConfig()
    assert told[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"ChildConfig\(item_serdes=…\) does nothing") as told:
        assert ChildConfig(item_serdes=perdure.JsonSerDes()) == ChildConfig()
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InvokeConfig(timeout=61)
        ChildConfig[Any](item_serdes=perdure.JsonSerDes())
        _warned.clear()
        InvokeConfig(timeout=0)
        ChildConfig[Any](item_serdes=None)
    changed = dataclasses.replace(ChildConfig[Any](sub_type="Saga"), is_virtual=True)
    assert (changed.sub_type, changed.is_virtual) == ("Saga", True)


# --- every name of the official package ---------------------------------------------------------------------------

MODULES = [
    "concurrency.models",
    "config",
    "constants",
    "context",
    "exceptions",
    "execution",
    "filesystem_serdes",
    "identifier",
    "lambda_service",
    "logger",
    "preview",
    "retries",
    "serdes",
    "suspend",
    "threading",
    "types",
    "waits",
]
INNER = {
    "exceptions": {"AwsErrorObj", "AwsErrorMetadata"},
    "execution": {"handle_checkpoint_error"},
    "logger": {"LogInfo"},
    "serdes": {
        *("TypeTag", "EncodedValue", "Codec", "PrimitiveCodec", "BytesCodec", "UuidCodec", "DecimalCodec"),
        *("DateTimeCodec", "ContainerCodec", "TypeCodec", "TYPE_CODEC"),
    },
}
"""What section 1 of the specification does not name: parts of how the official package does it."""


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_of_an_official_module_is_in_ours(module: str) -> None:
    """[1]"""
    official = importlib.import_module(f"aws_durable_execution_sdk_python.{module}")
    ours = importlib.import_module(f"perdure.{module}")
    found = {
        name
        for name, value in vars(official).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == official.__name__
    }
    found = {name for name in found if not type(vars(official)[name]).__name__.endswith(("TypeVar", "ParamSpec"))}
    assert {name for name in found - INNER.get(module, set()) if not hasattr(ours, name)} == set()


def test_every_name_of_the_official_package_is_in_ours() -> None:
    """[1]"""
    official = importlib.import_module("aws_durable_execution_sdk_python")
    assert {name for name in official.__all__ if not hasattr(perdure, name)} == set()
    assert len(set(perdure.__all__)) == len(perdure.__all__)
