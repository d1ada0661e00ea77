"""The guard against what a replay does not repeat: clocks, chance, files and connections used outside of steps.

Nothing is patched. While the author's code runs, and not the body of a step, the interpreter tells of each call
(`sys.setprofile`), and the few that matter are looked up in a table. So it does not matter how a function was imported,
and nobody else sees anything. A profiler of somebody else's is left alone: then nothing is guarded.
"""

import datetime
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, TypeVar

from perdure.context import DurableContext
from perdure.exceptions import NonDeterminismError, NonDeterminismWarning
from perdure.model.word import Word
from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.invocation import Definition
from perdure.sdk.journal import Begun
from perdure.sdk.misuse import active
from perdure.sdk.scope import Scope
from perdure.sdk.strictness import Strict

T = TypeVar("T")


class Kind(Word):
    """What is wrong with a call. Only files and connections count where libraries use them: clocks do not."""

    CLOCK = "clock"
    CHANCE = "chance"
    SLEEP = "sleep"
    WORLD = "world"


_WAYS_OUT: Final = {
    Kind.CLOCK: "a replay gets another time. context.now() is the same in every replay; for the clock itself, read it "
    "in a step",
    Kind.CHANCE: "a replay gets something else. context.random() and context.uuid4() are the same in every replay; or "
    "draw it in a step",
    Kind.SLEEP: "a replay sleeps again, and is paid for it. context.wait(…) takes none of the function's time",
    Kind.WORLD: "a replay does it again, and may find something else. Do it in a step: a replay has its result",
}


class Found(NamedTuple):
    """A function that handlers must not call: what it is called, and whether these arguments make it so."""

    name: str
    kind: Kind
    applies: Callable[[FrameType], bool] | None = None


_BUILT_IN: Final[dict[object, Found]] = {
    **{
        getattr(time, name): Found(f"time.{name}", Kind.CLOCK)
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
    },
    datetime.datetime.now: Found("datetime.now", Kind.CLOCK),
    datetime.datetime.utcnow: Found("datetime.utcnow", Kind.CLOCK),
    datetime.datetime.today: Found("datetime.today", Kind.CLOCK),
    datetime.date.today: Found("date.today", Kind.CLOCK),
    os.urandom: Found("os.urandom", Kind.CHANCE),
    os.getpid: Found("os.getpid", Kind.CHANCE),
    time.sleep: Found("time.sleep", Kind.SLEEP),
    io.open: Found("open", Kind.WORLD),
    **{
        getattr(os, name): Found(f"os.{name}", Kind.WORLD)
        for name in ("open", "listdir", "scandir", "remove", "unlink", "rename", "replace", "mkdir", "rmdir", "stat")
    },
}
"""Functions that are not written in Python, as they are."""

_FUNCTIONS: Final[dict[int, tuple[CodeType, Found]]] = {}
"""Functions that are, by the identity of their code: its hash would be computed anew at every look-up."""


def _add(function: Any, found: Found) -> None:
    code = getattr(function, "__code__", None)
    if code is None:
        _BUILT_IN[function] = found
    else:
        _FUNCTIONS[id(code)] = (code, found)


def _add_uuid(uuid: Any) -> None:
    for name in ("uuid1", "uuid4"):
        _add(getattr(uuid, name), Found(f"uuid.{name}", Kind.CHANCE))


def _add_secrets(secrets: Any) -> None:
    for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow"):
        _add(getattr(secrets, name), Found(f"secrets.{name}", Kind.CHANCE))


def _add_random(random: Any) -> None:
    shared = random.random.__self__  # what the functions of the module are methods of

    def is_unseeded(frame: FrameType) -> bool:
        generator = frame.f_locals.get("self")
        return generator is shared or isinstance(generator, random.SystemRandom)

    def is_new(frame: FrameType) -> bool:
        return frame.f_locals.get("x") is None and not isinstance(frame.f_locals.get("self"), random.SystemRandom)

    for name, function in vars(random.Random).items():
        if not name.startswith("_") and name not in ("seed", "getstate", "setstate") and hasattr(function, "__code__"):
            _add(function, Found(f"random.{name}", Kind.CHANCE, is_unseeded))
    _add(random.Random.__init__, Found("random.Random", Kind.CHANCE, is_new))
    _add(random.random, Found("random.random", Kind.CHANCE))
    _add(random.getrandbits, Found("random.getrandbits", Kind.CHANCE))
    _add(random.SystemRandom.random, Found("SystemRandom.random", Kind.CHANCE))
    _add(random.SystemRandom.getrandbits, Found("SystemRandom.getrandbits", Kind.CHANCE))


def _add_socket(socket: Any) -> None:
    is_new: Callable[[FrameType], bool] = lambda frame: frame.f_locals.get("fileno") is None  # noqa: E731
    _add(socket.socket.__init__, Found("socket.socket", Kind.WORLD, is_new))
    _add(socket.getaddrinfo, Found("socket.getaddrinfo", Kind.WORLD))
    _add(socket.gethostname, Found("socket.gethostname", Kind.CHANCE))


def _add_http(client: Any) -> None:
    _add(client.HTTPConnection.putrequest, Found("an HTTP request", Kind.WORLD))


def _add_subprocess(subprocess: Any) -> None:
    _add(subprocess.Popen.__init__, Found("subprocess.Popen", Kind.WORLD))


_later: Final[dict[str, Callable[[Any], None]]] = {
    "uuid": _add_uuid,
    "secrets": _add_secrets,
    "random": _add_random,
    "socket": _add_socket,
    "http.client": _add_http,
    "subprocess": _add_subprocess,
}
"""Modules whose functions are added to the tables once somebody has imported them."""


def _look_for_modules() -> None:
    for name in [name for name in _later if name in sys.modules]:
        if (add := _later.pop(name, None)) is not None:
            add(sys.modules[name])


# --- whose code it is --------------------------------------------------------------------------------------------


class Whose(Word):
    """Who has written the code of a file."""

    AUTHOR = "author"
    LIBRARY = "library"
    PYTHON = "python"
    QUIET = "quiet"
    LOOP = "loop"
    SDK = "sdk"
    OWN = "own"


_OWN: Final = str(Path(__file__).parent.parent) + os.sep
_OUTER: Final = tuple(f"{_OWN}{name}{os.sep}" for name in ("cli", "testing", "worker", "server", "runtimes"))
"""What may stand between a handler and the SDK that calls it."""

_PYTHON: Final = str(Path(os.__file__).parent) + os.sep
_LIBRARIES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_QUIET: Final = frozenset(
    (
        *(
            "concurrent",
            "dataclasses.py",
            "encodings",
            "enum.py",
            "gettext.py",
            "importlib",
            "inspect.py",
            "linecache.py",
            "locale.py",
            "logging",
            "pkgutil.py",
        ),
        *("threading.py", "tokenize.py", "traceback.py", "typing.py", "unittest", "warnings.py", "zoneinfo"),
    )
)
"""Parts of the standard library that look at clocks and files without the author's asking."""

_LOOPS: Final = frozenset({"asyncio", "contextlib.py", "functools.py"})
"""Parts that do so too, and through which the author's code is called."""

_HANDING_ON: Final = frozenset({"calls.py", "batch_calls.py", "invocation.py", "strict.py", "loop.py"})
"""Files of our own that call handlers and functions of branches. Others call strategies, serdes and the like."""


def _whose(file: str, roots: tuple[str, ...]) -> Whose:
    if roots and file.startswith(roots):
        return Whose.AUTHOR
    if file.startswith(_OWN):
        return Whose.OWN if file.startswith(_OUTER) else Whose.SDK
    if file.startswith("<frozen"):
        return Whose.QUIET
    if file.startswith("<"):
        return Whose.PYTHON
    if any(folder in file for folder in _LIBRARIES):
        return Whose.LIBRARY
    if not file.startswith(_PYTHON):
        return Whose.AUTHOR
    part = file[len(_PYTHON) :].partition(os.sep)[0]
    return Whose.LOOP if part in _LOOPS else Whose.QUIET if part in _QUIET else Whose.PYTHON


# --- the guard ---------------------------------------------------------------------------------------------------


class Ground:
    """The handler that is guarded, how strictly, and what it was first caught at."""

    def __init__(self, definition: Definition, mode: Strict) -> None:
        self._definition = definition
        self._mode = mode
        self._roots = _roots_of(definition.handler)
        self._files: dict[str, Whose] = {}
        self._first: NonDeterminismError | None = None
        _look_for_modules()

    @property
    def handler(self) -> Callable[..., Any]:
        """The handler, guarded."""
        return self._handle_async if self._definition.is_async else self._handle

    def _handle(self, event: Any, context: Any) -> Any:
        token = _ground.set(self)
        try:
            with _looking():
                result = self._definition.handler(event, context)
        except Exception as error:
            self._raise_first(error)
            raise
        finally:
            _ground.reset(token)
        self._raise_first(None)
        return result

    async def _handle_async(self, event: Any, context: Any) -> Any:
        token = _ground.set(self)
        _watchers.count = getattr(_watchers, "count", 0) + 1
        if sys.getprofile() is None:
            sys.setprofile(_hook)
        try:
            result = await self._definition.handler(event, context)
        except Exception as error:
            self._raise_first(error)
            raise
        finally:
            _watchers.count -= 1
            if not _watchers.count and sys.getprofile() is _hook:
                sys.setprofile(None)
            _ground.reset(token)
        self._raise_first(None)
        return result

    def _raise_first(self, error: Exception | None) -> None:
        """What the handler was caught at and swallowed counts all the same."""
        if self._first is not None and error is not self._first:
            raise self._first from error

    @property
    def context_of(self) -> type[DurableContext]:
        return StrictContext

    def driver(self, driver: Driver) -> "StrictDriver":
        return StrictDriver(driver)

    def caught(self, frame: FrameType | None, found: Found) -> None:
        """A function of the table is called by `frame`; if it is the author's doing, say so."""
        where = self._author_of(frame, found.kind)
        if where is None:
            return
        file, line, function = where.f_code.co_filename, where.f_lineno, where.f_code.co_name
        text = f"{found.name} was called at {file}:{line}, in {function}, outside of a step: {_WAYS_OUT[found.kind]}"
        if self._mode is Strict.WARN:
            registry = where.f_globals.setdefault("__warningregistry__", {})
            warnings.warn_explicit(text, NonDeterminismWarning, file, line, where.f_globals.get("__name__"), registry)
            return
        error = NonDeterminismError(text, found.name, file, line)
        self._first = self._first or error
        raise error

    def _author_of(self, frame: FrameType | None, kind: Kind) -> FrameType | None:
        """The line of the author's that asked for it, in a handler or a branch; None if it is somebody else's doing."""
        while frame is not None and (whose := self._whose(frame.f_code)) is not Whose.AUTHOR:
            is_far = kind is not Kind.WORLD and frame.f_code.co_filename[0] != "<"
            if is_far or whose in (Whose.QUIET, Whose.LOOP, Whose.OWN, Whose.SDK):
                return None
            frame = frame.f_back
        author = frame
        while frame is not None and (whose := self._whose(frame.f_code)) is not Whose.SDK:
            if whose is Whose.QUIET:
                return None
            frame = frame.f_back
        if frame is None or os.path.basename(frame.f_code.co_filename) not in _HANDING_ON:  # noqa: PTH119
            return None
        return author

    def _whose(self, code: CodeType) -> Whose:
        file = code.co_filename
        known = self._files.get(file)
        if known is None:
            known = self._files[file] = _whose(file, self._roots)
        return known


_ground: Final[ContextVar[Ground | None]] = ContextVar("perdure_ground", default=None)
_watchers: Final = threading.local()


def _hook(frame: FrameType, event: str, called: Any) -> None:
    """Called by the interpreter for each call and return in this thread."""
    if event == "c_call":
        found = _BUILT_IN.get(called)
        if found is None:
            return
        caller: FrameType | None = frame
    elif event == "call":
        known = _FUNCTIONS.get(id(frame.f_code))
        if known is None:
            return
        found, caller = known[1], frame.f_back
        if found.applies is not None and not found.applies(frame):
            return
    else:
        return
    ground = _ground.get()
    if ground is not None and isinstance(active.get(), Scope):
        ground.caught(caller, found)


@contextmanager
def _looking() -> Iterator[None]:
    """The author's code runs in this thread."""
    before = sys.getprofile()
    if before is None:
        sys.setprofile(_hook)
    try:
        yield
    finally:
        if before is None and sys.getprofile() is _hook:
            sys.setprofile(None)


class StrictDriver:
    """Any other driver; functions that get a context are the author's code as the handler is."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.owner = driver.owner
        self.call = driver.call
        self.call_within = driver.call_within
        self.commit = driver.commit
        self.close = driver.close
        self.park = driver.park
        self.until = driver.until
        self.fan_out = driver.fan_out
        self.settle = driver.settle
        self.leave = driver.leave

    def __getattr__(self, name: str) -> Any:
        """What one kind of driver has beyond all drivers, for its own kind of context."""
        return getattr(self._driver, name)

    @property
    def foreigner(self) -> str:
        return self._driver.foreigner

    async def enter(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        if getattr(_watchers, "count", 0):  # on a loop, the whole thread is looked at
            return await self._driver.enter(body, function)
        with _looking():
            return await self._driver.enter(body, function)


class StrictContext(DurableContext):
    """A context that does not look while its own operations are at work: it would cost three times as much."""

    def _run(self, begun: Begun[Any]) -> Any:
        if sys.getprofile() is not _hook:
            return super()._run(begun)
        sys.setprofile(None)
        try:
            return super()._run(begun)
        finally:
            sys.setprofile(_hook)


def _roots_of(handler: Callable[..., Any]) -> tuple[str, ...]:
    """Where the author's code is, even if it is installed beside libraries."""
    module = sys.modules.get(handler.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return ()
    package = sys.modules.get(handler.__module__.partition(".")[0])
    paths = getattr(package, "__path__", None) if package is not module else None
    return tuple(str(path) + os.sep for path in paths) if paths else (file,)
