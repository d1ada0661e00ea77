"""What each program may observe, and what every journal must be: the judge of the simulation.

While programs run, `Facts` remembers what they were told and what their bodies did, each with the number of the last
commit before it. Afterwards `judge` reads the journals and holds them against the facts: what was seen must have been
on disk before, what must happen once has happened once, nothing was early, nothing is missing.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from perdure.model.execution import ENDED, ExecutionRow, ExecutionStatus
from simulation.journals import Leases, Log, Reading, Violation
from simulation.programs import ALWAYS, Operation, Program

__all__ = ["CallbackFacts", "Facts", "Oracle", "Violation"]


class Ground(Protocol):
    """What the oracle sees of the world. `commits` counts those of all executions.

    Up to the commit `exact_until` no time-out is late, but for `passed_ms` that bodies took.
    """

    exact_until: int
    passed_ms: int
    commits: int
    slack_ms: int
    now: int

    @property
    def epoch(self) -> int: ...


class CallbackFacts:
    """What clients have said to one callback, and what they were answered."""

    __slots__ = ("accepted", "accepted_at", "accepted_text", "execution", "maybe", "path", "refused")

    def __init__(self, execution: str, path: str) -> None:
        self.execution = execution
        self.path = path
        self.accepted: str | None = None
        self.accepted_at = 0
        self.accepted_text = ""
        self.maybe: list[str] = []
        self.refused: list[str] = []
        """Answers of which the client does not know whether they were taken."""

    def was_accepted(self, answer: str, text: str, commits: int) -> None:
        """`text` is what the service was given, `answer` what a program sees of it."""
        if self.accepted is not None:
            raise Violation(f"the callback of {self.path} took {self.accepted!r} and later {answer!r}")
        self.accepted = answer
        self.accepted_at = commits
        self.accepted_text = text

    def may_be(self, answer: str) -> bool:
        return self.accepted == answer if self.accepted is not None else answer in self.maybe


class Facts:
    """All that is known of one execution from outside of the service. Survives every crash."""

    __slots__ = (
        "bodies",
        "callbacks",
        "event",
        "execution",
        "failures",
        "ground",
        "once",
        "promises",
        "seen",
        "undos",
        "waits",
        "writes",
    )

    def __init__(self, ground: Ground, execution: str, event: dict[str, Any]) -> None:
        self.ground = ground
        self.execution = execution
        self.event = event
        self.bodies: list[tuple[int, str, int, int]] = []
        self.once: set[tuple[str, int]] = set()
        self.seen: dict[str, tuple[int, Any]] = {}
        self.failures: dict[str, int] = {}
        self.waits: dict[str, int] = {}
        self.undos: list[str] = []
        self.callbacks: dict[str, CallbackFacts] = {}
        self.promises: list[tuple[int, str]] = []
        self.writes: list[tuple[int, int]] = []

    # --- told by the interpreter -----------------------------------------------------------------------------

    def body(self, path: str, attempt: int, *, once: bool) -> None:
        ground = self.ground
        self.bodies.append((ground.commits, path, attempt, ground.epoch))
        if once:
            if (path, attempt) in self.once:
                raise Violation(f"the body of {path} ran twice in its attempt {attempt}, and it is at most once")
            self.once.add((path, attempt))

    def fails_on_purpose(self, path: str, failures: int) -> bool:
        done = self.failures.get(path, 0)
        if done < failures:
            self.failures[path] = done + 1
        return done < failures

    def wait_begins(self, path: str, seconds: int) -> None:
        self.waits.setdefault(path, self.ground.now + seconds * 1000)

    def wait_over(self, path: str) -> None:
        early_ms = self.waits[path] - self.ground.now - self.ground.slack_ms
        if early_ms > 0:
            raise Violation(f"{path} was over {early_ms} ms early")

    def undone(self, name: str) -> None:
        if name not in self.undos:
            self.undos.append(name)

    def saw(self, path: str, operation: Operation, value: Any) -> None:
        """The program goes on with this value. It is the same however often the program runs."""
        before = self.seen.get(path)
        if before is None:
            self.seen[path] = (self.ground.commits, value)
            _JUDGES[operation["do"]](self, path, operation, value)
        elif before[1] != value:
            raise Violation(f"{path} was {_shown(before[1])}, and later it was {_shown(value)}")

    # --- what follows ------------------------------------------------------------------------------------------

    def values(self, program: Program, place: str) -> list[Any]:
        """What the operations of a list have come to. All must have been seen."""
        try:
            return [self.seen[f"{place}{number}"][1] for number in range(len(program))]
        except KeyError as missing:
            raise Violation(f"{place or 'the program'} is over, and nobody has seen the value of {missing}") from None

    def expect(self, path: str, value: Any, *allowed: Any) -> None:
        if value not in allowed:
            raise Violation(f"{path} is {_shown(value)}, it can only be {' or '.join(map(_shown, allowed))}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else text[:200] + "…"


# --- what values may be ------------------------------------------------------------------------------------------


def _step(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    size = operation.get("bytes", 0)
    good = [path, len(path) + size] if size else path
    bad = ["!", "StepError"]
    fails, attempts = operation.get("fails", 0), operation.get("attempts", 0)
    if operation.get("timeout"):
        facts.expect(path, value, good, bad)
    elif fails == ALWAYS or (attempts and fails >= attempts and not operation.get("once")):
        facts.expect(path, value, bad)
    elif attempts and operation.get("once"):
        facts.expect(path, value, good, bad)  # an interruption is an attempt that failed
    else:
        facts.expect(path, value, good)


def _saga(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    names = [f"{path}.{number}" for number in range(len(operation["body"]))]
    undos = [name for name in facts.undos if name.startswith(f"{path}.")]
    if operation["raises"]:
        facts.expect(path, value, ["undone", names])
        facts.expect(f"{path}, undone", undos, names[::-1])
    else:
        facts.expect(path, value, ["done", names])
        facts.expect(f"{path}, undone", undos, [])


def _wait(facts: Facts, path: str, _operation: Operation, value: Any) -> None:
    facts.expect(path, value, None)


def _condition(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    raises = operation.get("raises", 0)
    polls = operation["polls"]
    facts.expect(path, value, ["!", "WaitForConditionError"] if 0 < raises <= polls else polls)


def _answer(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    """What a callback has come to must be what somebody has answered; if an answer was taken, that one."""
    callback = facts.callbacks.get(path)
    if callback is None:
        raise Violation(f"{path} has the answer {_shown(value)}, and its callback was never handed out")
    if value == ["!", "CallbackTimeoutError"]:
        if callback.accepted is not None:
            raise Violation(f"{path} timed out, and it had taken the answer {callback.accepted!r}")
        if not operation.get("timeout_s") and not operation.get("heartbeat_s"):
            raise Violation(f"{path} timed out, and has no time-out")
        return
    answer = "no" if value == ["!", "CallbackExternalError"] else value
    if not callback.may_be(answer):
        raise Violation(
            f"{path} has the answer {_shown(value)}; taken was {callback.accepted!r}, perhaps taken {callback.maybe}"
        )


def _callback(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    between = operation.get("between", ())
    facts.expect(path, value[:-1], facts.values(between, f"{path}."))
    _answer(facts, path, operation, value[-1])


def _wait_for_callback(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    if operation.get("submitter_fails") == ALWAYS:
        facts.expect(path, value, ["!", "CallbackSubmitterError"])
    elif not (value == ["!", "CallbackTimeoutError"] and path not in facts.callbacks):
        _answer(facts, path, operation, value)


def _race(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    if value == ["waited"]:
        facts.wait_over(path)
    elif value == ["!", "PromiseCombinatorError"]:
        callback = facts.callbacks[f"{path} callback"]
        has_limit = operation.get("timeout_s") or operation.get("heartbeat_s")
        if not has_limit and not callback.may_be("no"):
            raise Violation(f"{path} failed, and nobody has failed its callback")
    else:
        facts.expect(path, value[0], "answered")
        _answer(facts, f"{path} callback", operation, value[1])


def _call(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    facts.expect(path, value, ["!", "InvokeError"] if operation.get("fails") else f"plain {path}")


def _invoke(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    """What the child has come to is held against the child's journal, later."""
    if operation.get("raises"):
        facts.expect(path, value, ["!", "InvokeError"])


def _child(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    values = facts.values(operation["body"], f"{path}.")
    if operation.get("raises"):
        facts.expect(path, value, ["!", "ChildContextError"])
    elif operation.get("bytes"):
        facts.expect(path, value, [values, operation["bytes"]])
    else:
        facts.expect(path, value, values)


def _batch(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    reason, items = value
    bodies, failing = operation["bodies"], operation["failing"]
    done = failures = 0
    for index, status, result in items:
        if status == "SUCCEEDED":
            done += 1
            facts.expect(f"{path}.{index}", result, facts.values(bodies[index], f"{path}.{index}."))
        elif status == "FAILED":
            failures += 1
            facts.values(bodies[index], f"{path}.{index}.")
        if (index in failing) != (status == "FAILED") and status != "STARTED":
            raise Violation(f"branch {index} of {path} is {status}")
    if not _is_complete(operation, len(bodies), done, failures):
        raise Violation(f"{path} is over ({reason}) with {done} done and {failures} failed of {len(bodies)}")


def _is_complete(operation: Operation, count: int, done: int, failures: int) -> bool:
    kind, number = operation["until"]
    if done + failures == count:
        return True
    match kind:
        case "all_completed":
            return False
        case "first_successful":
            return done >= 1
        case "min_successful":
            return bool(done >= number)
        case "tolerated_count":
            return bool(failures > number)
        case "tolerated_percentage":
            return bool(failures * 100 > number * count)
        case "predicate":
            return bool(done + failures >= min(number, count))
        case _:
            return failures > 0


def _futures(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    bodies = operation["bodies"]
    if operation["how"] in ("any", "race"):
        ended = [index for index in range(len(bodies)) if _has_all(facts, bodies[index], f"{path}.{index}.")]
        facts.expect(path, value, *(facts.values(bodies[index], f"{path}.{index}.") for index in ended))
        return
    values = [facts.values(body, f"{path}.{index}.") for index, body in enumerate(bodies)]
    facts.expect(path, value, sorted(values, key=str) if operation["how"] == "completed" else values)


def _has_all(facts: Facts, program: Program, place: str) -> bool:
    return all(f"{place}{number}" in facts.seen for number in range(len(program)))


def _timeout(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    if value != ["timeout"]:
        facts.expect(path, value, facts.values(operation["body"], f"{path}."))


def _marker(facts: Facts, path: str, operation: Operation, value: Any) -> None:
    kind = operation["kind"]
    if kind in ("patched", "version"):
        facts.expect(path, value, True if kind == "patched" else 3)


_JUDGES: Final[dict[str, Callable[[Facts, str, Operation, Any], None]]] = {
    "step": _step,
    "saga": _saga,
    "wait": _wait,
    "condition": _condition,
    "callback": _callback,
    "wait_for_callback": _wait_for_callback,
    "race": _race,
    "call": _call,
    "invoke": _invoke,
    "again": _invoke,
    "child": _child,
    "map": _batch,
    "parallel": _batch,
    "futures": _futures,
    "timeout": _timeout,
    "marker": _marker,
}


# --- the judgement -----------------------------------------------------------------------------------------------


class Oracle:
    """Holds the journals against the facts once a world is over."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.executions: dict[str, Facts] = {}
        self.readings: dict[str, Reading] = {}

    def facts_of(self, execution: str, event: dict[str, Any]) -> Facts:
        facts = self.executions.get(execution)
        if facts is None:
            facts = self.executions[execution] = Facts(self.ground, execution, event)
        return facts

    def judge(
        self, execution: str, rows: Sequence[bytes], log: Log, leases: Leases, row: ExecutionRow | None
    ) -> Reading:
        """One execution: its journal by itself, and against what its program was told."""
        ground = self.ground
        reading = self.readings[execution] = Reading(
            execution, rows, log, leases, ground.slack_ms, ground.passed_ms, ground.exact_until
        )
        if row is not None:
            _check_row(reading, row)
        facts = self.executions.get(execution)
        if facts is not None:
            _check_seen(facts, reading)
            _check_bodies(facts, reading)
            _check_promises(facts, reading)
            _check_writes(facts, reading)
            _check_callbacks(facts, reading)
            _check_end(facts, reading)
        return reading

    def judge_links(self) -> None:
        """Every chained invoke has the child that it asked for, once, and that child's outcome."""
        readings = self.readings
        children: dict[tuple[str, str], str] = {}
        for child, reading in readings.items():
            if reading.parent is None:
                continue
            link = (reading.parent.execution_id, reading.parent.operation_id)
            if children.setdefault(link, child) != child:
                raise Violation(f"{child} and {children[link]} are both the child of {link}")
            parent = readings.get(link[0])
            if parent is None:
                continue
            invoke = parent.operations.get(link[1])
            if invoke is None or invoke.child != child:
                raise Violation(f"{child} says that it is the child of {link}, which does not know it")
            if reading.ended_at and invoke.is_over and not _agree(invoke.outcome, reading):
                raise Violation(
                    f"{child} ended {reading.status} {reading.result}, its parent was told {invoke.outcome}"
                )


def _agree(outcome: tuple[str, Any] | None, child: Reading) -> bool:
    if outcome is None:
        return True
    status, result = outcome
    return status == str(child.end_status) and (status != "SUCCEEDED" or result == child.result)


def _check_row(reading: Reading, row: ExecutionRow) -> None:
    status = reading.status
    if row.status is not status:
        raise Violation(f"{row.execution_id} is {row.status} in the lists and {status} in its journal")
    if status not in ENDED:
        if row.wake_at_ms is None:
            raise Violation(f"{row.execution_id} is {status}, and nobody will ever look at it")
    elif (row.wake_at_ms is not None) != reading.owes_parent:
        raise Violation(f"{row.execution_id} is {status} and is to be looked at at {row.wake_at_ms}")


def _check_seen(facts: Facts, reading: Reading) -> None:
    """Durable before visible."""
    ended = reading.ended_by_name
    for path, (commits, value) in facts.seen.items():
        at = ended.get(path)
        if at is not None and (at == 0 or at > commits):
            raise Violation(
                f"{path} was shown as {_shown(value)} at commit {commits}, it was on disk with {at or 'none'}"
            )


def _check_bodies(facts: Facts, reading: Reading) -> None:
    """No body runs once its step is over, save in an invocation that has lost the right to write and does not know."""
    ended = reading.ended_by_name
    for commits, path, attempt, epoch in facts.bodies:
        at = ended.get(path)
        if at and at <= commits and not reading.is_superseded(epoch, commits):
            raise Violation(f"the body of {path} ran (attempt {attempt}) at commit {commits}, it was over with {at}")


def _check_promises(facts: Facts, reading: Reading) -> None:
    """What a client was told has happened is on disk."""
    for commits, what in facts.promises:
        at = reading.promised_at(what)
        if at is None or at > commits:
            raise Violation(f"a client was told that {facts.execution} is {what}; on disk that is at commit {at}")


def _check_writes(facts: Facts, reading: Reading) -> None:
    for commits, epoch in facts.writes:
        if reading.is_superseded(epoch, commits):
            raise Violation(
                f"invocation {epoch} of {facts.execution} wrote at commit {commits}; it had been superseded"
            )


def _check_callbacks(facts: Facts, reading: Reading) -> None:
    for path, callback in facts.callbacks.items():
        if callback.accepted is None:
            continue
        at = reading.answered_at(callback.accepted_text)
        if at is None or at > callback.accepted_at:
            raise Violation(f"{path} took {callback.accepted!r} and it is not on disk")


def _check_end(facts: Facts, reading: Reading) -> None:
    status, event = reading.end_status, facts.event
    if status is ExecutionStatus.SUCCEEDED:
        if event.get("raises"):
            raise Violation(f"{facts.execution} succeeded, and its handler raises")
        result = json.loads(reading.result or "null")
        values = facts.values(event["ops"], "")
        if result != values:
            raise Violation(f"{facts.execution} returned {_shown(result)} instead of {_shown(values)}")
    elif status is ExecutionStatus.FAILED and not event.get("raises"):
        raise Violation(f"{facts.execution} failed with {reading.error}, and nothing in it fails")
