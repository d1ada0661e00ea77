"""`perdure dev` in a process of its own, as a test sees it: its URL, and the lines that it shows."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from support.functions import WAIT_S

ROOT = Path(__file__).resolve().parents[2]


class Dev:
    """The command, once it serves."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._is_over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def line(self, text: str, after: int = 0) -> str:
        """The first line with `text`, shown or to be shown, from the line number `after` on."""
        return self.matching(f".*{re.escape(text)}.*", after)

    def matching(self, pattern: str, after: int = 0) -> str:
        """The same for a line that matches a pattern as a whole."""
        with self._changed:
            self._changed.wait_for(lambda: self._find(pattern, after) is not None or self._is_over, WAIT_S)
            line = self._find(pattern, after)
        assert line is not None, f"no line is {pattern!r} in\n{self.text}"
        return line

    def _find(self, pattern: str, after: int) -> str | None:
        return next((line for line in self.lines[after:] if re.fullmatch(pattern, line)), None)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def end(self, number: int = signal.SIGINT) -> int:
        """Have it end by a signal; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


def begun(folder: Path, *words: str) -> Dev:
    """Start it in a folder, on a free port."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "perdure", "dev", *words, "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return Dev(process)


@contextlib.contextmanager
def dev(folder: Path, *words: str) -> Iterator[Dev]:
    """It runs while the block does."""
    running = begun(folder, *words)
    try:
        assert running.url.startswith("http://"), running.end() or running.text
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.end()
