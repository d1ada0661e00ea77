"""A snapshot keeps what an execution did, and shows what it does otherwise."""

from pathlib import Path
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.testing import Result, snapshot, snapshot_text
from support.kit import NEVER, run, shop


@pytest.fixture(scope="module")
def result() -> Result:
    return run(shop, 7)


def test_a_snapshot_has_the_outcome_and_a_line_for_each_operation_and_nothing_that_varies() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def fails(_: Any) -> None:
            raise ValueError("two\nlines")

        context.wait(90, name="pause")
        context.parallel([lambda inner: inner.step(lambda _: event, name="in")], name="both")
        context.step(fails, name="fails", config=NEVER)

    text = snapshot_text(run(handler, {"a": 1}))
    assert text == snapshot_text(run(handler, {"a": 1}))
    assert text.splitlines() == [
        "FAILED",
        "error: perdure.exceptions.StepError: two\\nlines",
        "  pause [WAIT] SUCCEEDED for 1 min 30 s",
        "  both [Parallel] SUCCEEDED = 1 of 1 succeeded, ALL_COMPLETED",
        "    parallel-branch-0 [ParallelBranch] SUCCEEDED = {'a': 1}",
        "      in [STEP] SUCCEEDED = {'a': 1}",
        "  fails [STEP] FAILED error: ValueError: two\\nlines",
    ]


def test_the_first_snapshot_is_written_only_when_asked_for(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "shop.txt"
    with pytest.raises(AssertionError, match=r"there is no snapshot .*--perdure-update"):
        snapshot(result, path=path)
    snapshot(result, path=path, update=True)
    assert path.read_text("utf-8") == snapshot_text(result)
    snapshot(result, path=path)


def test_a_change_is_shown_and_can_be_kept(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shop.txt"
    snapshot(result, path=path, update=True)
    other = run(shop, 8)
    with pytest.raises(AssertionError) as caught:
        snapshot(other, path=path)
    assert '-result: {"state": "done", "for": 7}\n+result: {"state": "done", "for": 8}' in str(caught.value)
    assert other.tree() in str(caught.value)
    monkeypatch.setenv("PERDURE_UPDATE", "1")
    snapshot(other, path=path)
    monkeypatch.delenv("PERDURE_UPDATE")
    snapshot(other, path=path)


def test_a_snapshot_is_kept_beside_the_test_under_its_name(result: Result) -> None:
    with pytest.raises(AssertionError) as caught:
        snapshot(result, "second")
    place = Path(__file__).parent / "__snapshots__"
    name = "test_snapshots.test_a_snapshot_is_kept_beside_the_test_under_its_name.second.txt"
    assert str(place / name) in str(caught.value)
