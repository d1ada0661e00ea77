"""Map and parallel over several invocations, and what a crash leaves of them. Numbers are the SDK checklist's."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.config import CompletionConfig, CompletionStatus, MapConfig, NestingType, ParallelConfig, continue_batch
from perdure.exceptions import CheckpointError, DurableApiErrorCategory
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Context, Operation, OperationStatus
from perdure.sdk.client import Answer
from perdure.sdk.identity import operation_id
from perdure.sdk.invocation import InvocationStatus
from perdure.worker.client import InProcessClient
from support.local import Local
from support.wire import Handmade, Recording
from support.yardstick import run_official, run_ours

WAIT_S = 10.0
LARGE = "x" * 100_000
ROOT = operation_id("", 1)


def record(index: int | None, status: str, **more: Any) -> Context:
    """The record of the map 'm' (None) or of one of its branches."""
    described: dict[str, Any] = (
        {"id": ROOT, "name": "m", "sub_type": "Map", "number": 1}
        if index is None
        else {
            "id": operation_id(ROOT, index),
            "name": f"map-item-{index}",
            "sub_type": "MapIteration",
            "parent_id": ROOT,
            "number": index + 2,
        }
    )
    return Context(status=OperationStatus(status), start_ms=1, **described, **more)


def over(handler: Callable[..., Any], *records: Operation) -> Handmade:
    wire = Handmade(handler)
    wire.operations.extend(records)
    return wire


def sent(wire: Handmade) -> list[str]:
    return [f"{update.name} {update.action}" for call in wire.calls for update in call]


# --- a crash between the ends of the branches and that of the batch ----------------------------------------------


def test_branches_that_ended_before_a_crash_do_not_run_again() -> None:
    ran: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> int:
            ran.append(item)
            return item

        everything = MapConfig(completion_config=CompletionConfig.all_completed())
        batch = context.map(range(3), function, name="m", config=everything)
        return batch.to_dict()

    failed = record(1, "FAILED", error=ErrorObject("boom", "ValueError"))
    all_ended = over(
        handler, record(None, "STARTED"), record(0, "SUCCEEDED", result="7"), failed, record(2, "SUCCEEDED")
    )
    answer = all_ended.invoke()
    assert (ran, sent(all_ended)) == ([], ["m SUCCEED"])
    assert json.loads(answer.result or "") == {
        "all": [
            {"index": 0, "status": "SUCCEEDED", "result": 7, "error": None},
            {
                "index": 1,
                "status": "FAILED",
                "result": None,
                "error": {"ErrorMessage": "boom", "ErrorType": "ValueError"},
            },
            {"index": 2, "status": "SUCCEEDED", "result": None, "error": None},
        ],
        "completionReason": "ALL_COMPLETED",
    }
    one_open = over(handler, record(None, "STARTED"), record(0, "STARTED"), failed, record(2, "SUCCEEDED", result="2"))
    assert one_open.invoke().status is InvocationStatus.SUCCEEDED
    assert (ran, sent(one_open)) == ([0], ["map-item-0 SUCCEED", "m SUCCEED"])


def test_enough_branches_that_ended_before_a_crash_decide_the_batch() -> None:
    """Nothing is started that was not, although the end of the batch was never recorded."""
    ran: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> None:
            ran.append(item)

        enough = MapConfig(completion_config=CompletionConfig(min_successful=2))
        batch = context.map(range(5), function, name="m", config=enough)
        return [batch.completion_reason, [[item.index, item.status] for item in batch]]

    wire = over(
        handler,
        record(None, "STARTED"),
        record(0, "STARTED"),
        record(1, "SUCCEEDED", result="1"),
        record(2, "SUCCEEDED", result="2"),
        record(3, "STARTED"),
    )
    answer = wire.invoke()
    assert (ran, sent(wire)) == ([], ["m SUCCEED"])
    assert json.loads(answer.result or "") == [
        "MIN_SUCCESSFUL_REACHED",
        [[0, "STARTED"], [1, "SUCCEEDED"], [2, "SUCCEEDED"], [3, "STARTED"]],
    ]


@pytest.mark.parametrize("nesting", list(NestingType))
@pytest.mark.parametrize("is_before", [True, False], ids=["before the commit", "after it"])
def test_a_batch_gives_the_same_wherever_the_process_dies(nesting: NestingType, *, is_before: bool) -> None:
    def run(crash_at: int) -> tuple[Any, int]:
        calls = 0

        class Dying(InProcessClient):
            def checkpoint(self, updates: Any) -> Answer:
                nonlocal calls
                calls += 1
                if calls == crash_at and is_before:
                    raise CheckpointError("died", DurableApiErrorCategory.INVOCATION)
                answer = super().checkpoint(updates)
                if calls == crash_at:
                    raise CheckpointError("died", DurableApiErrorCategory.INVOCATION)
                return answer

        @durable_execution
        def handler(event: Any, context: DurableContext) -> Any:
            def function(ctx: DurableContext, item: int) -> Any:
                if item == 1:
                    raise ValueError("one")
                first = ctx.step(lambda _: item)
                if item == 2:
                    ctx.wait(5)
                return [first, ctx.step(lambda _: item * 10)]

            config = MapConfig(2, CompletionConfig.all_completed(), nesting_type=nesting)
            batch = context.map(range(5), function, config=config)
            context.wait(1)
            found = batch.to_dict()
            for item in found["all"]:
                (item["error"] or {}).pop("StackTrace", None)
            return found

        outcome = Local(handler, client=Dying).run()
        assert outcome.status is ExecutionStatus.SUCCEEDED, outcome.error
        return outcome.result, calls

    expected, calls = run(0)
    assert [item["status"] for item in expected["all"]] == ["SUCCEEDED", "FAILED"] + ["SUCCEEDED"] * 3
    for crash_at in range(1, calls + 1):
        assert run(crash_at)[0] == expected, crash_at


# --- a batch that is over ----------------------------------------------------------------------------------------


def test_an_early_end_is_the_same_on_every_replay() -> None:
    seen: list[Any] = []
    ran: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> Any:
            ran.append(item)
            return ctx.create_callback("never").result() if item == 0 else item

        config = MapConfig(2, CompletionConfig(min_successful=2))
        seen.append(context.map(range(5), function, name="m", config=config))
        context.wait(1)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert [(item.index, item.status) for item in seen[0]] == [(0, "STARTED"), (1, "SUCCEEDED"), (2, "SUCCEEDED")]
    assert sorted(ran) == [0, 1, 2], "a batch that is over runs nothing"


@pytest.mark.parametrize("nesting", list(NestingType))
@pytest.mark.parametrize(
    ("criteria", "reason", "statuses"),
    [
        (CompletionConfig.all_completed(), "ALL_COMPLETED", ["SUCCEEDED", "FAILED"] + ["SUCCEEDED"] * 4),
        (CompletionConfig(min_successful=3), "MIN_SUCCESSFUL_REACHED", ["SUCCEEDED", "FAILED"] + ["SUCCEEDED"] * 2),
        (CompletionConfig(min_successful=4), "MIN_SUCCESSFUL_REACHED", ["SUCCEEDED", "FAILED"] + ["SUCCEEDED"] * 3),
    ],
    ids=["all", "three", "four"],
)
def test_a_large_result_is_made_again_from_its_branches(
    nesting: NestingType, criteria: CompletionConfig, reason: str, statuses: list[str]
) -> None:
    """[61]"""
    seen: list[Any] = []
    bodies: list[int] = []
    steps: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> Any:
            bodies.append(item)
            if item == 1:
                raise ValueError("one")
            ctx.step(lambda _: steps.append(item))
            return {"item": item, "text": LARGE}

        config = MapConfig(1, criteria, nesting_type=nesting)
        seen.append(context.map(range(6), function, name="m", config=config))
        context.wait(1)

    wire = Recording()
    outcome = Local(handler, client=wire.client).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert seen[0] == seen[1]
    assert str(seen[0].completion_reason) == reason
    assert [str(item.status) for item in seen[0]] == statuses
    assert outcome.op("m").replay_children
    assert json.loads(outcome.op("m").result) == {
        "type": "MapResult",
        "totalCount": len(statuses),
        "completionReason": reason,
        "startedIndexes": [],
        "startedCount": 0,
        "successCount": statuses.count("SUCCEEDED"),
        "failureCount": 1,
        "status": "FAILED",
    }
    assert steps == [item for item in range(len(statuses)) if item != 1], "no step runs again"
    if nesting is NestingType.NESTED:
        assert len(bodies) == len(statuses), "what the branches returned is recorded"


@pytest.mark.parametrize("nesting", list(NestingType))
def test_what_was_open_when_a_large_result_was_decided_stays_so(nesting: NestingType) -> None:
    """[61] Branches 0 and 2 had begun; by the time of the replay they could end."""
    seen: list[Any] = []
    asked: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> Any:
            if item in (0, 2):
                ctx.wait(1)
                ctx.step(lambda _: asked.append(item))
                return item
            return [LARGE]

        config = ParallelConfig(3, CompletionConfig(min_successful=3), nesting_type=nesting)
        branches = [lambda ctx, n=n: function(ctx, n) for n in range(7)]
        seen.append(context.parallel(branches, name="p", config=config))
        context.wait(60)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert [str(item.status) for item in seen[0]] == ["STARTED", "SUCCEEDED"] * 2 + ["SUCCEEDED"]
    assert seen[0] == seen[1]
    assert asked == []
    envelope = json.loads(outcome.op("p").result)
    assert (envelope["type"], envelope["totalCount"], envelope["startedIndexes"]) == ("ParallelResult", 5, [0, 2])
    assert envelope["completionReason"] == "MIN_SUCCESSFUL_REACHED"


def test_the_envelope_of_a_large_result_is_the_official_one() -> None:
    def make(sdk: Any) -> Callable[..., Any]:
        @sdk.durable_execution  # type: ignore[untyped-decorator]
        def handler(event: Any, context: Any) -> Any:
            def item(ctx: Any, item: int, *rest: Any) -> Any:
                if item == 1:
                    raise ValueError("one")
                if item in (0, 2, 3):
                    return LARGE
                return ctx.create_callback("never").result()

            criteria = sdk.config.CompletionConfig(min_successful=3)
            config = {"completion_config": criteria, "max_concurrency": 1}
            summary = sdk.config.MapConfig(**config, summary_generator=lambda result: f"{result.success_count} ok")
            first = context.map([0, 1, 2, 3, 4], item, name="plain", config=sdk.config.MapConfig(**config))
            second = context.map([0, 2, 3, 4], item, name="summarized", config=summary)
            return [first.success_count, second.success_count]

        return handler  # type: ignore[no-any-return]

    ours, official = run_ours(make), run_official(make)
    assert ours.result == official.result == [3, 3]
    for name in ("plain", "summarized"):
        assert json.loads(ours.payloads[name] or "") == json.loads(official.payloads[name] or ""), name


def test_a_predicate_has_no_part_in_making_a_large_result_again() -> None:
    asked: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def go_on(status: CompletionStatus) -> Any:
            asked.append(status.completed_count)
            return continue_batch()

        config = MapConfig(1, CompletionConfig(should_complete=go_on))
        context.map(range(3), lambda ctx, item: LARGE, name="m", config=config)
        context.wait(1)

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("result", "branch", "message"),
    [
        ("", "SUCCEEDED", "does not say how it was decided"),
        ('{"totalCount": 3, "completionReason": "ALL_COMPLETED", "startedIndexes": []}', "SUCCEEDED", "does not say"),
        ('{"totalCount": 2, "completionReason": "NEVER", "startedIndexes": []}', "SUCCEEDED", "does not say"),
        ('{"totalCount": 2, "completionReason": "ALL_COMPLETED", "startedIndexes": []}', "STARTED", "no end of it"),
    ],
)
def test_a_large_result_that_can_t_be_made_again_fails_the_execution(result: str, branch: str, message: str) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.map(range(2), lambda ctx, item: item, name="m")
        except Exception as error:
            return str(error)

    whole = record(None, "SUCCEEDED", result=result, replay_children=True)
    answer = over(handler, whole, record(0, "SUCCEEDED", result="1"), record(1, branch, result="2")).invoke()
    assert answer.status is InvocationStatus.FAILED
    assert answer.error is not None
    assert answer.error.type == "perdure.exceptions.NonDeterministicExecutionError"
    assert message in (answer.error.message or "")


def test_a_large_result_of_the_official_sdk_is_made_again() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return [[item.index, item.status] for item in context.map(range(4), lambda ctx, item: item, name="m")]

    envelope = {"type": "MapResult", "totalCount": 3, "completionReason": "MIN_SUCCESSFUL_REACHED"}
    whole = record(None, "SUCCEEDED", result=json.dumps({**envelope, "completedIndexes": [1]}), replay_children=True)
    answer = over(handler, whole, record(1, "SUCCEEDED", result="1")).invoke()
    assert json.loads(answer.result or "") == [[0, "STARTED"], [1, "SUCCEEDED"], [2, "STARTED"]]


def test_a_branch_with_a_large_result_runs_again_over_its_records() -> None:
    steps: list[int] = []
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> Any:
            ctx.step(lambda _: steps.append(item))
            if item == 1:
                ctx.wait(1)
            return LARGE * 3

        seen.append(context.map(range(2), function, name="m").get_results())
        context.wait(1)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert seen == [[LARGE * 3] * 2] * 2
    assert sorted(steps) == [0, 1]
    assert (outcome.op("map-item-0").result, outcome.op("map-item-0").replay_children) == ("", True)


# --- growth ------------------------------------------------------------------------------------------------------


def test_a_waiting_map_is_looked_at_again_in_few_threads_and_in_linear_time() -> None:
    """[84] Eight times the items take about eight times as long; were it quadratic, 64 times."""

    def again_s(items: int) -> tuple[float, int]:
        took: list[float] = []
        threads: set[int] = set()

        @durable_execution
        def handler(event: Any, context: DurableContext) -> Any:
            def function(ctx: DurableContext, item: int) -> None:
                threads.add(threading.get_ident())
                ctx.create_callback(f"c{item}").result()

            began = time.process_time()
            try:
                context.map(range(items), function)
            finally:
                took.append(time.process_time() - began)

        wire = Recording()
        local = Local(handler, client=wire.client)
        outcome = local.run()
        wire.calls.clear()
        threads.clear()
        for number in range(5):
            local.service.succeed_callback(outcome.callback_id(f"c{number}"), "1")
            local.pump()
        assert len(took) == 6
        assert [update for call in wire.calls for update in call if "CALLBACK" in str(update.type)] == []
        return min(took[1:]), len(threads)

    few_s, _ = again_s(150)
    many_s, threads = again_s(1_200)
    assert threads < 70
    assert many_s / few_s < 25


def test_the_updates_of_a_replayed_branch_are_those_that_are_new() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> int:
            ctx.step(lambda _: item, name=f"before {item}")
            ctx.wait(1 + item, name=f"w{item}")
            return ctx.step(lambda _: item, name=f"after {item}")

        return context.map(range(2), function, name="m").get_results()

    wire = Recording()
    assert Local(handler, client=wire.client).run().result == [0, 1]
    once = [(update.id, update.action) for call in wire.calls for update in call]
    assert len(once) == len(set(once))
