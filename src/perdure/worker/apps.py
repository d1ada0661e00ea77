"""An application: the functions that a module offers, durable and plain ones, loaded once or again.

Loading anew imports the module and those of its neighbours that it has imported. Code that can't be loaded leaves what
was loaded before as it is.
"""

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

import perdure
from perdure.execution import default_name, definition_of
from perdure.worker.loading import NotLoaded, is_file, load_module

Handler = Callable[..., Any]
PLAIN_NAMES: Final = ("handler", "lambda_handler")
_FOREIGN: Final = frozenset({"site-packages", "dist-packages"})
_PERDURE: Final = Path(perdure.__file__).parent
_PYTHON: Final = Path(contextlib.__file__).parent


class App(msgspec.Struct, frozen=True):
    """The functions of an application by the names that they go by, and the files that they came from."""

    functions: dict[str, Handler]
    files: frozenset[Path] = frozenset()


class AppLoader:
    """Loads `module` or `file.py`, with `:name,name` for some of its functions alone.

    Without names these are all its durable functions, and a plain `handler` or `lambda_handler`. A plain function is
    called with the event and None.
    """

    def __init__(self, reference: str) -> None:
        source, _, names = reference.partition(":") if "\\" not in reference else reference.rpartition(":")
        if not source:
            raise NotLoaded(f"{reference!r} names no module", "write orders.py or package.orders")
        self._source = source
        self._names = [name.strip() for name in names.split(",") if name.strip()]
        self.files: frozenset[Path] = frozenset()

    def load(self) -> App:
        """Import the application, anew if it has been imported before; `files` are then those that were read.

        Raises NotLoaded, also for a module that can't be imported; then the modules are those that they were.
        """
        before = dict(self._own_modules())
        known = set(sys.modules) - before.keys()
        for name in before:
            del sys.modules[name]
        importlib.invalidate_caches()
        is_bytecode_off = sys.dont_write_bytecode
        sys.dont_write_bytecode = True  # what was compiled is told by seconds; people save faster
        try:
            module = load_module(self._source)
            functions = self._functions(module)
        except BaseException as error:
            fresh = {name: sys.modules.pop(name) for name in set(sys.modules) - known}
            sys.modules.update(before)
            self.files |= {file for file in (*_files_of(fresh), *_files_in(error)) if _is_own(file)}
            raise
        finally:
            sys.dont_write_bytecode = is_bytecode_off
        self.files = _files_of(dict(self._own_modules(module)))
        return App(functions, self.files)

    def _own_modules(self, module: ModuleType | None = None) -> Iterator[tuple[str, ModuleType]]:
        """The module of the application and its neighbours: what lies in its folder, or in that of its package."""
        module = module or sys.modules.get(self._module_name)
        place = _file_of(module) if module is not None else None
        if module is None or place is None:
            return
        levels = module.__name__.count(".") + (place.name == "__init__.py")
        root = place.parents[levels]
        for name, each in list(sys.modules.items()):
            file = _file_of(each)
            if file is not None and file.is_relative_to(root) and _is_own(file) and name != "__main__":
                yield name, each

    @property
    def _module_name(self) -> str:
        return Path(self._source).stem if is_file(self._source) else self._source

    def _functions(self, module: ModuleType) -> dict[str, Handler]:
        handlers = [_named(module, self._source, name) for name in self._names] or list(_offered(module))
        functions: dict[str, Handler] = {}
        for handler in handlers:
            definition = definition_of(handler)
            name = definition.name if definition is not None else default_name(handler)
            if functions.setdefault(name, handler) is not handler:
                raise NotLoaded(f"{self._source} has two functions called {name!r}", "@durable_execution(name=…)")
        if not functions:
            hint = "mark functions with @durable_execution, or name plain ones: orders.py:charge"
            raise NotLoaded(f"{self._source} has no functions", hint)
        return functions


def _offered(module: ModuleType) -> Iterator[Handler]:
    seen: set[int] = set()
    for name, value in vars(module).items():
        is_plain = name in PLAIN_NAMES and inspect.isfunction(value)
        if (definition_of(value) is not None or is_plain) and id(value) not in seen:
            seen.add(id(value))
            yield value


def _named(module: ModuleType, source: str, name: str) -> Handler:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = ", ".join(name for name, value in vars(module).items() if definition_of(value) is not None)
            raise NotLoaded(f"{source} has no {name!r}", f"its durable functions: {known or 'none'}") from None
    if not callable(found):
        raise NotLoaded(f"{source}:{name} is a {type(found).__name__}", "name a function")
    handler: Handler = found
    return handler


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) else None


def _is_own(file: Path) -> bool:
    """Whether a file may be the author's: not Python's, not Perdure's, not an installed package's."""
    is_theirs = file.is_relative_to(_PERDURE) or file.is_relative_to(_PYTHON)
    return not is_theirs and _FOREIGN.isdisjoint(file.parts)


def _files_in(error: BaseException) -> Iterator[Path]:
    """The files that an error came through."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SyntaxError) and cause.filename is not None:
            yield Path(cause.filename)
        for frame in traceback.extract_tb(cause.__traceback__):
            if not frame.filename.startswith("<"):
                yield Path(frame.filename)
        cause = cause.__cause__


def _files_of(modules: dict[str, ModuleType]) -> frozenset[Path]:
    return frozenset(file for module in modules.values() if (file := _file_of(module)) is not None)
