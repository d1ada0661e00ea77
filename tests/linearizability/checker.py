"""Whether one order of calls, each at a moment between its request and its answer, explains all their answers.

That is linearizability (Herlihy and Wing 1990). The search is Wing and Gong's (1993): try every call that may have been
first, and go on; Lowe's memory (2017) of what has been tried keeps it short. A promise about many things is kept if it
is kept for each of them alone, so histories are checked one object at a time.
"""

import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
Action = tuple[Hashable, ...]
"""A verb and what it is given."""


class _Unknown:
    """The answer of a call whose reply was lost: it has happened, will happen, or never will."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN: Final = _Unknown()


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asked, what it was answered, and when; `returned` is None if it never learned of an answer.

    Moments are numbers of one count for all clients: if one call's answer was there before another one was made, its
    `returned` is less than the other's `invoked`.
    """

    client: str
    action: Action
    answer: Any
    invoked: int
    returned: int | None

    def __str__(self) -> str:
        until = "never" if self.returned is None else f"{self.returned}"
        verb, *given = self.action
        return (
            f"{self.invoked:>5} to {until:<5} {self.client:<10} {verb}({', '.join(map(repr, given))}) -> {self.answer}"
        )


class Model(Protocol[S]):
    """What one object promises, as if calls came one after the other."""

    @property
    def initial(self) -> S:
        """How the object is before the first call."""
        ...

    def after(self, state: S, action: Action, answer: Any) -> Iterable[S]:
        """How the object may be when `action` has been answered with `answer`; nothing if it can't be answered so.

        For UNKNOWN, all that it may be when the action has taken place, whatever the answer was.
        """
        ...


class NotLinearizable(AssertionError):
    """No order explains the answers."""


@dataclass(slots=True)
class _Attempt:
    """A point of the search: what is done, how the object is then, and what may be next."""

    done: int
    state: Any
    nexts: Iterator[tuple[int, Any]]
    taken: int = -1


def order_of(model: Model[Any], calls: Iterable[Call]) -> list[Call]:
    """The calls in an order that explains their answers; those without an answer only where they are needed.

    Raises NotLinearizable, with the longest explanation that there is and what it can't explain.
    """
    history = sorted(calls, key=lambda call: call.invoked)
    answered = sum(1 << index for index, call in enumerate(history) if call.returned is not None)
    tried: set[tuple[int, Any]] = set()
    best: list[int] = []
    best_state: Any = model.initial
    path = [_Attempt(0, model.initial, _nexts(model, history, 0, model.initial))]
    while path:
        here = path[-1]
        if here.done & answered == answered:
            return [history[attempt.taken] for attempt in path[1:]]
        if len(path) - 1 > len(best):
            best, best_state = [attempt.taken for attempt in path[1:]], here.state
        for index, state in here.nexts:
            done = here.done | 1 << index
            if (done, state) not in tried:
                tried.add((done, state))
                path.append(_Attempt(done, state, _nexts(model, history, done, state), index))
                break
        else:
            path.pop()
    raise NotLinearizable(_explanation(history, best, best_state))


def _nexts(model: Model[Any], history: Sequence[Call], done: int, state: Any) -> Iterator[tuple[int, Any]]:
    """The calls that may be next, each with a state that it may lead to.

    A call that is answered so now and changes nothing can as well be now: nothing else has to be tried. One without an
    answer that changes nothing need not be at all, and of several that ask the same the first stands for all.
    """
    found: list[tuple[int, Any]] = []
    unanswered: set[Action] = set()
    for index in _firsts(history, done):
        call = history[index]
        if call.returned is None:
            if call.action not in unanswered:
                unanswered.add(call.action)
                afters = model.after(state, call.action, UNKNOWN)
                found += [(index, after) for after in afters if after != state]
            continue
        states = set(model.after(state, call.action, call.answer))
        if states == {state}:
            return iter([(index, state)])
        found += [(index, after) for after in states]
    # Those with an answer first: the others are needed seldom.
    return iter(sorted(found, key=lambda next_one: history[next_one[0]].returned is None))


def _firsts(history: Sequence[Call], done: int) -> Iterator[int]:
    """The calls not done that no other call not done was answered before."""
    bound = sys.maxsize
    for index, call in enumerate(history):
        if done >> index & 1:
            continue
        if call.invoked > bound:
            return
        yield index
        if call.returned is not None:
            bound = min(bound, call.returned)


def _explanation(history: Sequence[Call], best: Sequence[int], state: Any) -> str:
    done = sum(1 << index for index in best)
    lines = ["no order of these calls explains all answers; the longest that explains some of them is"]
    lines += [f"  {history[index]}" for index in best]
    lines += [f"which leads to {state}; then none of these can be answered as it was:"]
    lines += [f"  {history[index]}" for index in _firsts(history, done)]
    return "\n".join(lines)
