"""What functions print, kept for a while: one folder for each function, with numbered files of JSON lines in it.

The newest file is written; once it is full a new one begins and the oldest is removed, so that a function which prints
without end fills its own share of the disk and no more. What was printed last before a machine lost power may be lost.
"""

import logging
import os
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from perdure.model.ids import FUNCTION_NAME, check

FILE_BYTES: Final = 4 * 1024 * 1024
FILES: Final = 8
OPEN_FILES_MAX: Final = 64
LINE_BYTES_MAX: Final = 256 * 1024
"""As much as one event of CloudWatch Logs holds; a longer line is several."""
TAIL_BYTES: Final = 4 * 1024
"""What X-Amz-Log-Result has (Lambda API, Invoke)."""
PAGE_MAX: Final = 10_000

log: Final = logging.getLogger("perdure.runtimes")

_PYTHON_LEVEL: Final = re.compile(r"\[(TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL)\]\t")
_NODE_LEVEL: Final = re.compile(r"\d{4}-[^\t]{5,30}\t[^\t]{1,64}\t(TRACE|DEBUG|INFO|WARN|ERROR|FATAL)\t")


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of a function, or of the platform about it.

    `at_ms` is when it was read. `request_id` is that of the invocation under way, None before the first. `level` is
    what the line itself says, if it is in one of the forms of AWS Lambda's clients.
    """

    at_ms: int
    text: str
    version: str
    sandbox: str
    request_id: str | None = None
    level: str | None = None
    is_platform: bool = False


class _Levelled(msgspec.Struct):
    level: str = ""


_encode: Final = msgspec.json.Encoder().encode
_read: Final = msgspec.json.Decoder(Record).decode
_read_level: Final = msgspec.json.Decoder(_Levelled).decode

Follower = Callable[[Sequence[Record]], None]


class FunctionLogs:
    """The logs of all functions under one folder. Safe to use from any thread."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, files: int = FILES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._files = files
        self._open: OrderedDict[str, _Writer] = OrderedDict()
        self._followers: dict[str, list[Follower]] = {}
        self._lock = threading.Lock()

    def write(self, function: str, records: Sequence[Record]) -> None:
        """Append records, and show them to who follows. What the disk does not take is lost."""
        if not records:
            return
        with self._lock:
            try:
                self._writer(function).write(records)
            except OSError as error:
                self._close(function)
                log.warning("a function's log can't be written", extra={"function": function, "error": str(error)})
            followers = tuple(self._followers.get(function, ()))
        for follower in followers:
            follower(records)

    def read(
        self,
        function: str,
        *,
        since_ms: int | None = None,
        request_id: str | None = None,
        version: str | None = None,
        limit: int = 1_000,
    ) -> list[Record]:
        """The newest records that fulfil all conditions, at most `limit` of them (10,000), the oldest first."""
        found: list[Record] = []
        wanted = min(limit, PAGE_MAX)
        for record in self._newest_first(function):
            if len(found) >= wanted or (since_ms is not None and record.at_ms < since_ms):
                break
            if request_id is not None and record.request_id != request_id:
                continue
            if version is None or record.version == version:
                found.append(record)
        found.reverse()
        return found

    def read_and_follow(
        self, function: str, follower: Follower, read: Callable[[], list[Record]]
    ) -> tuple[list[Record], Callable[[], None]]:
        """What `read` finds, and `follow` from there on: no record is missed between the two, and none comes twice."""
        with self._lock:
            return read(), self._follow(function, follower)

    def follow(self, function: str, follower: Follower) -> Callable[[], None]:
        """Call `follower` with what is written from now on; what is returned ends it.

        It is called where functions' output is read: it must be quick.
        """
        with self._lock:
            return self._follow(function, follower)

    def _follow(self, function: str, follower: Follower) -> Callable[[], None]:
        self._followers.setdefault(check_function(function), []).append(follower)

        def leave() -> None:
            with self._lock:
                followers = self._followers.get(function, [])
                if follower in followers:
                    followers.remove(follower)
                if not followers:
                    self._followers.pop(function, None)

        return leave

    def remove(self, function: str) -> None:
        """Remove all that a function has printed."""
        with self._lock:
            self._close(function)
            shutil.rmtree(self._place(function), ignore_errors=True)

    def close(self) -> None:
        with self._lock:
            for function in list(self._open):
                self._close(function)

    # --- files ---------------------------------------------------------------------------------------------------

    def _place(self, function: str) -> Path:
        return self._folder / check_function(function)

    def _writer(self, function: str) -> "_Writer":
        writer = self._open.get(function)
        if writer is None:
            writer = self._open[function] = _Writer(self._place(function), self._file_bytes, self._files)
            if len(self._open) > OPEN_FILES_MAX:
                self._close(next(iter(self._open)))
        self._open.move_to_end(function)
        return writer

    def _close(self, function: str) -> None:
        writer = self._open.pop(function, None)
        if writer is not None:
            writer.close()

    def _newest_first(self, function: str) -> Iterator[Record]:
        for file in reversed(_files_of(self._place(function))):
            try:
                lines = file.read_bytes().splitlines()
            except FileNotFoundError:
                return
            for line in reversed(lines):
                try:
                    yield _read(line)
                except msgspec.DecodeError:
                    continue


class _Writer:
    """Appends to the newest file of one function."""

    def __init__(self, folder: Path, file_bytes: int, files: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._file_bytes = file_bytes
        self._files = files
        existing = _files_of(folder)
        self._number = int(existing[-1].stem) if existing else 1
        self._begin()

    def _begin(self) -> None:
        place = self._folder / f"{self._number:08}.jsonl"
        self._fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._left = self._file_bytes - os.fstat(self._fd).st_size

    def write(self, records: Sequence[Record]) -> None:
        lines = b"\n".join([*map(_encode, records), b""])
        if self._left < len(lines):
            self.close()
            self._number += 1
            self._begin()
            for old in _files_of(self._folder)[: -self._files]:
                old.unlink(missing_ok=True)
        self._left -= len(lines)
        os.write(self._fd, lines)

    def close(self) -> None:
        os.close(self._fd)


def _files_of(folder: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and path.stem.isdigit())
    except FileNotFoundError:
        return []


def check_function(function: str) -> str:
    """A function's name becomes a folder: InvalidParameterValue unless it is one that the Lambda API takes."""
    return check(FUNCTION_NAME, function, "a function's name", "1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'")


# --- the lines of one sandbox ------------------------------------------------------------------------------------


class SandboxLog:
    """Cuts what a process prints into lines, and tells which invocation each belongs to."""

    def __init__(
        self, logs: FunctionLogs, function: str, version: str, sandbox: str, now_ms: Callable[[], int]
    ) -> None:
        self._logs = logs
        self._function = check_function(function)
        self._version = version
        self._sandbox = sandbox
        self._now_ms = now_ms
        self._request_id: str | None = None
        self._partial = b""
        self._tail: list[bytes] = []
        self._tail_bytes = 0

    def begin(self, request_id: str, *lines: str) -> None:
        """An invocation begins: `lines` are what the platform says of it."""
        self._request_id = request_id
        self._tail, self._tail_bytes = [], 0
        self.say(*lines)

    def say(self, *lines: str) -> None:
        """Write lines of the platform."""
        self._write(lines, is_platform=True)

    def printed(self, data: bytes) -> None:
        """The process has printed; what does not end a line yet waits for the rest."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        while len(self._partial) > LINE_BYTES_MAX:
            lines.append(self._partial[:LINE_BYTES_MAX])
            self._partial = self._partial[LINE_BYTES_MAX:]
        if lines:
            self._write([line.decode("utf-8", "replace") for line in lines])

    def flush(self) -> None:
        """What was printed without the end of a line is a line: the invocation is over, or the process."""
        if self._partial:
            partial, self._partial = self._partial, b""
            self._write([partial.decode("utf-8", "replace")])

    def tail(self) -> bytes:
        """The last 4 KiB of what the invocation has printed, and of what the platform has said of it."""
        return b"".join(self._tail)[-TAIL_BYTES:]

    def _write(self, lines: Sequence[str], *, is_platform: bool = False) -> None:
        at_ms = self._now_ms()
        records = []
        for line in lines:
            text = line.rstrip("\r").replace("\r", "\n")
            level = None if is_platform else _level_of(text)
            record = Record(
                at_ms=at_ms,
                text=text,
                version=self._version,
                sandbox=self._sandbox,
                request_id=self._request_id,
                level=level,
                is_platform=is_platform,
            )
            records.append(record)
            self._keep(text.encode() + b"\n")
        self._logs.write(self._function, records)

    def _keep(self, line: bytes) -> None:
        self._tail.append(line[-TAIL_BYTES:])
        self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(self._tail.pop(0))


def _level_of(text: str) -> str | None:
    """The level that a line says it has: in JSON, or in one of the forms of AWS Lambda's clients."""
    if text.startswith("{"):
        try:
            return _read_level(text).level.upper() or None
        except (msgspec.DecodeError, msgspec.ValidationError):
            return None
    found = _PYTHON_LEVEL.match(text) or _NODE_LEVEL.match(text)
    return found[1] if found else None
