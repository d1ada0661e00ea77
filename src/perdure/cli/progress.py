"""How a run is shown while it goes on: a live tree on a terminal, a line for each change elsewhere."""

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from perdure.cli.happenings import in_words
from perdure.cli.lines import in_order, label_of, line_of
from perdure.cli.moments import clock_text, duration_text
from perdure.cli.settings import Settings
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.execution import WaitingOn
from perdure.service.views import waiting_on
from perdure.worker.embedded import Execution

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESHES_PER_S = 8
_NEEDS_OTHERS = {WaitingOn.CALLBACK, WaitingOn.INVOKE}


class _Follower:
    """What the watcher of an execution tells the thread that shows it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.batches: deque[tuple[Sequence[ev.Event], dict[str, str]]] = deque()
        self.has_ended = False
        self.needs_answer = False

    def see(self, state: ExecutionState, events: Sequence[ev.Event]) -> None:
        shown = [event for event in events if event.is_shown]
        labels = {
            event.operation_id: label_of(state.operations[event.operation_id])
            for event in shown
            if isinstance(event, ev.OperationEvent)
        }
        waiting = set(waiting_on(state))
        with self.changed:
            self.batches.append((shown, labels))
            self.has_ended = state.head.has_ended
            self.needs_answer = WaitingOn.CALLBACK in waiting and waiting <= _NEEDS_OTHERS
            self.changed.notify_all()


def follow(options: Settings, execution: Execution, *, must_wait: bool) -> str | None:
    """Show an execution until it ends. Returns why it was left before: "callback", "timeout", or None.

    It is left at a callback unless `must_wait`.
    """
    follower = _Follower()
    deadline = time.monotonic() + options.timeout_s if options.timeout_s is not None else None
    before = {op.id for op in execution.operations() if op.is_terminal}
    if options.is_quiet or not sys.stderr.isatty():
        execution.watch(follower.see, from_start=execution.is_new)
        _skip_if_over(follower, execution)
        return _until_left(follower, deadline, must_wait=must_wait, show=not options.is_quiet, is_utc=options.is_utc)
    from rich.live import Live

    from perdure.cli.output import console

    execution.watch(follower.see)
    _skip_if_over(follower, execution)
    out = console(is_error=True)
    view = _Tree(execution, before, out)
    with Live(get_renderable=view.render, console=out, refresh_per_second=REFRESHES_PER_S, transient=False):
        return _until_left(follower, deadline, must_wait=must_wait, show=False, is_utc=options.is_utc)


def _skip_if_over(follower: _Follower, execution: Execution) -> None:
    """What ended, or waits for an answer, before it was watched has nothing more to tell."""
    view = execution.describe()
    with follower.changed:
        follower.has_ended = follower.has_ended or view.end_ms is not None
        if not follower.batches:
            waiting = set(view.waiting_on)
            follower.needs_answer = WaitingOn.CALLBACK in waiting and waiting <= _NEEDS_OTHERS


def _until_left(
    follower: _Follower, deadline: float | None, *, must_wait: bool, show: bool, is_utc: bool
) -> str | None:
    while True:
        with follower.changed:
            while not follower.batches and not follower.has_ended and (must_wait or not follower.needs_answer):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return "timeout"
                follower.changed.wait(left)
            batches = list(follower.batches)
            follower.batches.clear()
            has_ended, needs_answer = follower.has_ended, follower.needs_answer
        if show:
            for events, labels in batches:
                _print_lines(events, labels, is_utc=is_utc)
        if has_ended:
            return None
        if needs_answer and not must_wait:
            return "callback"


def _print_lines(events: Sequence[ev.Event], labels: dict[str, str], *, is_utc: bool) -> None:
    """One line for each change. A start is not worth one where its end comes with it."""
    ended = {event.operation_id for event in events if isinstance(event, ev.ClosingEvent)}
    for event in events:
        if isinstance(event, ev.OperationEvent):
            if event.operation_id in ended and not isinstance(event, ev.ClosingEvent):
                continue
            what = f"{labels[event.operation_id]}: "
        elif isinstance(event, ev.InvocationCompleted):
            if event.error is None:
                continue
            what = ""
        else:
            what = "execution "
        click.echo(f"{clock_text(event.at_ms, is_utc=is_utc)} {what}{in_words(event)}", err=True)


class _Tree:
    """The live picture: as much of the tree's end as the terminal holds, and one line about the whole."""

    def __init__(self, execution: Execution, before: set[str], out: "Console") -> None:
        self._execution = execution
        self._before = before
        self._out = out

    def render(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        view = self._execution.describe()
        now_ms = int(time.time() * 1000)
        ordered = list(in_order(self._execution.operations()))
        room = max(3, self._out.size.height - 3)
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
        open_callbacks = self._execution.callbacks() if WaitingOn.CALLBACK in view.waiting_on else ()
        lines += [
            Text(f"  answer with: perdure callback succeed {handle.id} -r TEXT", "cyan", overflow="fold")
            for handle in open_callbacks
        ]
        elapsed = duration_text(max(1000, ((view.end_ms or now_ms) - view.start_ms) // 1000 * 1000))
        foot = f"{view.function}/{view.name}  {view.status}  {view.operations} operations  {elapsed}"
        return Group(*lines, Text(foot, "bold"))
