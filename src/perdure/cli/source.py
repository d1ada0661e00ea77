"""What can be known of a function without running it: where its code lies, its handler, whether it is durable."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from perdure.cli.exits import CliError, Exit

PYTHON: Final = ".py"
SCRIPTS: Final = (".mjs", ".js", ".cjs")
DECORATOR: Final = "durable_execution"
PLAIN: Final = ("handler", "lambda_handler")
_DURABLE_SCRIPT: Final = re.compile(r"\bwithDurableExecution\s*\(")
_UNFIT: Final = re.compile(r"[^a-zA-Z0-9_-]+")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """`code` is the folder, or the zip file, to be packed; `is_durable` None means that it can't be seen."""

    code: Path
    handler: str | None = None
    name: str | None = None
    runtime: str | None = None
    is_durable: bool | None = None


class _Seen(msgspec.Struct, frozen=True):
    """A function at the top level of a file."""

    function: str
    name: str
    is_durable: bool


def read_source(reference: str, handler: str | None = None) -> Source:
    """What `CODE[:HANDLER]` means: a folder, a zip file, a file, or a module; a file goes with its neighbours.

    Raises CliError if there is nothing there, or if the handler can't be told.
    """
    text, _, suffix = reference.rpartition(":") if _has_suffix(reference) else (reference, "", "")
    path = Path(text)
    if path.is_dir():
        return _of_folder(path, handler or suffix or None)
    if path.is_file() and path.suffix in (PYTHON, *SCRIPTS):
        return _of_file(path.parent, path.name, suffix, handler)
    if path.is_file():
        return Source(code=path, handler=handler or suffix or None)
    module = Path(*text.split("."))
    for found in (module.with_suffix(PYTHON), module / "__init__.py"):
        if found.is_file():
            return _of_file(Path(), found.as_posix(), suffix, handler)
    raise CliError(
        f"there is no code at {text}",
        Exit.NOT_FOUND,
        hint="name a folder, a file, a module, or a zip file; orders.py:handler names a function in it",
        kind="CodeNotFound",
    )


def find_durable(folder: Path, name: str) -> str | None:
    """`file.py:function` for the durable function of this name in a folder's files; None if there is none.

    Raises CliError if there are several.
    """
    found: list[str] = []
    for file in sorted(folder.glob(f"*{PYTHON}")):
        try:
            found += [
                f"{file}:{seen.function}" for seen in _functions_in(file) if seen.is_durable and seen.name == name
            ]
        except CliError:
            continue  # a file that is no Python has no function
    if len(found) > 1:
        raise CliError(f"{name} is {' and '.join(found)}", Exit.USAGE, hint="choose one with --handler")
    return found[0] if found else None


def _has_suffix(reference: str) -> bool:
    before, sign, after = reference.rpartition(":")
    return bool(sign) and bool(before) and not (len(before) == 1 and after[:1] in ("\\", "/"))


def _of_file(root: Path, name: str, function: str, handler: str | None) -> Source:
    module = name.removesuffix("/__init__.py").removesuffix(Path(name).suffix)
    if handler is not None:
        return _seen_at(root, handler)
    if not name.endswith(PYTHON):
        return _seen_at(root, f"{module}.{function or PLAIN[0]}")
    seen = _choice(list(_functions_in(root / name)), function, root / name)
    return _source(root, module.replace("/", "."), seen)


def _of_folder(root: Path, handler: str | None) -> Source:
    if handler is not None:
        return _seen_at(root, handler)
    files = sorted(file for file in root.iterdir() if file.suffix == PYTHON and file.is_file())
    found = [(file.stem, seen) for file in files for seen in _functions_in(file) if seen.is_durable]
    if len(found) == 1:
        return _source(root, *found[0])
    if not found:
        return Source(code=root)
    names = ", ".join(f"{module}.{seen.function}" for module, seen in found)
    raise CliError(f"{root} has several durable functions: {names}", Exit.USAGE, hint="choose one with --handler")


def _seen_at(root: Path, handler: str) -> Source:
    """What can be seen of `module.function`, the handler as AWS writes it."""
    module, _, function = handler.rpartition(".")
    place = root.joinpath(*module.replace(".", "/").split("/"))
    for file in (place.with_suffix(PYTHON), place / "__init__.py"):
        if file.is_file():
            for seen in _functions_in(file):
                if seen.function == function:
                    return _source(root, module, seen)
            return Source(code=root, handler=handler, runtime=_own_runtime())
    for suffix in SCRIPTS:
        script = place.with_suffix(suffix)
        if script.is_file():
            is_durable = bool(_DURABLE_SCRIPT.search(script.read_text("utf-8", "replace")))
            name = _fit(f"{place.name}-{function}")
            return Source(code=root, handler=handler, name=name, runtime="nodejs22.x", is_durable=is_durable)
    return Source(code=root, handler=handler)


def _source(root: Path, module: str, seen: _Seen) -> Source:
    handler = f"{module}.{seen.function}"
    return Source(code=root, handler=handler, name=seen.name, runtime=_own_runtime(), is_durable=seen.is_durable)


def _own_runtime() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _choice(found: list[_Seen], wanted: str, file: Path) -> _Seen:
    if wanted:
        for seen in found:
            if seen.function == wanted:
                return seen
        return _Seen(wanted, _fit(f"{file.stem}-{wanted}"), is_durable=False)
    durable = [seen for seen in found if seen.is_durable]
    plain = [seen for seen in found if seen.function in PLAIN]
    choices = durable or plain
    if len(choices) == 1:
        return choices[0]
    names = ", ".join(seen.function for seen in choices) or "no function that is durable or called handler"
    raise CliError(f"{file} has {names}", Exit.USAGE, hint=f"choose one: {file}:FUNCTION", kind="HandlerNotFound")


def _functions_in(file: Path) -> Iterator[_Seen]:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise CliError(f"{file} can't be read: {error}", Exit.USAGE, kind="CodeNotRead") from None
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [decorator for decorator in node.decorator_list if _last_name(decorator) == DECORATOR]
            name = next(map(_name_in, given), None) or _fit(f"{file.stem}-{node.name}")
            yield _Seen(node.name, name, is_durable=bool(given))


def _last_name(decorator: ast.expr) -> str | None:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else None


def _name_in(decorator: ast.expr) -> str | None:
    """The name that the decorator is given, where that is written as a text."""
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            return keyword.value.value
    return None


def _fit(text: str) -> str:
    """As names of functions may be; the rule of functions that are loaded (`perdure.execution.default_name`)."""
    return _UNFIT.sub("-", text)[:64].strip("-") or "function"
