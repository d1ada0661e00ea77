"""How an execution is shown while it goes on: a live tree on a terminal, a line for each change elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.cli.happenings import in_words
from perdure.cli.lines import in_order, label_of, line_of
from perdure.cli.moments import clock_text, duration_text
from perdure.cli.news import Source
from perdure.cli.settings import Settings
from perdure.model import event as ev
from perdure.model.execution import WaitingOn
from perdure.model.operation import Callback, Operation
from perdure.model.view import FROM_START, Changes

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESHES_PER_S = 8
WAIT_S = 60.0
_NEEDS_OTHERS: Final = {WaitingOn.CALLBACK, WaitingOn.INVOKE}

Show = Callable[["Picture", Changes], None]


class Left(Enum):
    """Why an execution is watched no longer."""

    ENDED = "ended"
    CALLBACK = "callback"
    TIMEOUT = "timeout"


class Picture:
    """What is known of an execution; it is drawn in another thread than it is told of news."""

    def __init__(self, first: Changes, *, is_from_start: bool) -> None:
        self._lock = threading.Lock()
        self._operations = {operation.id: operation for operation in first.operations}
        done = [operation.id for operation in first.operations if operation.is_terminal]
        self._before = frozenset(() if is_from_start else done)
        self.view = first.view

    def take(self, news: Changes) -> None:
        with self._lock:
            self.view = news.view
            self._operations.update((operation.id, operation) for operation in news.operations)

    def operations(self) -> list[Operation]:
        with self._lock:
            return list(self._operations.values())

    def label(self, operation_id: str) -> str:
        return label_of(self._operations[operation_id])

    @property
    def needs_answer(self) -> bool:
        """Whether nothing goes on before a callback is answered."""
        waiting = set(self.view.waiting_on)
        return WaitingOn.CALLBACK in waiting and waiting <= _NEEDS_OTHERS

    def open_callbacks(self) -> list[Callback]:
        return [
            operation
            for operation in self.operations()
            if isinstance(operation, Callback) and not operation.is_terminal
        ]

    def draw(self, out: "Console") -> "RenderableType":
        """As much of the tree's end as the terminal holds, and one line about the whole."""
        from rich.console import Group
        from rich.text import Text

        view = self.view
        now_ms = int(time.time() * 1000)
        ordered = list(in_order(self.operations()))
        room = max(3, out.size.height - 3)
        lines: list[Any] = []
        if len(ordered) > room:
            lines.append(Text(f"  … {len(ordered) - room} operations above", "dim"))
            ordered = ordered[-room:]
        for depth, operation in ordered:
            line = line_of(operation, depth, now_ms)
            is_old = operation.id in self._before
            text = Text("  " * (depth + 1), no_wrap=True, overflow="ellipsis", style="dim" if is_old else "")
            text.append(f"{line.sign} ", "" if is_old else line.style)
            text.append(line.label)
            text.append(f"  {line.detail}", "dim")
            if is_old:
                text.append("  replayed")
            lines.append(text)
        lines += [
            Text(f"  answer with: perdure callback succeed {callback.callback_id} -r TEXT", "cyan", overflow="fold")
            for callback in (self.open_callbacks() if WaitingOn.CALLBACK in view.waiting_on else ())
        ]
        elapsed = duration_text(max(1000, ((view.end_ms or now_ms) - view.start_ms) // 1000 * 1000))
        foot = f"{view.function}/{view.name}  {view.status}  {view.operations} operations  {elapsed}"
        return Group(*lines, Text(foot, "bold"))


class Follower:
    """Shows an execution. `options.timeout_s` counts from its making.

    `show` is called with all news in the place of what is shown otherwise. Lines are those of what happens from now on,
    or of everything if `is_from_start`.
    """

    def __init__(self, options: Settings, source: Source, *, is_from_start: bool, show: Show | None = None) -> None:
        self._source = source
        self._deadline = time.monotonic() + options.timeout_s if options.timeout_s is not None else None
        first = source.changes(None, 0)
        self._is_live = show is None and not options.is_quiet and sys.stderr.isatty()
        is_told = is_from_start and not self._is_live
        self._position = FROM_START if is_told else first.position
        self._has_more = is_told
        self._show = show or (_nothing if options.is_quiet or self._is_live else _lines(is_utc=options.is_utc))
        self.picture = Picture(first, is_from_start=is_from_start)

    def until(self, leaves: Callable[[Picture], bool]) -> Left:
        """Show it until it ends, its time is over, or it waits for an answer and `leaves` says so.

        When this is called again, something must have happened meanwhile; it is waited for.
        """
        if not self._is_live:
            return self._watch(leaves)
        from rich.live import Live

        from perdure.cli.output import console

        out = console(is_error=True)
        with Live(get_renderable=lambda: self.picture.draw(out), console=out, refresh_per_second=REFRESHES_PER_S):
            return self._watch(leaves)

    def _watch(self, leaves: Callable[[Picture], bool]) -> Left:
        picture = self.picture
        while True:
            if not self._has_more:
                if picture.view.end_ms is not None:
                    return Left.ENDED
                if picture.needs_answer and leaves(picture):
                    self._has_more = True
                    return Left.CALLBACK
            left_s = WAIT_S if self._deadline is None else self._deadline - time.monotonic()
            if left_s <= 0:
                return Left.TIMEOUT
            news = self._source.changes(self._position, min(left_s, WAIT_S))
            self._position, self._has_more = news.position, news.has_more
            picture.take(news)
            self._show(picture, news)


def _nothing(_picture: Picture, _news: Changes) -> None:
    pass


def _lines(*, is_utc: bool) -> Show:
    def show(picture: Picture, news: Changes) -> None:
        for line in _lines_of(picture, [shown.event for shown in news.events], is_utc=is_utc):
            click.echo(line, err=True)

    return show


def _lines_of(picture: Picture, events: Sequence[ev.Event], *, is_utc: bool) -> Iterable[str]:
    """One line for each change. A start is not worth one where its end comes with it."""
    ended = {event.operation_id for event in events if isinstance(event, ev.ClosingEvent)}
    for event in events:
        if isinstance(event, ev.OperationEvent):
            if event.operation_id in ended and not isinstance(event, ev.ClosingEvent):
                continue
            what = f"{picture.label(event.operation_id)}: "
        elif isinstance(event, ev.InvocationCompleted):
            if event.error is None:
                continue
            what = ""
        else:
            what = "execution "
        yield f"{clock_text(event.at_ms, is_utc=is_utc)} {what}{in_words(event)}"
