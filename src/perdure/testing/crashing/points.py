"""The points at which a process may die, or a request go astray."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from perdure.exceptions import ValidationError
from perdure.model.word import Word

CUTS_MAX: Final = 8
"""In so many places at most is one batch cut: the first ones, evenly spread, and the last."""


class Where(Word):
    """What a point is next to."""

    BEFORE_CHECKPOINT = "before checkpoint"
    AFTER_CHECKPOINT = "after checkpoint"
    IN_CHECKPOINT = "in checkpoint"
    ANSWER_LOST = "lost answer of checkpoint"
    SENT_TWICE = "duplicate of checkpoint"
    BEFORE_BODY = "before body"
    AFTER_BODY = "after body"
    AT_RETURN = "at return of invocation"


class Point(NamedTuple):
    """The `number`-th checkpoint, body or invocation of a function, from 1; `cut` updates of the batch were sent.

    Reads as `after checkpoint 3`, `in checkpoint 3 after 1`, `before body 2 of billing`.
    """

    where: Where
    number: int
    cut: int = 0
    function: str = ""

    def __str__(self) -> str:
        cut = f" after {self.cut}" if self.cut else ""
        return f"{self.where} {self.number}{cut}" + (f" of {self.function}" if self.function else "")


_FORM: Final = re.compile(
    f"({'|'.join(re.escape(where) for where in Where)}) ([1-9][0-9]*)(?: after ([1-9][0-9]*))?(?: of (\\S+))?"
)


def to_point(text: str) -> Point:
    """The point that is called so; ValidationError if none can be."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValidationError(f"a point is called like 'after checkpoint 3' or 'before body 2', not {text!r}")
    where, number, cut, function = found.groups()
    return Point(Where(where), int(number), int(cut or 0), function or "")


class BodyRun(NamedTuple):
    """One run of a body: of which operation, in which attempt, and where its code is."""

    function: str
    number: int
    operation_id: str
    name: str
    attempt: int
    is_once: bool
    where: str


class Trace:
    """What a run did, in its order: the points that it passed, and the bodies that it ran."""

    def __init__(self) -> None:
        self.bodies: list[BodyRun] = []
        self._points: dict[Point, str] = {}

    def pass_request(self, function: str, number: int, updates: Sequence[str]) -> None:
        """A checkpoint is about to be sent; its updates in words."""
        wheres = (Where.BEFORE_CHECKPOINT, Where.ANSWER_LOST, Where.SENT_TWICE, Where.AFTER_CHECKPOINT)
        points = [Point(where, number, 0, function) for where in wheres]
        points[1:1] = [Point(Where.IN_CHECKPOINT, number, cut, function) for cut in _cuts(len(updates))]
        text = ", ".join(updates)
        self._points.update(dict.fromkeys(points, f" ({text})"))

    def pass_body(self, where: Where, body: BodyRun) -> None:
        """A body is about to run, or has."""
        self._points[Point(where, body.number, 0, body.function)] = f" ('{body.name}', {body.where})"

    def pass_return(self, function: str, number: int) -> None:
        """A handler has returned."""
        self._points[Point(Where.AT_RETURN, number, 0, function)] = ""

    def points(self) -> list[Point]:
        """Every point of the run at which something can go wrong."""
        return list(self._points)

    def what(self, point: Point) -> str:
        """What is there, in words."""
        return self._points.get(point, "")

    def describe(self, point: Point) -> str:
        """The point with what is there: `after checkpoint 3 (SUCCEED 'charge')`."""
        return f"{point}{self.what(point)}"

    def restore(self, points: Mapping[Point, str]) -> None:
        """Have the points of a trace that was written down, with what is there."""
        self._points = dict(points)


def _cuts(size: int) -> list[int]:
    """Where a batch of so many updates is cut."""
    cuts = range(1, size)
    if len(cuts) <= CUTS_MAX:
        return list(cuts)
    step = (len(cuts) - 1) / (CUTS_MAX - 1)
    return sorted({cuts[round(index * step)] for index in range(CUTS_MAX)})
