"""The checker itself: histories that it must accept, histories that it must not, and a slower checker to compare it."""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from linearizability.checker import UNKNOWN, Action, Call, Model, NotLinearizable, order_of
from linearizability.models import Execution, Name, Outcome

LOST = "lost"


def calls(*told: tuple[Action, Any, int, int | None]) -> list[Call]:
    """Calls of as many clients; the answer LOST is that of a call whose client never learned of it."""
    return [
        Call(f"client-{number}", action, UNKNOWN if answer is LOST else answer, invoked, returned)
        for number, (action, answer, invoked, returned) in enumerate(told)
    ]


def is_accepted(model: Model[Any], history: Iterable[Call]) -> bool:
    try:
        order_of(model, history)
    except NotLinearizable:
        return False
    return True


# --- what must be accepted and what must not ----------------------------------------------------------------------

START_A, START_B, FIND = ("start", "a"), ("start", "b"), ("find",)
NAMES_RIGHT = {
    "one after the other": [(START_A, ("started", "1", True), 0, 1), (START_A, ("started", "1", False), 2, 3)],
    "the later asked, the first begun": [
        (START_A, ("started", "1", False), 0, 5),
        (START_A, ("started", "1", True), 1, 2),
    ],
    "refused while it was begun": [(START_A, ("refused",), 0, 9), (START_B, ("started", "1", True), 1, 8)],
    "a lost start that took the name": [(START_A, LOST, 0, None), (START_B, ("refused",), 1, 2), (FIND, "7", 3, 4)],
    "a lost start that never arrived": [(START_A, LOST, 0, None), (START_B, ("started", "1", True), 1, 2)],
    "a lost start that arrived later": [
        (START_A, LOST, 0, None),
        (FIND, None, 1, 2),
        (START_A, ("started", "7", False), 3, 4),
    ],
    "found and not found": [(START_A, ("started", "1", True), 0, 9), (FIND, None, 1, 2), (FIND, "1", 3, 4)],
}
NAMES_WRONG = {
    "begun twice": [(START_A, ("started", "1", True), 0, 1), (START_A, ("started", "2", True), 2, 3)],
    "begun twice at the same time": [(START_A, ("started", "1", True), 0, 3), (START_A, ("started", "2", True), 1, 2)],
    "two executions of one name": [(START_A, ("started", "1", None), 0, 3), (START_A, ("started", "2", None), 1, 2)],
    "refused though equal": [(START_A, ("started", "1", True), 0, 1), (START_A, ("refused",), 2, 3)],
    "refused by nobody": [(START_A, ("refused",), 0, 1)],
    "not refused though different": [(START_A, ("started", "1", None), 0, 1), (START_B, ("started", "1", None), 2, 3)],
    "found no more": [(START_A, ("started", "1", True), 0, 1), (FIND, None, 2, 3)],
    "found before it was asked for": [(FIND, "1", 0, 1), (START_A, ("started", "1", True), 2, 3)],
    "found, and then not": [(START_A, ("started", "1", True), 0, 9), (FIND, "1", 1, 2), (FIND, None, 3, 4)],
    "a lost start that took the name and let it go": [
        (START_A, LOST, 0, None),
        (START_B, ("refused",), 1, 2),
        (START_B, ("started", "1", True), 3, 4),
    ],
}


@pytest.mark.parametrize("what", NAMES_RIGHT)
def test_a_history_of_a_name_that_can_be_explained_is_accepted(what: str) -> None:
    assert is_accepted(Name(), calls(*NAMES_RIGHT[what]))


@pytest.mark.parametrize("what", NAMES_WRONG)
def test_a_history_of_a_name_that_can_not_be_explained_is_rejected(what: str) -> None:
    assert not is_accepted(Name(), calls(*NAMES_WRONG[what]))


YES, NO, BEAT = ("succeed", 0, "yes"), ("fail", 0, "no"), ("heartbeat", 0)
PAUSE, RESUME, STOP, READ, LIST, HISTORY, OPEN = (
    ("pause",),
    ("resume",),
    ("stop",),
    ("read",),
    ("list",),
    ("history",),
    ("open",),
)
RUNNING = ("RUNNING", None, None)
SAID_YES, SAID_NO = (("succeeded", "yes"),), (("failed", "no"),)
EXECUTIONS_RIGHT = {
    "the first answer wins": [(YES, "ok", 0, 5), (NO, "closed", 1, 4), (READ, ("SUCCEEDED", SAID_YES, 9), 6, 7)],
    "it ends in its own time": [
        (YES, "ok", 0, 1),
        (READ, RUNNING, 2, 3),
        (BEAT, "closed", 4, 5),
        (READ, ("SUCCEEDED", SAID_YES, 9), 6, 7),
    ],
    "a lost answer that was taken": [
        (NO, LOST, 0, None),
        (YES, "closed", 1, 2),
        (READ, ("SUCCEEDED", SAID_NO, 9), 3, 4),
    ],
    "paused in the middle": [
        (PAUSE, "ok", 0, 1),
        (READ, ("PAUSING", None, None), 2, 3),
        (YES, "ok", 4, 5),
        (READ, ("PAUSED", None, None), 6, 7),
        (RESUME, "ok", 8, 9),
        (READ, ("SUCCEEDED", SAID_YES, 9), 10, 11),
    ],
    "stopped before its answer": [
        (STOP, ("ok", 9), 0, 5),
        (YES, "ok", 1, 2),
        (NO, "closed", 6, 7),
        (STOP, ("ok", 9), 8, 9),
    ],
    "the end before the pause": [(PAUSE, "conflict", 0, 1), (YES, "ok", -2, -1), (LIST, "SUCCEEDED", 2, 3)],
    "a history that grows": [(HISTORY, 3, 0, 1), (HISTORY, 3, 2, 3), (HISTORY, 5, 4, 5)],
    "what is open is closed": [(OPEN, {0}, 0, 1), (YES, "ok", 2, 3), (OPEN, set(), 4, 5)],
}
EXECUTIONS_WRONG = {
    "two answers accepted": [(YES, "ok", 0, 5), (NO, "ok", 1, 4)],
    "refused by nobody": [(YES, "closed", 0, 1)],
    "another answer seen than accepted": [(YES, "ok", 0, 1), (READ, ("SUCCEEDED", SAID_NO, 9), 2, 3)],
    "the refused answer seen": [
        (YES, "ok", 0, 5),
        (NO, "closed", 1, 4),
        (READ, ("SUCCEEDED", SAID_NO, 9), 6, 7),
    ],
    "ended without an answer": [(READ, ("SUCCEEDED", SAID_YES, 9), 0, 1), (YES, "ok", 2, 3)],
    "an end that was none": [(STOP, ("ok", 9), 0, 1), (READ, RUNNING, 2, 3)],
    "an end that changes": [
        (YES, "ok", 0, 1),
        (READ, ("SUCCEEDED", SAID_YES, 9), 2, 3),
        (STOP, ("ok", 9), 4, 5),
        (READ, ("STOPPED", None, 9), 6, 7),
    ],
    "an end that moves": [(STOP, ("ok", 9), 0, 1), (STOP, ("ok", 10), 2, 3)],
    "a success after the stop": [(STOP, ("ok", 9), 0, 1), (YES, "closed", 2, 3), (LIST, "SUCCEEDED", 4, 5)],
    "alive after the answer": [(YES, "ok", 0, 1), (BEAT, "ok", 2, 3)],
    "paused, and gone on": [
        (PAUSE, "ok", 0, 1),
        (LIST, "PAUSED", 2, 3),
        (YES, "ok", 4, 5),
        (READ, ("SUCCEEDED", SAID_YES, 9), 6, 7),
    ],
    "paused twice": [(PAUSE, "ok", 0, 1), (PAUSE, "ok", 2, 3)],
    "a history that shrinks": [(HISTORY, 5, 0, 1), (HISTORY, 3, 2, 3)],
    "open after its answer": [(YES, "ok", 0, 1), (OPEN, {0}, 2, 3)],
}


@pytest.mark.parametrize("what", EXECUTIONS_RIGHT)
def test_a_history_of_an_execution_that_can_be_explained_is_accepted(what: str) -> None:
    assert is_accepted(Execution(1), calls(*EXECUTIONS_RIGHT[what]))


@pytest.mark.parametrize("what", EXECUTIONS_WRONG)
def test_a_history_of_an_execution_that_can_not_be_explained_is_rejected(what: str) -> None:
    assert not is_accepted(Execution(1), calls(*EXECUTIONS_WRONG[what]))


def test_a_rejection_says_what_can_not_be_explained() -> None:
    with pytest.raises(NotLinearizable) as caught:
        order_of(Execution(1), calls((YES, "ok", 0, 1), (NO, "ok", 2, 3)))
    assert "client-1   fail(0, 'no') -> ok" in str(caught.value).splitlines()[-1]


def test_the_order_that_is_found_is_one_that_explains_the_answers() -> None:
    history = calls((NO, "closed", 0, 9), (YES, "ok", 1, 8), (BEAT, "ok", 2, 7))
    assert [call.action for call in order_of(Execution(1), history)] == [BEAT, YES, NO]


def test_many_calls_at_once_are_checked_quickly() -> None:
    """Sixty calls that all overlap, half of them without an answer: without its memory the search would not end."""
    starts = [(START_A if n % 3 else START_B, LOST, n, None) for n in range(30)]
    told: list[tuple[Action, Any, int, int | None]] = [(START_A, ("started", "1", n == 7), 40, 99) for n in range(29)]
    assert is_accepted(Name(), calls(*starts, *told, (START_B, ("refused",), 50, 98)))
    assert not is_accepted(Name(), calls(*starts, *told, (START_B, ("started", "1", None), 50, 98)))


# --- compared with a checker that tries everything -----------------------------------------------------------------


def tries_everything(model: Model[Any], history: Sequence[Call]) -> bool:
    """Whether any order at all of the answered calls, and any of the others among them, explains the answers."""
    answered = [call for call in history if call.returned is not None]
    others = [call for call in history if call.returned is None]
    for size in range(len(others) + 1):
        for chosen in itertools.combinations(others, size):
            for order in itertools.permutations([*answered, *chosen]):
                if _respects_time(order) and _explains(model, order):
                    return True
    return False


def _respects_time(order: Sequence[Call]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.invoked
        for earlier, later in itertools.combinations(order, 2)
    )


def _explains(model: Model[Any], order: Sequence[Call]) -> bool:
    states = {model.initial}
    for call in order:
        answer = UNKNOWN if call.returned is None else call.answer
        states = {after for state in states for after in model.after(state, call.action, answer)}
    return bool(states)


class SequentialNames:
    """A name, by itself: what is asked of it one by one, and answered."""

    def __init__(self, rng: random.Random) -> None:
        self.taken: tuple[str, str] | None = None
        self.rng = rng

    def do(self, action: Action) -> Any:
        if action == FIND:
            return self.taken and self.taken[1]
        payload = str(action[1])
        is_new = self.taken is None
        if self.taken is None:
            self.taken = (payload, str(self.rng.randrange(100)))
        if self.taken[0] != payload:
            return ("refused",)
        return ("started", self.taken[1], self.rng.choice([is_new, None]))


class SequentialExecution:
    """An execution with two callbacks, by itself."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.outcomes: list[Outcome | None] = [None, None]
        self.status = "RUNNING"
        self.end_ms: int | None = None
        self.now_ms = 0
        self.events = 1

    def do(self, action: Action) -> Any:
        self.now_ms += 1
        if self.status == "PAUSING" and self.rng.random() < 0.5:
            self.status = "PAUSED"
        if self.status in ("RUNNING", "PAUSING") and None not in self.outcomes and self.rng.random() < 0.5:
            self.status, self.end_ms = "SUCCEEDED", self.now_ms
        self.events += self.rng.randrange(2)
        has_ended = self.end_ms is not None
        verb, *given = action
        match verb:
            case "succeed" | "fail" | "heartbeat":
                number = given[0]
                assert isinstance(number, int)
                if has_ended or self.outcomes[number] is not None:
                    return "closed"
                if verb != "heartbeat":
                    self.outcomes[number] = ("succeeded" if verb == "succeed" else "failed", str(given[1]))
                return "ok"
            case "pause":
                if self.status != "RUNNING":
                    return "conflict"
                self.status = self.rng.choice(["PAUSING", "PAUSED"])
                return "ok"
            case "resume":
                if not self.status.startswith("PAUS"):
                    return "conflict"
                self.status = "RUNNING"
                return "ok"
            case "stop":
                if self.end_ms is None:
                    self.status, self.end_ms = "STOPPED", self.now_ms
                return ("ok", self.end_ms)
            case "read":
                return (self.status, tuple(self.outcomes) if self.status == "SUCCEEDED" else None, self.end_ms)
            case "list":
                return self.status
            case "history":
                return self.events
        return frozenset() if has_ended else frozenset(n for n, outcome in enumerate(self.outcomes) if outcome is None)


WORLDS: dict[str, tuple[Any, Model[Any], list[Action]]] = {
    "name": (SequentialNames, Name(), [START_A, START_B, FIND]),
    "execution": (
        SequentialExecution,
        Execution(2),
        [("succeed", n, text) for n in (0, 1) for text in "xy"]
        + [("fail", 0, "z"), ("heartbeat", 0), PAUSE, RESUME, STOP, READ, READ, LIST, HISTORY, OPEN],
    ),
}


def a_history(world: str, rng: random.Random, size: int) -> list[Call]:
    """What clients are told that ask at the same time, by something that answers one after the other."""
    make, _, actions = WORLDS[world]
    sequential = make(rng)
    found: list[Call] = []
    for number in range(size):
        action = rng.choice(actions)
        moment = number * 100
        invoked, returned = moment - rng.randrange(350), moment + rng.randrange(1, 350)
        if rng.random() < 0.15:
            if rng.random() < 0.6:
                sequential.do(action)
            found.append(Call(f"client-{number}", action, UNKNOWN, invoked, None))
        else:
            found.append(Call(f"client-{number}", action, sequential.do(action), invoked, returned))
    return found


def mutated(history: Sequence[Call], rng: random.Random) -> list[Call]:
    """The history with one thing changed: two answers exchanged, or a call that took less time than it did."""
    found = list(history)
    index = rng.randrange(len(found))
    call = found[index]
    if call.returned is not None and rng.random() < 0.5:
        middle = rng.randrange(call.invoked, call.returned)
        found[index] = Call(call.client, call.action, call.answer, middle, middle + 1)
        return found
    verb = call.action[0]
    others = [other for other in found if other.action[0] == verb and other.returned is not None]
    if call.returned is not None:
        found[index] = Call(call.client, call.action, rng.choice(others).answer, call.invoked, call.returned)
    return found


@pytest.mark.parametrize("world", WORLDS)
@settings(max_examples=150, deadline=None)
@given(rng=st.randoms(use_true_random=False), size=st.integers(1, 40))
def test_what_a_thing_answers_that_does_one_after_the_other_is_accepted(
    world: str, rng: random.Random, size: int
) -> None:
    history = a_history(world, rng, size)
    order = order_of(WORLDS[world][1], history)
    assert _respects_time(order) and _explains(WORLDS[world][1], order)


@pytest.mark.parametrize("world", WORLDS)
@settings(max_examples=150, deadline=None)
@given(rng=st.randoms(use_true_random=False), size=st.integers(1, 6), changes=st.integers(1, 2))
def test_it_finds_what_a_checker_finds_that_tries_everything(
    world: str, rng: random.Random, size: int, changes: int
) -> None:
    history = a_history(world, rng, size)
    for _ in range(changes):
        history = mutated(history, rng)
    model = WORLDS[world][1]
    assert is_accepted(model, history) is tries_everything(model, history)
