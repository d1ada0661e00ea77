"""The threads of an invocation's branches: who waits goes on once for each change."""

import threading
from collections.abc import Coroutine
from typing import Any

from perdure.model.operation import Operation, OperationStatus, Wait
from perdure.sdk.drivers.crew import Crew, Unit
from perdure.sdk.journal import suspension


def test_a_branch_that_waits_for_an_operation_in_several_ways_goes_on_once() -> None:
    """A race within a branch names what it waits for, and what the race waits for: the same."""
    records: dict[str, Operation] = {}
    crew = Crew(records.get, lambda: None)
    group = crew.group()
    runs: list[int] = []
    parked = threading.Event()
    may_end = threading.Event()

    async def branch() -> str:
        if "wait" not in records:
            parked.set()
            raise suspension("a wait", None, ("wait", "wait"))
        runs.append(len(runs) + 1)
        may_end.wait(10)
        return "done"

    def make() -> Coroutine[Any, Any, str]:
        return branch()

    unit = Unit(group, "branch", make)
    group.run_here(unit)
    assert parked.is_set()
    records["wait"] = Wait(id="wait", number=1, status=OperationStatus.SUCCEEDED, start_ms=0)
    crew.changed(records.values())
    may_end.set()
    assert group.next().outcome == "done"
    assert crew.wait_quiet(10)
    assert runs == [1]
    assert group.poll() is None
