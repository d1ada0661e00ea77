"""What is shown while functions are developed: a line for whatever happens, with the function that it is about.

Lines come from many threads, some under locks: they are queued, and one thread writes them.
"""

import contextvars
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO, cast

import click

from perdure.cli.happenings import in_words
from perdure.cli.moments import clock_text, duration_text
from perdure.cli.naming import SHORT
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.ids import ExecutionArn
from perdure.runtimes.logs import Record

MUTED: Final = "\0"
"""In place of a function's name: what is said now is said by a rehearsal, and has been said before."""
speaking: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("perdure_dev_speaking", default="")
"""The function whose handler runs in this context; empty outside of all."""

_COLOURS: Final = ("cyan", "magenta", "blue", "yellow", "green")
_SHOWN: Final = (
    ev.ExecutionStarted,
    ev.ExecutionSucceeded,
    ev.ExecutionFailed,
    ev.ExecutionTimedOut,
    ev.ExecutionStopped,
    ev.ExecutionPaused,
    ev.ExecutionResumed,
    ev.CallbackStarted,
)
_GOOD: Final = (ev.ExecutionSucceeded,)
_BAD: Final = (ev.ExecutionFailed, ev.ExecutionTimedOut, ev.ExecutionStopped)


class Live:
    """Writes lines to `out` until it is closed. `verbosity` above 0 shows what the platform says, too."""

    def __init__(self, out: TextIO, *, verbosity: int = 0, is_quiet: bool = False, is_utc: bool = False) -> None:
        self._out = out
        self._is_quiet = is_quiet
        self._is_utc = is_utc
        self._verbosity = verbosity
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._told: set[str] = set()
        self._colours: dict[str, str] = {}
        self._thread = threading.Thread(target=self._write, name="perdure-dev-lines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is queued, and end."""
        self._lines.put(None)
        self._thread.join(5)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                click.echo(line, file=self._out)
            except (OSError, ValueError):
                continue  # nobody reads any more

    # --- lines ---------------------------------------------------------------------------------------------------

    def text(self, line: str) -> None:
        """A line as it is."""
        self._lines.put(line)

    def happened(self, line: str, colour: str | None = None) -> None:
        """A line of this command's own, with the time."""
        if not self._is_quiet:
            self._say(int(time.time() * 1000), click.style(line, fg=colour))

    def trouble(self, line: str) -> None:
        """A line that is shown however quiet the command is to be."""
        self._say(int(time.time() * 1000), click.style(line, fg="red"))

    def said(self, function: str, line: str, at_ms: int | None = None) -> None:
        """A line that a function has written."""
        if function == MUTED:
            return
        mark = click.style(f"[{function}]", fg=self._colour(function)) if function else ""
        self._say(at_ms or int(time.time() * 1000), f"{mark} {line}" if mark else line)

    def _say(self, at_ms: int, line: str) -> None:
        clock = click.style(clock_text(at_ms, is_utc=self._is_utc)[:12], dim=True)
        self._lines.put(f"{clock} {line}")

    def _colour(self, function: str) -> str:
        return self._colours.setdefault(function, _COLOURS[len(self._colours) % len(_COLOURS)])

    # --- where they come from ------------------------------------------------------------------------------------

    def see(self, state: ExecutionState, events: Sequence[ev.Event]) -> None:
        """A watcher of all executions."""
        if self._is_quiet:
            return
        head = state.head
        mark = click.style(f"[{head.function}]", fg=self._colour(head.function))
        name = head.name or head.execution_id[:SHORT]
        for event in events:
            is_failure = isinstance(event, ev.InvocationCompleted) and event.error is not None
            if not isinstance(event, _SHOWN) and not is_failure:
                continue
            words = in_words(event)
            if isinstance(event, (*_GOOD, *_BAD)):
                words += f" after {duration_text(event.at_ms - head.start_ms)}" if isinstance(event, _GOOD) else ""
            elif isinstance(event, ev.CallbackStarted):
                words = f"waits for an answer: perdure callback succeed {event.callback_id} -r TEXT"
            colour = "green" if isinstance(event, _GOOD) else "red" if isinstance(event, _BAD) or is_failure else None
            self._say(event.at_ms, f"{mark} {click.style(f'{name}: {words}', fg=colour)}")

    def follower(self, function: str) -> Callable[[Sequence[Record]], None]:
        """A follower of the log of a managed function."""

        def follow(records: Sequence[Record]) -> None:
            for record in records:
                if record.is_platform and not self._is_worth_it(function, record.text):
                    continue
                self.said(function, record.text, record.at_ms)

        return follow

    def _is_worth_it(self, function: str, text: str) -> bool:
        """Whether a line of the platform's is shown: notes are, once; the others where more was asked for."""
        if self._verbosity:
            return True
        key = f"{function} {text}"
        if not text.startswith("NOTE ") or key in self._told:
            return False
        self._told.add(key)
        return True


class Spoken:
    """Stands in for stdout and stderr: what handlers print becomes lines of theirs; all else goes on to `beyond`."""

    def __init__(self, live: Live, beyond: TextIO) -> None:
        self._live = live
        self._beyond = beyond
        self._parts: dict[tuple[int, str], str] = {}
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        function = speaking.get()
        if not function:
            return self._beyond.write(text)
        key = (threading.get_ident(), function)
        with self._lock:
            *lines, rest = (self._parts.pop(key, "") + text).split("\n")
            if rest:
                self._parts[key] = rest
        for line in lines:
            self._live.said(function, line)
        return len(text)

    def end_line(self) -> None:
        """What was printed without an end of line, by the function that runs in this thread, is a line after all."""
        function = speaking.get()
        with self._lock:
            rest = self._parts.pop((threading.get_ident(), function), "")
        if rest:
            self._live.said(function, rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beyond, name)


def end_line() -> None:
    """The function that runs now has nothing more to add to its last line."""
    spoken: object = sys.stdout
    if isinstance(spoken, Spoken):
        spoken.end_line()


class LogLines(logging.Handler):
    """Log records as lines: those of handlers with their function, those of Perdure's own with their facts."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def emit(self, record: logging.LogRecord) -> None:
        from perdure.server.lines import facts_of

        function = speaking.get() or _function_of(record)
        text = record.getMessage()
        if record.name.startswith("perdure") and not function:
            text += "".join(f" {name}={value}" for name, value in facts_of(record).items())
        if record.levelno != logging.INFO:
            text = f"{record.levelname} {text}"
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._live.said(function, text)


def _function_of(record: logging.LogRecord) -> str:
    from perdure.model.error import InvalidParameterValue

    arn: Any = getattr(record, "executionArn", None)
    if not isinstance(arn, str):
        return ""
    try:
        return ExecutionArn.parse(arn).function
    except InvalidParameterValue:
        return ""


def listen(live: Live, verbosity: int) -> None:
    """Have what handlers print and log become lines, and of Perdure's own log what is worth it.

    Nothing of it goes to stdout, which has the URL alone.
    """
    sys.stdout = sys.stderr = cast(TextIO, Spoken(live, sys.stderr))
    root = logging.getLogger()
    root.addHandler(LogLines(live))
    root.setLevel(logging.INFO if verbosity < 2 else logging.DEBUG)
    for name, level in (("perdure", {0: logging.WARNING, 1: logging.INFO}), ("uvicorn", {0: logging.WARNING})):
        logging.getLogger(name).setLevel(level.get(verbosity, logging.DEBUG))
