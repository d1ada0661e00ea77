"""A command on a terminal: what it writes there, what is typed, signals that it gets."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

LIMIT_S = 60.0
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Screen(msgspec.Struct):
    """What a command wrote to its terminal, and how it ended."""

    text: str
    code: int


class Process(msgspec.Struct):
    """The command while it runs."""

    pid: int
    terminal: int
    is_interrupted: bool = False

    def type(self, line: str) -> None:
        os.write(self.terminal, f"{line}\n".encode())

    def interrupt(self) -> None:
        """Ctrl-C, and once more if that does nothing: Python sleeps over one that comes just before it reads a line."""
        self.is_interrupted = True
        os.kill(self.pid, signal.SIGINT)


Deed = tuple[str, Callable[[Process], object]]


def on_terminal(command: Sequence[str], folder: Path, *deeds: Deed, environ: Mapping[str, str] | None = None) -> Screen:
    """Run `command` on a terminal of 100 × 30. The deeds are done in order, each once its text can be read there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", **(environ or {})}
    process = subprocess.Popen(
        command, cwd=folder, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    running = Process(process.pid, master)
    left, text, seen, deadline = list(deeds), "", 0, time.monotonic() + LIMIT_S
    with contextlib.suppress(OSError):  # Linux says so when the last writer has closed the terminal
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 2.0)[0]:
                if running.is_interrupted:
                    running.interrupt()
                continue
            data = os.read(master, 65536)
            if not data:
                break
            text += _CONTROLS.sub("", data.decode("utf-8", "replace"))
            while left and (at := text.find(left[0][0], seen)) >= 0:
                seen = at + len(left[0][0])
                left.pop(0)[1](running)
    os.close(master)
    process.kill() if time.monotonic() >= deadline else process.wait(LIMIT_S)
    assert not left, f"{left[0][0]!r} did not come:\n{text}"
    return Screen(text, process.wait(LIMIT_S))
