"""From `module:handler` or `file.py:handler` to the handler itself."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from perdure.execution import default_name, definition_of

Handler = Callable[..., Any]


class NotLoaded(Exception):
    """What was named can't be imported, is not there, or is not durable. `hint` is the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Loaded(msgspec.Struct, frozen=True):
    """A durable handler, and all durable functions of its module by name, itself among them."""

    name: str
    handler: Handler
    functions: dict[str, Handler]


def load_handler(reference: str) -> Loaded:
    """Import the module or the file and find the handler. Without `:handler` the module's only durable function is
    meant, or the one called `handler`.

    Raises NotLoaded.
    """
    source, attribute = _parted(reference)
    module = load_module(source)
    durable = {name: value for name, value in vars(module).items() if definition_of(value) is not None}
    functions = {_name(value): value for value in durable.values()}
    handler = _pick(module, source, attribute, durable)
    return Loaded(_name(handler), handler, {**functions, _name(handler): handler})


class Handlers(msgspec.Struct, frozen=True):
    """The functions of a module by the names that they go by, and the module."""

    functions: dict[str, Handler]
    module: ModuleType


def load_functions(reference: str) -> Handlers:
    """Import the module or the file, and take the handlers named after its colon: `orders.py:order,refund`.

    Handlers may be durable or plain `f(event, context)`. Without names the durable functions of the module are meant.
    Raises NotLoaded.
    """
    source, names = _parted(reference)
    module = load_module(source)
    durable = {name: value for name, value in vars(module).items() if definition_of(value) is not None}
    if not names:
        if not durable:
            raise NotLoaded(
                f"{source} has no durable function", "mark one with @durable_execution, or name a plain one"
            )
        return Handlers({_name(value): value for value in durable.values()}, module)
    known = ", ".join(durable) or "none"
    found = [_attribute(module, source, name.strip(), known) for name in names.split(",")]
    for name, value in zip(names.split(","), found, strict=True):
        if not callable(value) or (definition_of(value) is None and inspect.iscoroutinefunction(value)):
            what = "an `async def` that is not durable" if callable(value) else f"a {type(value).__name__}"
            raise NotLoaded(
                f"{source}:{name.strip()} is {what}", "name durable functions, or plain ones that are `def`"
            )
    return Handlers({_name(value): value for value in found}, module)


def _parted(reference: str) -> tuple[str, str]:
    """Source and names of `source:names`; a drive letter's colon parts nothing."""
    source, _, names = reference.partition(":") if "\\" not in reference else reference.rpartition(":")
    if not source:
        raise NotLoaded(f"{reference!r} names no module", "write orders.py:handler or package.orders:handler")
    return source, names


def load_module(source: str) -> ModuleType:
    """Import a module by its name, or a file by its path. Raises NotLoaded."""
    return _import_file(Path(source)) if is_file(source) else _import_module(source)


def is_file(source: str) -> bool:
    """Whether a file is meant, not a module."""
    return source.endswith(".py") or "/" in source


def _name(handler: Handler) -> str:
    definition = definition_of(handler)
    return definition.name if definition is not None else default_name(handler)


def _pick(module: ModuleType, source: str, attribute: str, durable: dict[str, Handler]) -> Handler:
    known = ", ".join(durable) or "none"
    if not attribute:
        if "handler" in durable:
            return durable["handler"]
        if len({id(value) for value in durable.values()}) != 1:
            raise NotLoaded(
                f"{source} does not say which handler is meant; its durable functions: {known}",
                f"write {source}:NAME" if durable else "mark one with @durable_execution",
            )
        return next(iter(durable.values()))
    found = _attribute(module, source, attribute, known)
    if definition_of(found) is None:
        what = f"a {type(found).__name__}" if not callable(found) else "not durable"
        raise NotLoaded(f"{source}:{attribute} is {what}", f"mark it with @durable_execution; durable here: {known}")
    handler: Handler = found
    return handler


def _attribute(module: ModuleType, source: str, attribute: str, known: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise NotLoaded(f"{source} has no {attribute!r}", f"its durable functions: {known}") from None
    return found


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = "run it where the module is, or name the file: orders.py:handler"
            raise NotLoaded(f"there is no module {name!r}", hint) from None
        raise _broken(name, error) from error
    except BaseException as error:
        raise _broken(name, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotLoaded(f"there is no file {path}", "name a Python file or a module: orders.py:handler")
    here = str(path.parent.resolve())
    if here not in sys.path:
        sys.path.insert(0, here)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise NotLoaded(f"{path} is no Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    if known is None:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if known is None:
            del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _broken(source: str, error: BaseException) -> BaseException:
    """What went wrong inside the module, with the line; an interrupt stays one."""
    if isinstance(error, KeyboardInterrupt):
        return error
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    frames = [frame for frame in frames if frame.filename != __file__]
    if isinstance(error, SyntaxError):
        where = f"{Path(error.filename or source).name}, line {error.lineno}"
        words = f"{type(error).__name__}: {error.msg}"
    else:
        where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "its import"
        words = f"{type(error).__name__}: {error}"
    return NotLoaded(f"{source} can't be imported: {words} ({where})", "the file itself must import cleanly")
