"""Determinism: replayed with another clock, other random numbers and another order of sets, code asks for the same.

`python -m perdure.testing.determinism`, with a question on stdin, is a process that replays with its own hash seed.
"""

import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from perdure.exceptions import NonDeterministicExecutionError
from perdure.execution import definition_of
from perdure.model.operation import Operation
from perdure.sdk.errors import error_object
from perdure.testing.clock import VirtualClock
from perdure.testing.local_runner import LocalRunner
from perdure.testing.patched_time import PatchedTime
from perdure.testing.replaying.replayer import Replayer
from perdure.testing.result import Result
from perdure.testing.runner import as_durable

Handler = Callable[..., Any]

ELSEWHEN: Final = timedelta(days=403, hours=7, minutes=13, seconds=29)
"""Another year, month, day of the week, hour, minute and second."""

HASH_SEED: Final = 101


class NotDeterministic(AssertionError):
    """A handler asks for other operations when it is replayed. The message has the first one, with its line."""


def assert_deterministic(
    handler: Handler,
    input: Any = None,  # noqa: A002 - the official name
    *,
    setup: Callable[[LocalRunner], object] | None = None,
    hash_seeds: int = 1,
    **options: Any,
) -> Result:
    """Run an execution; replay what it has recorded with another clock and other random numbers; then in `hash_seeds`
    other processes, with another order of sets each; and run it once with each operation ending its invocation. It
    must ask for the same operations each time. Returns the result of the first run.

    `setup` gets the runner of each run before it begins, `options` are those of `LocalRunner`. Another process can't
    load a handler that is defined within a function, or in a script: its order of sets stays. Raises NotDeterministic.
    """
    durable = as_durable(handler)
    result = _run(durable, input, setup, options)
    check_replay(durable, result, hash_seeds=hash_seeds)
    replayed = _run(durable, input, setup, {**options, "always_replay": True})
    _compare(result, replayed)
    return result


def check_replay(handler: Handler, result: Result, *, hash_seeds: int = 1) -> None:
    """The same for what a result has recorded. Raises NotDeterministic."""
    history = result.to_json()
    with _elsewhen(1):
        _judge(_replayed(handler, history), "another clock and other random numbers")
    place = _place_of(handler)
    for number in range(hash_seeds if place is not None else 0):
        found = _in_process({"place": place, "history": history, "seed": HASH_SEED + number})
        _judge(found, f"another order of sets (PYTHONHASHSEED={HASH_SEED + number})")


def _run(handler: Handler, given: Any, setup: Any, options: Mapping[str, Any]) -> Result:
    with LocalRunner(handler, **options) as runner:
        if setup is not None:
            setup(runner)
        result: Result = runner.run(given)
    error = result.facts.error
    if error is not None and error.type == error_object(NonDeterministicExecutionError("")).type:
        raise NotDeterministic(f"the handler does not get to its end: {error.message}")
    return result


def _replayed(handler: Handler, history: str) -> str | None:
    """Where code and record part; None if they don't."""
    found = Replayer(handler).replay(json.loads(history))
    return None if found.is_compatible else str(found.divergence or found)


def _judge(divergence: str | None, how: str) -> None:
    if divergence is not None:
        raise NotDeterministic(f"replayed with {how}, the handler goes another way. {divergence}")


@contextmanager
def _elsewhen(seed: int) -> Iterator[None]:
    """Another time, and other random numbers."""
    before = random.getstate()
    patched = PatchedTime(VirtualClock(datetime.now(UTC) + seed * ELSEWHEN))
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        patched.undo()


def _compare(result: Result, replayed: Result) -> None:
    """Raise NotDeterministic if two runs of the same code are not made of the same operations."""
    one, other = ({each.id: _words(each) for each in found.facts.operations} for found in (result, replayed))
    for operation_id in [*one, *(each for each in other if each not in one)]:
        before, after = one.get(operation_id, "nothing"), other.get(operation_id, "nothing")
        if before != after:
            raise NotDeterministic(
                f"when each operation ends its invocation, the handler goes another way: where {before} was, {after} is"
            )
    if result.facts.status is not replayed.facts.status:
        raise NotDeterministic(
            f"when each operation ends its invocation, the execution is {replayed.facts.status} instead of "
            f"{result.facts.status}: {replayed.facts.error.message if replayed.facts.error is not None else ''}"
        )


def _words(operation: Operation) -> str:
    return f"{operation.type} '{operation.name}'" if operation.name else f"an unnamed {operation.sub_type}"


# --- another process ---------------------------------------------------------------------------------------------


def _place_of(handler: Handler) -> tuple[str, str, str] | None:
    """Where another process finds a function: module, file, name; None if it can't."""
    definition = definition_of(handler)
    function = definition.handler if definition is not None else handler
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(function, "__qualname__", "")
    file = getattr(module, "__file__", None)
    if module is None or file is None or "<" in name or module.__name__ == "__main__":
        return None
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    durable = definition_of(found)
    return (module.__name__, file, name) if durable is not None and durable.handler is function else None


def _in_process(question: Mapping[str, Any]) -> str | None:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(question["seed"]),
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
    }
    done = subprocess.run(
        [sys.executable, "-m", "perdure.testing.determinism"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the process that was to replay failed: {done.stderr.strip()[-1000:]}")
    answer: str | None = json.loads(done.stdout.splitlines()[-1])
    return answer


def _load(name: str, file: str, path: str) -> Handler:
    """The function in a process that has none of the other one's modules."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        module = None
    if module is None or Path(getattr(module, "__file__", None) or "") != Path(file):
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    handler: Handler = found
    return handler


def main() -> None:
    """Answer one question: where do the code and this history part?"""
    question = json.load(sys.stdin)
    handler = _load(*question["place"])
    with _elsewhen(2):
        answer = _replayed(handler, question["history"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
