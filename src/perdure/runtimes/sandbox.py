"""One process of a function: from its start, over one invocation after the other, to its end.

A sandbox lives on the loop of the pool. It gives each task exactly one end: an answer, or the reason why there is none.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, Protocol

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.function import FunctionVersion
from perdure.model.ids import Home
from perdure.model.word import Word
from perdure.runtimes.environment import Place, variables
from perdure.runtimes.event import error_of
from perdure.runtimes.interpreters import InvalidEntrypoint, Launch
from perdure.runtimes.logs import FunctionLogs, SandboxLog
from perdure.runtimes.platform_lines import begun, ended, failed_to_begin, initialized
from perdure.runtimes.processes import Guard, Process, exit_text
from perdure.runtimes.runtime_api import ANSWER_BYTES_MAX, Answer, RuntimeApi, Task

MIB: Final = 1024 * 1024
INIT_S: Final = 10.0
"""How long a function may take to be loaded before that counts against its time-out (Lambda Developer Guide)."""
MEMORY_CHECK_S: Final = 0.1
LEAVE_S: Final = 1.0
"""How long a process that could not load its function has to end by itself."""

EXIT_ERROR: Final = "Runtime.ExitError"
TIMED_OUT: Final = "Sandbox.Timedout"
OUT_OF_MEMORY: Final = "Runtime.OutOfMemory"
TOO_LARGE: Final = "Function.ResponseSizeTooLarge"


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandboxes of a pool have in common. `temp` holds their folders for temporary files.

    `credentials_of` gives the environment variables with the credentials of a version's role. `files` carries out what
    waits for the disk.
    """

    temp: Path
    logs: FunctionLogs
    guard: Guard
    files: Executor
    home: Home
    credentials_of: Callable[[FunctionVersion], Mapping[str, str]]
    endpoint: Callable[[], str | None]
    init_s: float = INIT_S
    is_memory_limited: bool = True


class Ending(msgspec.Struct, frozen=True):
    """How an invocation ended. `error` is None for a response.

    `body` is what the function sent, a response or an error; it is empty where `is_broken`, which means that the
    function gave no answer at all. `is_lost` says that this was not the function's doing. `tail` is the end of its log.
    """

    body: bytes
    error: ErrorObject | None = None
    is_broken: bool = False
    is_lost: bool = False
    tail: bytes = b""


class Stage(Word):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


class Keeper(Protocol):
    """Who is told of what becomes of a sandbox."""

    def is_ready(self, sandbox: "Sandbox") -> None:
        """It waits for a task."""
        ...

    def has_ended_task(self, sandbox: "Sandbox", task: Task, ending: Ending) -> None: ...

    def has_not_delivered(self, sandbox: "Sandbox", task: Task) -> None:
        """It has ended before its process was sent the task."""
        ...

    def has_failed_to_begin(self, sandbox: "Sandbox", error: ErrorObject, tail: bytes) -> None:
        """The function could not be loaded; the sandbox has ended."""
        ...

    def has_ended(self, sandbox: "Sandbox") -> None:
        """Its process is gone. This is the last that is heard of it."""
        ...


class Sandbox:
    """One process and its Runtime API. `version` is the configuration that it was started with."""

    def __init__(self, id_: str, version: FunctionVersion, ground: Ground, keeper: Keeper) -> None:
        self.id = id_
        self.version = version
        self.stage = Stage.STARTING
        self.is_retiring = False
        self._ground = ground
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._api = RuntimeApi(self)
        self._process: Process | None = None
        self._temp = ground.temp / id_
        self._log = SandboxLog(ground.logs, version.function, version.version, id_, _now_ms)
        self._task: Task | None = None
        self._given = 0
        self._cause: ErrorObject | None = None
        self._is_lost = False
        self._timer: asyncio.TimerHandle | None = None
        self._memory_timer: asyncio.TimerHandle | None = None
        self._memory_bytes = 0
        self._memory_at = 0.0
        self._began = time.monotonic()
        self._given_at = 0.0
        self._init_s: float | None = None
        self._overdue_s = 0.0

    @property
    def age_s(self) -> float:
        """Seconds since its process was started."""
        return time.monotonic() - self._began

    @property
    def has_worked(self) -> bool:
        """Whether it was given a task already."""
        return self._given > 0

    # --- beginning -----------------------------------------------------------------------------------------------

    async def begin(self, launch: Launch, root: Path) -> None:
        """Start the process. The keeper hears of it, whatever comes of it."""
        try:
            self._began = time.monotonic()
            port = await self._api.open()
            place = Place(self.id, root, self._temp, port, _now_ms())
            ground = self._ground
            env = variables(self.version, place, ground.home, ground.credentials_of(self.version), ground.endpoint())
            if launch.note:
                self._log.say(f"NOTE {launch.note}")
            process = await self._loop.run_in_executor(ground.files, self._start, launch, env, root)
        except OSError as error:
            self.fail(ErrorObject(f"the function's process can't be started: {error}", InvalidEntrypoint.code))
            return
        self._process = process
        process.attend(self._log.printed, self._process_ended)
        if self._cause is not None:
            process.kill()
            return
        self._timer = self._loop.call_later(self._ground.init_s + self.version.timeout_s, self._time_out)
        self._watch_memory()

    def _start(self, launch: Launch, env: Mapping[str, str], root: Path) -> Process:
        self._temp.mkdir(mode=0o700)
        return Process.start(launch.command, env, root, self._ground.guard)

    def fail(self, error: ErrorObject) -> None:
        """There will be no process: `error` says why."""
        self._cause = error
        self._end()

    # --- tasks ---------------------------------------------------------------------------------------------------

    def give(self, task: Task) -> None:
        """Have an idle sandbox run a task."""
        assert self.stage is Stage.IDLE
        self.stage = Stage.BUSY
        self._task = task
        self._given += 1
        left_s = max(0.0, self.version.timeout_s - self._overdue_s)
        self._given_at = time.monotonic() - self._overdue_s
        self._overdue_s = 0.0
        self._set_timer(left_s)
        self._watch_memory()
        self._log.begin(task.request_id, begun(self.version, task.request_id))
        self._api.give(task, _now_ms() + int(left_s * 1000), f"{self.id}-{self._given}")

    def _end_task(self, ending: Ending) -> None:
        """The one end of a task."""
        task, self._task = self._task, None
        assert task is not None
        if self._process is not None:
            self._process.drain()
        self._log.flush()
        now = time.monotonic()
        if now - self._memory_at >= 1.0:
            self._measure()
        lines = ended(
            self.version,
            task.request_id,
            duration_s=now - self._given_at,
            init_s=self._init_s,
            memory_bytes=self._memory_bytes,
            error=ending.error,
        )
        self._init_s = None
        self._log.say(*lines)
        self._keeper.has_ended_task(self, task, msgspec.structs.replace(ending, tail=self._log.tail()))

    # --- what the process says -----------------------------------------------------------------------------------

    def wants_next(self) -> None:
        if self.stage is Stage.STARTING:
            init_s = time.monotonic() - self._began
            self._init_s = init_s
            self._overdue_s = max(0.0, init_s - self._ground.init_s)
            self._log.say(*initialized(self.version, init_s))
        elif self.stage is not Stage.BUSY or self._task is not None:
            return
        self._set_timer(None)
        self._stop_watching_memory()
        self.stage = Stage.IDLE
        if self.is_retiring:
            self.close()
        else:
            self._keeper.is_ready(self)

    def has_answered(self, answer: Answer) -> None:
        if self._task is None:
            return
        if answer.is_too_large:
            text = f"Response payload size exceeded maximum allowed payload size ({ANSWER_BYTES_MAX} bytes)."
            ending = Ending(b"", ErrorObject(text, TOO_LARGE), is_broken=True)
        else:
            error = error_of(answer.body, answer.error_type) if answer.is_error else None
            ending = Ending(answer.body, error)
        self._end_task(ending)

    def has_failed_to_begin(self, answer: Answer) -> None:
        self._cause = self._cause or error_of(answer.body, answer.error_type)
        self._set_timer(LEAVE_S, self._kill)

    # --- time and memory -----------------------------------------------------------------------------------------

    def _set_timer(self, delay_s: float | None, act: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else self._loop.call_later(delay_s, act or self._time_out)

    def _time_out(self) -> None:
        """The function's time is over, or it has answered and does not come back."""
        self._cause = ErrorObject(f"Task timed out after {self.version.timeout_s:.2f} seconds", TIMED_OUT)
        self._kill()

    def _watch_memory(self) -> None:
        if self._ground.is_memory_limited and self._memory_timer is None:
            self._memory_timer = self._loop.call_later(MEMORY_CHECK_S, self._check_memory)

    def _stop_watching_memory(self) -> None:
        if self._memory_timer is not None:
            self._memory_timer.cancel()
            self._memory_timer = None

    def _check_memory(self) -> None:
        self._memory_timer = None
        used = self._measure()
        limit = self.version.memory_mb * MIB
        if used is None:
            return
        if used <= limit:
            self._watch_memory()
            return
        text = f"the function used {used // MIB} MB of memory; its MemorySize allows {self.version.memory_mb} MB"
        self._cause = ErrorObject(text, OUT_OF_MEMORY)
        self._kill()

    def _measure(self) -> int | None:
        used = self._process.memory_bytes() if self._process is not None else None
        self._memory_bytes = max(self._memory_bytes, used or 0)
        self._memory_at = time.monotonic()
        return used

    # --- the end -------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no more tasks; end now if there is none, else after it."""
        self.is_retiring = True
        if self.stage is Stage.IDLE:
            self.close()

    def close(self) -> None:
        """End the process: politely if it is idle, at once if not, which its invocation is not to blame for."""
        self.is_retiring = True
        if self.stage is Stage.IDLE and self._process is not None:
            self.stage = Stage.ENDED
            self._process.terminate()
            return
        self._cause = self._cause or ErrorObject("the server was stopped while the function ran", EXIT_ERROR)
        self._is_lost = True
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _process_ended(self, code: int) -> None:
        cause = self._cause
        if cause is None:
            cause = self._cause = ErrorObject(exit_text(code), EXIT_ERROR)
        if self._task is not None:
            self._end_broken(self._task, cause)
        self._end()

    def _end_broken(self, task: Task, cause: ErrorObject) -> None:
        if self._api.is_delivered:
            self._api.close()
            message = named(cause, task)
            self._log.say(message)
            error = ErrorObject(message, cause.type, None, cause.stack_trace)
            self._end_task(Ending(b"", error, is_broken=True, is_lost=self._is_lost))
        else:
            self._task = None
            self._keeper.has_not_delivered(self, task)

    def _end(self) -> None:
        """Let go of everything."""
        was_starting = self.stage is Stage.STARTING
        self.stage = Stage.ENDED
        self._set_timer(None)
        self._stop_watching_memory()
        self._api.close()
        self._log.flush()
        if was_starting:
            assert self._cause is not None
            self._log.say(failed_to_begin(self.version, time.monotonic() - self._began, self._cause))
            self._keeper.has_failed_to_begin(self, self._cause, self._log.tail())
        self._ground.files.submit(shutil.rmtree, self._temp, ignore_errors=True)
        self._keeper.has_ended(self)


def named(cause: ErrorObject, task: Task) -> str:
    """The text of an error; that of the platform names the invocation that it befell, as AWS Lambda does."""
    message = cause.message or ""
    if cause.type == TIMED_OUT:
        return f"{task.request_id} {message}"
    return f"RequestId: {task.request_id} Error: {message}" if cause.type in (EXIT_ERROR, OUT_OF_MEMORY) else message


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
