"""Processes of functions: started in a group of their own, watched, measured, and ended with all that they started.

Nothing runs between fork and exec (`preexec_fn` can deadlock where there are threads): the new session is made by the
standard library's own starter. That processes do not outlive the server is the guard's work.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

READ_BYTES: Final = 64 * 1024
DRAIN_BYTES_MAX: Final = 4 * 1024 * 1024
"""So much of what a process has printed is read before its answer is passed on; the rest is read afterwards."""
TERM_S: Final = 1.0
"""How long a process has between SIGTERM and SIGKILL."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Guard:
    """The process that ends the others when this one is gone. It is started with the first that it has to watch."""

    def __init__(self, folder: Path) -> None:
        """`folder` is what it removes then."""
        self._command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(folder)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def watch(self, pid: int) -> None:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True
                )
        self._tell(b"+%d\n" % pid)

    def forget(self, pid: int) -> None:
        self._tell(b"-%d\n" % pid)

    def _tell(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._process.stdin.fileno(), line)  # so short a line is written whole

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()


class Process:
    """One running process and its group. Used on the loop, but for `start`."""

    def __init__(self, popen: "subprocess.Popen[bytes]", output: int, guard: Guard) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._output = output
        self._guard = guard
        self._loop: asyncio.AbstractEventLoop | None = None
        self._printed: Callable[[bytes], None] = _nothing
        self._killing: asyncio.TimerHandle | None = None

    @classmethod
    def start(cls, command: Sequence[str], env: Mapping[str, str], cwd: Path, guard: Guard) -> "Process":
        """Start a process whose stdout and stderr are one pipe, so that lines keep their order. OSError if it can't."""
        reading, writing = os.pipe()
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        guard.watch(popen.pid)
        os.set_blocking(reading, False)
        return cls(popen, reading, guard)

    def attend(self, printed: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        """From now on pass on what it prints, and its return code (negative: the signal that ended it)."""
        self._loop = asyncio.get_running_loop()
        self._printed = printed
        self._loop.add_reader(self._output, self._read)
        _when_it_ends(self._loop, self.pid, lambda: self._finish(ended))

    def _read(self) -> None:
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._printed(data)
        elif self._loop is not None:
            self._loop.remove_reader(self._output)

    def drain(self) -> None:
        """Pass on what has been printed up to now."""
        left = DRAIN_BYTES_MAX
        with contextlib.suppress(OSError):
            while left > 0 and (data := os.read(self._output, READ_BYTES)):
                left -= len(data)
                self._printed(data)

    def _finish(self, ended: Callable[[int], None]) -> None:
        """It has ended and has not been waited for yet, so nobody else can have its number: end its group."""
        assert self._loop is not None
        if self._killing is not None:
            self._killing.cancel()
        self._signal(signal.SIGKILL)
        code = self._popen.wait()
        self._guard.forget(self.pid)
        self.drain()
        self._loop.remove_reader(self._output)
        os.close(self._output)
        ended(code)

    def kill(self) -> None:
        """End it and all that it has started, now."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end; after a second it is made to."""
        if self._killing is None and self._loop is not None:
            self._signal(signal.SIGTERM)
            self._killing = self._loop.call_later(TERM_S, self.kill)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def memory_bytes(self) -> int | None:
        """What it and its children hold that is backed by no file; None where the system does not say (not Linux).

        That is what counts against a memory limit of Linux's control groups. Children are those of its main thread.
        """
        return _memory_of(self.pid)


def _memory_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - read ten times a second
            _, resident, shared, *_ = file.read().split()
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:  # noqa: PTH123
            children = file.read().split()
    except (OSError, ValueError):
        return None
    used = (int(resident) - int(shared)) * _PAGE_BYTES
    return used + sum(_memory_of(int(child)) or 0 for child in children)


def _when_it_ends(loop: asyncio.AbstractEventLoop, pid: int, act: Callable[[], None]) -> None:
    """Call `act` on the loop when a child has ended, before it is waited for."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or older than 5.3
        threading.Thread(target=_wait_in_thread, args=(loop, pid, act), daemon=True).start()
        return

    def ready() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        act()

    loop.add_reader(fd, ready)


def _wait_in_thread(loop: asyncio.AbstractEventLoop, pid: int, act: Callable[[], None]) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
        loop.call_soon_threadsafe(act)


def exit_text(code: int) -> str:
    """How a process ended, in the words of AWS Lambda."""
    if code < 0:
        return f"Runtime exited with error: signal: {(signal.strsignal(-code) or str(-code)).lower()}"
    return f"Runtime exited with error: exit status {code}" if code else "Runtime exited without providing a reason"


def _nothing(_data: bytes) -> None:
    pass
