"""Map and parallel while they run. Numbers in brackets are those of the SDK specification's checklist."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from perdure import (
    ChildContextError,
    DurableContext,
    RetryPresets,
    StepConfig,
    ValidationError,
    durable_execution,
)
from perdure.config import (
    BatchedInput,
    CompletionConfig,
    CompletionDecision,
    CompletionOutcome,
    CompletionStatus,
    ItemBatcher,
    MapConfig,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    complete_batch,
    continue_batch,
)
from perdure.model.execution import ExecutionStatus
from perdure.sdk.identity import operation_id
from support.local import Local, Outcome
from support.wire import Recording
from support.yardstick import run_official, run_ours

NO_RETRY = StepConfig(RetryPresets.none())
WAIT_S = 10.0


def mapped(items: Any, function: Callable[..., Any], config: MapConfig | None = None) -> Outcome:
    """The outcome of a handler that returns what a map gives."""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.map(items, function, name="m", config=config)

    return Local(handler).run()


def results(outcome: Outcome) -> list[Any]:
    return [item["result"] for item in outcome.result["all"]]


# --- what the functions get --------------------------------------------------------------------------------------


def test_a_map_function_gets_as_much_as_it_takes() -> None:
    """[8]"""
    items = ["a", "b"]
    assert results(mapped(items, lambda ctx, item: item)) == items
    assert results(mapped(items, lambda ctx, item, index: f"{item}{index}")) == ["a0", "b1"]
    assert results(mapped(items, lambda ctx, item, index, all_: [item, index, all_])) == [
        ["a", 0, items],
        ["b", 1, items],
    ]
    assert results(mapped(items, lambda ctx, *rest: list(rest))) == [["a", 0, items], ["b", 1, items]]


def test_a_parameter_with_a_default_keeps_it() -> None:
    """[9]"""
    assert results(mapped([1, 2], lambda ctx, item, k=7: k)) == [7, 7]
    assert results(mapped([1, 2], lambda ctx, item, *, k=7: k)) == [7, 7]
    four = mapped([1], lambda ctx, item, index, k=7: k)
    assert results(four) == [[1]], "the official SDK fills four, and so do we"


def test_a_map_function_that_takes_no_item_is_refused() -> None:
    """[10]"""
    wire = Recording()

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        with pytest.raises(ValidationError, match="takes 1 argument; it must take"):
            context.map([1], lambda ctx: None)
        with pytest.raises(ValidationError, match=r"branch 1 of parallel, .* takes no argument"):
            context.parallel([lambda ctx: None, lambda: None])
        with pytest.raises(ValidationError, match="branch 0 of parallel must be a function, not 3"):
            context.parallel([3])

    outcome = Local(handler, client=wire.client).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert wire.shape() == []
    assert outcome.operations == []


def test_a_map_takes_anything_that_can_be_iterated() -> None:
    assert results(mapped((n for n in range(3)), lambda ctx, item: item)) == [0, 1, 2]


def test_an_item_batcher_hands_each_branch_several_items() -> None:
    def sizes(batcher: ItemBatcher[Any], items: list[Any]) -> list[Any]:
        def function(ctx: DurableContext, batched: BatchedInput[Any, Any]) -> Any:
            return [batched.batch_input, batched.items]

        return results(mapped(items, function, MapConfig(item_batcher=batcher)))

    assert sizes(ItemBatcher(2, batch_input="x"), [1, 2, 3, 4, 5]) == [["x", [1, 2]], ["x", [3, 4]], ["x", [5]]]
    assert sizes(ItemBatcher(max_item_bytes_per_batch=6), ["ab", "c", "d", "longer than 6", "e"]) == [
        [None, ["ab"]],  # four bytes of JSON, and three more would be too many
        [None, ["c", "d"]],
        [None, ["longer than 6"]],
        [None, ["e"]],
    ]
    assert sizes(ItemBatcher(), [1, 2]) == [[None, [1, 2]]]
    assert sizes(ItemBatcher(2), []) == []


# --- what is recorded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["serial", "beside each other"])
def test_the_id_of_a_branch_comes_from_its_index(workers: str) -> None:
    """[17] The last branch ends first here, and begins its own operations first."""
    turns = [threading.Event() for _ in range(4)]
    turns[-1].set()

    def function(ctx: DurableContext, item: int, index: int) -> int:
        if workers != "serial":
            assert turns[index].wait(WAIT_S)
        value = ctx.step(lambda _: item)
        turns[index - 1].set()
        return value

    outcome = mapped(range(4), function, MapConfig(max_concurrency=1 if workers == "serial" else None))
    root = outcome.op("m").id
    assert root == operation_id("", 1)
    for index in range(4):
        branch = outcome.op(f"map-item-{index}")
        assert branch.id == operation_id(root, index)
        (step,) = [each for each in outcome.operations if each.parent_id == branch.id]
        assert (step.id, step.result) == (operation_id(branch.id, 1), str(index))


def test_branches_are_named_by_index_namer_or_by_hand() -> None:
    def names(outcome: Outcome, sub_type: str) -> list[str | None]:
        return [each.name for each in outcome.operations if each.sub_type == sub_type]

    items = ["a", "b"]
    assert names(mapped(items, lambda c, i: i), "MapIteration") == ["map-item-0", "map-item-1"]
    both = MapConfig(item_namer=lambda item, index: f"{item}-{index}")
    assert names(mapped(items, lambda c, i: i, both), "MapIteration") == ["a-0", "b-1"]
    first = MapConfig(item_namer=lambda item: f"<{item}>")
    assert names(mapped(items, lambda c, i: i, first), "MapIteration") == ["<a>", "<b>"]

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        branches: list[Any] = [ParallelBranch(lambda c: 1, "one"), lambda c: 2, ParallelBranch(lambda c: 3)]
        given = context.parallel(branches, name="p").get_results()
        context.wait(1)
        return given

    outcome = Local(handler).run()
    assert outcome.result == [1, 2, 3]
    assert names(outcome, "ParallelBranch") == ["one", "parallel-branch-1", "parallel-branch-2"]
    assert outcome.op("p").sub_type == "Parallel"


def test_an_explicit_empty_name_is_kept_over_a_replay() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def branch(c: DurableContext) -> int:
            c.wait(1)
            return c.step(lambda _: 1)

        branches: list[Any] = [ParallelBranch(branch, ""), branch]
        return context.parallel(branches).get_results()

    outcome = Local(handler).run()
    assert outcome.result == [1, 1]
    assert [each.name or "" for each in outcome.operations if each.sub_type == "ParallelBranch"] == [
        "",
        "parallel-branch-1",
    ]


def test_the_namer_names_every_item_of_every_invocation() -> None:
    named: list[int] = []

    def namer(item: int) -> str:
        named.append(item)
        return f"n{item}"

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.map([1, 2], lambda c, i: c.wait(1), config=MapConfig(item_namer=namer, max_concurrency=1))

    local = Local(handler)
    assert local.run().status is ExecutionStatus.SUCCEEDED
    assert named == [1, 2] * local.invocations


def test_what_is_recorded_is_what_the_official_sdk_records() -> None:
    def make(sdk: Any) -> Callable[..., Any]:
        @sdk.durable_execution  # type: ignore[untyped-decorator]
        def handler(event: Any, context: Any) -> Any:
            def item(ctx: Any, item: int, index: int, items: Any) -> int:
                return int(ctx.step(lambda _: item * 10, name=f"s{index}"))

            def named(ctx: Any) -> str:
                return "named"

            nested = sdk.config.ParallelConfig(max_concurrency=1)
            flat = sdk.config.MapConfig(max_concurrency=1, nesting_type=sdk.config.NestingType.FLAT)
            one = context.map([1, 2], item, name="nested", config=sdk.config.MapConfig(max_concurrency=1))
            two = context.map([3, 4], item, name="flat", config=flat)
            three = context.parallel([sdk.config.ParallelBranch(named, "x"), lambda ctx: "lambda"], config=nested)
            return [each.to_dict() for each in (one, two, three)]

        return handler  # type: ignore[no-any-return]

    ours, official = run_ours(make), run_official(make)
    assert ours.operations == official.operations
    assert ours.result == official.result


# --- when a batch is over ----------------------------------------------------------------------------------------

TABLE = [
    ({}, "FAILURE_TOLERANCE_EXCEEDED", [0, 1]),
    ({"tolerated_failure_percentage": 100}, "ALL_COMPLETED", [0, 1, 2, 3]),
    ({"tolerated_failure_count": 0, "tolerated_failure_percentage": 0}, "FAILURE_TOLERANCE_EXCEEDED", [0, 1]),
    ({"tolerated_failure_count": 0}, "FAILURE_TOLERANCE_EXCEEDED", [0, 1]),
    ({"tolerated_failure_count": 1}, "ALL_COMPLETED", [0, 1, 2, 3]),
    ({"tolerated_failure_percentage": 25}, "ALL_COMPLETED", [0, 1, 2, 3]),
    ({"tolerated_failure_percentage": 24}, "FAILURE_TOLERANCE_EXCEEDED", [0, 1]),
    ({"min_successful": 1}, "MIN_SUCCESSFUL_REACHED", [0]),
    ({"min_successful": 2}, "MIN_SUCCESSFUL_REACHED", [0, 1, 2]),
    ({"min_successful": 3}, "ALL_COMPLETED", [0, 1, 2, 3]),
    ({"min_successful": 4}, "ALL_COMPLETED", [0, 1, 2, 3]),
    ({"min_successful": 3, "tolerated_failure_count": 0}, "FAILURE_TOLERANCE_EXCEEDED", [0, 1]),
]


@pytest.mark.parametrize("kind", ["map", "parallel"])
@pytest.mark.parametrize(("criteria", "reason", "present"), TABLE, ids=lambda value: str(value))
def test_a_batch_is_over_when_the_official_one_is(
    kind: str, criteria: dict[str, Any], reason: str, present: list[int]
) -> None:
    """[50] Four items one after the other, of which item 1 fails; what the official SDK says is asked of it."""

    def make(sdk: Any) -> Callable[..., Any]:
        @sdk.durable_execution  # type: ignore[untyped-decorator]
        def handler(event: Any, context: Any) -> Any:
            def item(ctx: Any, item: int, *rest: Any) -> int:
                if item == 1:
                    raise ValueError("one")
                return item

            how = {"completion_config": sdk.config.CompletionConfig(**criteria), "max_concurrency": 1}
            if kind == "map":
                batch = context.map(range(4), item, config=sdk.config.MapConfig(**how))
            else:
                branches = [lambda ctx, n=n: item(ctx, n) for n in range(4)]
                batch = context.parallel(branches, config=sdk.config.ParallelConfig(**how))
            kinds = [error.type for error in batch.get_errors()]
            return [str(batch.completion_reason.value), [item.index for item in batch.all], kinds, batch.status.value]

        return handler  # type: ignore[no-any-return]

    ours = run_ours(make)
    failed = ["ValueError"] if 1 in present else []
    assert ours.result == [reason, present, failed, "FAILED" if failed else "SUCCEEDED"]
    assert ours.result == run_official(make).result


def test_exactly_the_tolerated_percentage_goes_on() -> None:
    """[51]"""

    def present(failing: int, of: int, percentage: float) -> int:
        def function(ctx: DurableContext, item: int) -> None:
            if item < failing:
                raise ValueError

        config = MapConfig(1, CompletionConfig(tolerated_failure_percentage=percentage))
        return len(mapped(range(of), function, config).result["all"])

    assert present(1, 3, 33.4) == 3
    assert present(1, 3, 33.3) == 1
    assert present(5, 10, 50) == 10
    assert present(6, 10, 50) == 6
    assert present(1, 2, 0) == 1


def test_a_minimum_of_all_ends_with_all_completed() -> None:
    """[52]"""
    config = MapConfig(completion_config=CompletionConfig(min_successful=3))
    outcome = mapped(range(3), lambda ctx, item: item, config)
    assert outcome.result["completionReason"] == "ALL_COMPLETED"


def test_a_minimum_out_of_reach_stops_nothing() -> None:
    """[53]"""

    def function(ctx: DurableContext, item: int) -> int:
        if item < 3:
            raise ValueError
        return item

    result = mapped(range(4), function, MapConfig(1, CompletionConfig(min_successful=2))).result
    assert result["completionReason"] == "ALL_COMPLETED"
    assert [item["status"] for item in result["all"]] == ["FAILED"] * 3 + ["SUCCEEDED"]


def test_what_never_started_is_absent_and_what_runs_is_started() -> None:
    """[54] Item 0 waits for ever, item 1 succeeds; 2 has not been reached."""
    config = MapConfig(2, CompletionConfig.first_successful())

    def function(ctx: DurableContext, item: int) -> Any:
        return ctx.create_callback("never").result() if item == 0 else item

    result = mapped(range(3), function, config).result
    assert result["completionReason"] == "MIN_SUCCESSFUL_REACHED"
    assert [(item["index"], item["status"]) for item in result["all"]] == [(0, "STARTED"), (1, "SUCCEEDED")]


def test_an_empty_batch_succeeds_and_can_t_have_a_first_success() -> None:
    """[55]"""
    wire = Recording()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        first = CompletionConfig.first_successful()
        with pytest.raises(ValidationError, match="min_successful is 1, and there are only 0 items"):
            context.map([], lambda c, i: i, config=MapConfig(completion_config=first))
        with pytest.raises(ValidationError, match="min_successful is 1"):
            context.parallel([], config=ParallelConfig(completion_config=first))
        assert wire.shape() == []
        empty: list[Any] = []
        return [context.map(empty, lambda c, i: i).to_dict(), context.parallel(empty).to_dict()]

    outcome = Local(handler, client=wire.client).run()
    assert outcome.result == [{"all": [], "completionReason": "ALL_COMPLETED"}] * 2
    assert [each.sub_type for each in outcome.operations] == ["Map", "Parallel"]


@pytest.mark.parametrize("nesting", list(NestingType))
def test_at_most_so_many_branches_are_in_flight_those_that_wait_included(nesting: NestingType) -> None:
    """[56]"""
    bodies: list[int] = []
    flights: list[int] = []
    ended: set[int] = set()

    def function(ctx: DurableContext, item: int) -> int:
        bodies.append(item)
        flights.append(len(set(bodies) - ended))
        ctx.wait(1 + item % 3, name=f"w{item}")
        value = ctx.step(lambda _: item, name=f"s{item}")
        ended.add(item)
        return value

    outcome = mapped(range(7), function, MapConfig(2, nesting_type=nesting))
    assert results(outcome) == list(range(7))
    assert max(flights) == 2
    began = [each for each in outcome.shown if each == "WaitStarted"]
    assert len(began) == 7


def test_branches_start_in_the_order_of_their_indexes_and_results_come_back_in_it() -> None:
    """[57]"""
    release = [threading.Event() for _ in range(3)]
    started: list[int] = []
    ended: list[int] = []
    turns = [threading.Event() for _ in range(4)]

    def function(ctx: DurableContext, item: int) -> int:
        started.append(item)
        turns[item].set()
        if item < 3:
            assert release[item].wait(WAIT_S)
        else:
            for each in reversed(release):
                each.set()
        value = ctx.step(lambda _: item * 10)
        ended.append(item)
        return value

    assert results(mapped(range(4), function)) == [0, 10, 20, 30]
    assert started == [0, 1, 2, 3]
    assert sorted(ended) == [0, 1, 2, 3]


def test_throw_if_error_names_the_first_that_failed() -> None:
    """[59]"""
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> int:
            if item:
                raise LookupError(f"item {item}")
            return item

        everything = MapConfig(completion_config=CompletionConfig.all_completed())
        batch = context.map(range(3), function, config=everything)
        with pytest.raises(ChildContextError, match="item 1") as caught:
            batch.throw_if_error()
        seen.append((caught.value.error_type, batch.get_results()))
        failed = MapConfig(1, CompletionConfig(should_complete=lambda status: complete_batch("FAILED")))
        verdict = context.map(range(3), function, config=failed)
        assert [verdict.total_count, verdict.status, verdict.completion_reason] == [
            0,
            "FAILED",
            "CUSTOM_COMPLETION_FAILED",
        ]
        context.wait(1)
        verdict.throw_if_error()

    outcome = Local(handler).run()
    assert seen == [("LookupError", [0])] * 2
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.type == "perdure.concurrency.models.BatchCompletionError"


def test_a_predicate_decides_alone_and_sees_every_change() -> None:
    """[60]"""
    with pytest.raises(ValidationError, match="should_complete decides alone"):
        CompletionConfig(min_successful=1, should_complete=lambda status: continue_batch())
    seen: list[Any] = []

    def enough(status: CompletionStatus) -> CompletionDecision:
        items = [(item.index, item.name, item.status) for item in status.items]
        seen.append((status.success_count, status.failure_count, status.completed_count, status.total_count, items))
        return complete_batch() if status.completed_count == 2 else continue_batch()

    def function(ctx: DurableContext, item: int) -> int:
        if item == 0:
            raise ValueError
        return item

    result = mapped(range(3), function, MapConfig(1, CompletionConfig(should_complete=enough))).result
    assert result["completionReason"] == "CUSTOM_COMPLETION_SUCCEEDED"
    assert [item["status"] for item in result["all"]] == ["FAILED", "SUCCEEDED"]
    fresh = [(index, f"map-item-{index}", None) for index in range(3)]
    assert seen == [
        (0, 0, 0, 3, fresh),
        (0, 1, 1, 3, [(0, "map-item-0", "FAILED"), *fresh[1:]]),
        (1, 1, 2, 3, [(0, "map-item-0", "FAILED"), (1, "map-item-1", "SUCCEEDED"), fresh[2]]),
    ]


def test_a_predicate_that_never_decides_ends_with_all_completed() -> None:
    config = MapConfig(completion_config=CompletionConfig(should_complete=lambda status: continue_batch()))
    assert mapped([1], lambda c, i: i, config).result["completionReason"] == "ALL_COMPLETED"


@pytest.mark.parametrize("answer", [True, None, CompletionOutcome.SUCCEEDED])
def test_a_predicate_that_decides_nothing_known_fails_the_batch(answer: Any) -> None:
    config = MapConfig(completion_config=CompletionConfig(should_complete=lambda status: answer))
    outcome = mapped([1], lambda c, i: i, config)
    assert outcome.status is ExecutionStatus.FAILED
    assert "should_complete must return continue_batch() or complete_batch()" in outcome.error.message
