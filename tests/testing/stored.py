"""Executions of random programs, as a service has stored them at some moment."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from perdure import DurableContext, durable_execution
from perdure.model.error import CallbackTimeout
from perdure.store.protocol import Query
from simulation.interpreter import Interpreter, Teller
from simulation.oracle import Facts
from simulation.programs import Author
from support.local import Local


class _Deaf(Facts):
    """Nobody who watches what a program does; attempts that are to fail are counted."""

    def __init__(self) -> None:
        self.failures = {}

    def body(self, path: str, attempt: int, *, once: bool) -> None: ...
    def wait_begins(self, path: str, seconds: int) -> None: ...
    def wait_over(self, path: str) -> None: ...
    def undone(self, name: str) -> None: ...
    def saw(self, path: str, operation: dict[str, Any], value: Any) -> None: ...


def _handle(event: Any, context: DurableContext) -> Any:
    return Interpreter(Teller(), _Deaf()).run(context, event)


def _refuse(event: Any, _context: Any) -> Any:
    raise ValueError(f"{event} is refused")


PROGRAM = durable_execution(name="program")(_handle)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "program": PROGRAM,
    "short": durable_execution(name="short")(_handle),
    "plain": lambda event, _context: f"plain {event}",
    "refusing": _refuse,
}


def moments(seed: int) -> Iterator[tuple[Local, str]]:
    """The service, and one of its executions, at many moments of a program's life; chained ones among them."""
    rng = random.Random(seed)
    local = Local(functions=FUNCTIONS, seed=seed)
    execution_id = local.start({"ops": Author(rng).program()}, function="program")
    for _ in range(80):
        local.go_on(execution_id, until_s=rng.choice([0, 1, 40, 5_000]))
        rows = local.store.search(Query(now_ms=local.clock.now, limit=100)).rows
        for row in rows:
            if row.function in ("program", "short"):
                yield local, row.execution_id
        if local.service.get(execution_id).end_ms is not None:
            return
        for callback in local.service.open_callbacks():
            if rng.random() < 0.5:
                answer(local, callback.callback_id)


def answer(local: Local, callback_id: str) -> None:
    try:
        local.service.succeed_callback(callback_id, "answered")
    except CallbackTimeout:
        pass  # it has closed meanwhile
