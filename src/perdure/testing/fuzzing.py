"""Schedule fuzzing: whatever the order in which branches run, timers fire and callbacks are answered, one result."""

import asyncio
import contextlib
import inspect
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from perdure.engine import commands as cmd
from perdure.model.error import ServiceError
from perdure.model.execution import ENDED
from perdure.model.operation import (
    Callback,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from perdure.sdk.client import Answer
from perdure.testing.crashing.compare import (
    Difference,
    Ending,
    Path,
    beyond,
    differences,
    ending_of,
    in_words,
    may_vary,
)
from perdure.testing.crashing.watch import described
from perdure.testing.facts import Facts
from perdure.testing.faults import Plan, Script
from perdure.testing.handles import Execution, as_answer, callbacks_called
from perdure.testing.local_runner import LocalRunner
from perdure.testing.result import Result
from perdure.testing.runner import as_durable

Handler = Callable[..., Any]

PAUSES_MAX: Final = 3
"""So many times is something else let go first."""

LATE_MS: Final = (0, 0, 1, 1_000)
"""So much later than due are timers looked at: those that are due by then fire together."""

TWICE_SHARE: Final = 0.3

Created = Callable[[Sequence[Operation], Callable[[], Sequence[Operation]]], None]


class ScheduleDependent(AssertionError):
    """What becomes of an execution depends on the order of things. `seed` gives the order that differs from `first`."""

    def __init__(self, message: str, seed: int, first: int) -> None:
        super().__init__(message)
        self.seed = seed
        self.first = first


def fuzz_schedules(
    handler: Handler,
    input: Any = None,  # noqa: A002 - the official name
    *,
    seeds: int | Iterable[int] = 20,
    callbacks: Mapping[str, Any] | None = None,
    setup: Callable[[LocalRunner], object] | None = None,
    **options: Any,
) -> list[Result]:
    """Run an execution once for each seed, and compare status, result and error. Returns the results.

    A seed draws the order in which the branches of maps, parallels and started operations run, how late timers are
    looked at (those that are due by then fire together), and when each of `callbacks`, values by name, is answered:
    before it is waited for, when nothing else goes on, or after some more time has passed; sometimes twice. The same
    seed gives the same order. `seeds` are so many from 0, or those that are given.

    Of handlers that are `async def` the seed draws how often bodies let others go first; the loop does the rest.
    Raises ScheduleDependent, which names the seed.
    """
    durable = as_durable(handler)
    wanted = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    first: _Run | None = None
    volatile: set[Path] = set()
    results = []
    for seed in wanted:
        run = _Run(durable, input, seed, callbacks or {}, setup, options)
        results.append(run.result)
        if first is None:
            first = run
            again = _Run(durable, input, seed, callbacks or {}, setup, {"seed": seed + 1, **options})
            volatile = {each.path for each in differences(run.ending, again.ending) if may_vary(each)}
            continue
        found = beyond(differences(first.ending, run.ending), volatile)
        if found:
            raise ScheduleDependent(_said(first, run, found), seed, first.seed)
    return results


def _said(first: "_Run", run: "_Run", found: Sequence[Difference]) -> str:
    texts = [in_words(each, first.ending) for each in found]
    return "\n".join(
        [
            f"with seed {run.seed}, {texts[0]}",
            *(f"  {text}" for text in texts[1:]),
            f"the order with seed {first.seed}: {', '.join(first.order)}",
            f"the order with seed {run.seed}: {', '.join(run.order)}",
            f"again: fuzz_schedules(…, seeds=[{first.seed}, {run.seed}])",
        ]
    )


class _Run:
    """One execution in the order that a seed gives. `order` says what happened, in words."""

    def __init__(
        self,
        handler: Handler,
        given: Any,
        seed: int,
        callbacks: Mapping[str, Any],
        setup: Callable[[LocalRunner], object] | None,
        options: Mapping[str, Any],
    ) -> None:
        self.seed = seed
        self._rng = random.Random(f"schedule {seed}")
        self._callbacks = callbacks
        self._left: dict[str, int] = {}
        plan = FuzzedPlan(self._rng, self._created)
        with FuzzedRunner(handler, plan, **{"seed": seed, "schedule_seed": seed, **options}) as runner:
            if setup is not None:
                setup(runner)
            self._runner = runner
            self._backend = runner.backend
            facts = self._facts_of(runner.start(given))
            self.result: Result = runner.as_result(facts)
        self.order = plan.order
        ending = ending_of(facts, None)
        self.ending: Ending = ending._replace(operations={})

    def _facts_of(self, execution: Execution) -> Facts:
        """Let it go on to its end: what fires, and what is answered, is drawn each time nothing runs."""
        backend, clock = self._backend, self._runner.clock
        clock.auto = False
        while True:
            backend.until(
                lambda: backend.desk.is_idle and self._runner.answer_callbacks(execution),
                wall_s=self._runner.wall_timeout,
                what="the execution to be at rest",
                arn=execution,
            )
            if execution.status in ENDED:
                facts: Facts = backend.facts(execution)
                return facts
            due_ms = backend.pace.next_due_ms()
            if self._answer_one(backend.operations(execution), due_ms):
                continue
            if due_ms is None:
                clock.auto = True
                self._runner.finish(execution)  # says what it waits for
            else:
                late_ms = self._rng.choice(LATE_MS)
                clock.move_to(max(due_ms, clock.now_ms()) + late_ms)
                backend.service.tick()

    # --- callbacks -----------------------------------------------------------------------------------------------

    def _created(self, created: Sequence[Operation], operations: Callable[[], Sequence[Operation]]) -> None:
        """Callbacks have just been made: some are answered at once, before they can be waited for."""
        for callback in created:
            if not isinstance(callback, Callback) or callback.status is not OperationStatus.STARTED:
                continue
            if callback.callback_id not in self._left:
                self._left[callback.callback_id] = self._rng.randint(-1, PAUSES_MAX)
                if self._left[callback.callback_id] < 0:
                    self._answer(callback, operations())

    def _answer_one(self, operations: Sequence[Operation], due_ms: int | None) -> bool:
        """Answer an open callback whose time has come: by its seed, or because it would be over otherwise."""
        for callback in callbacks_called(operations, None):
            if callback.status is not OperationStatus.STARTED:
                continue
            left = self._left[callback.callback_id] = self._left.get(callback.callback_id, 0) - 1
            ends = [each for each in (callback.timeout_ms, callback.heartbeat_ms) if each is not None]
            is_time = left <= 0 or due_ms is None or any(each <= due_ms + max(LATE_MS) for each in ends)
            if is_time and self._answer(callback, operations):
                return True
        return False

    def _answer(self, callback: Callback, operations: Sequence[Operation]) -> bool:
        for name, value in self._callbacks.items():
            if any(each.id == callback.id for each in callbacks_called(operations, name)):
                text = as_answer(value(callback.callback_id) if callable(value) else value)
                self._backend.succeed_callback(callback.callback_id, text)
                if self._rng.random() < TWICE_SHARE:
                    with contextlib.suppress(ServiceError):
                        self._backend.succeed_callback(callback.callback_id, text)
                return True
        return False


class FuzzedRunner(LocalRunner):
    """A local runner with a plan that is given."""

    def __init__(self, handler: Handler, plan: "FuzzedPlan", **options: Any) -> None:
        super().__init__(handler, **options)
        self._plan = plan


class FuzzedPlan(Plan):
    """Tells of callbacks when they are made, and notes in which order operations begin and end."""

    def __init__(self, rng: random.Random, created: Created) -> None:
        super().__init__()
        self.rng = rng
        self.created = created
        self.order: list[str] = []

    def __bool__(self) -> bool:
        return True

    def script(self, client: Any) -> "FuzzedScript":
        return FuzzedScript(self, client)


class FuzzedScript(Script):
    """What happens to one invocation in a fuzzed run."""

    def __init__(self, plan: FuzzedPlan, client: Any) -> None:
        super().__init__(plan, client)
        self._fuzzed = plan

    def checkpoint(
        self, updates: Sequence[OperationUpdate], number: int, send: Callable[..., Answer], client_token: str
    ) -> Answer:
        answer = super().checkpoint(updates, number, send, client_token)
        self._told(updates)
        made = {each.id for each in updates if each.type is OperationType.CALLBACK}
        if made:
            self._fuzzed.created([each for each in answer.operations if each.id in made], self._client.recorded)
        return answer

    def ending(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        super().ending(outcome, updates)
        self._told(updates)

    def _told(self, updates: Sequence[OperationUpdate]) -> None:
        for update in updates:
            if update.action is not OperationAction.START or update.type is not OperationType.STEP:
                self._fuzzed.order.append(described(update))

    def instead(
        self, operation_id: str, attempt: int, body: Callable[[], Any], function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], Callable[..., Any]]:
        body, function = super().instead(operation_id, attempt, body, function)
        if not _is_on_loop():
            return body, function
        turns = self._fuzzed.rng.randint(0, PAUSES_MAX)

        async def after_others() -> Any:
            for _ in range(turns):
                await asyncio.sleep(0)
            result = body()
            return await result if inspect.isawaitable(result) else result

        return after_others, after_others


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
