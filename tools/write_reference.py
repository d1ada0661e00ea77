"""Write the reference of the public modules from their sources: docs/reference/api, a page for each module.

python tools/write_reference.py           say which pages are not current
python tools/write_reference.py --write   write them

Signatures and defaults are taken as the source spells them, so the pages are the same under every version of Python.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PAGES = ROOT / "docs" / "reference" / "api"
WIDTH = 100

MODULES = [
    "perdure",
    "perdure.config",
    "perdure.batches",
    "perdure.context",
    "perdure.async_context",
    "perdure.futures",
    "perdure.saga",
    "perdure.timeouts",
    "perdure.execution",
    "perdure.exceptions",
    "perdure.retries",
    "perdure.waits",
    "perdure.serdes",
    "perdure.types",
    "perdure.logger",
    "perdure.plugin",
    "perdure.plugin_discovery",
    "perdure.lambda_service",
    "perdure.concurrency.models",
    "perdure.filesystem_serdes",
    "perdure.preview",
    "perdure.testing",
]
"""Those that are not there are left out."""

ALSO = {
    "perdure": ["perdure.worker.embedded.CallbackHandle"],
    "perdure.context": ["perdure.sdk.starting.Starter"],
    "perdure.async_context": ["perdure.async_context.AsyncStarter"],
}
"""What a page's objects return, and what has no page of its own."""

INSIDE = {
    "perdure.config": {"SUB_TYPE", "check_sub_type", "one_of", "set_fields", "to_duration", "to_word"},
    "perdure.exceptions": {"InterruptedStepError", "is_recorded_as", "qualified_name"},
    "perdure.execution": {"definition_of"},
    "perdure.plugin_discovery": {"GROUPS", "REGISTRATION_API"},
}
"""Names that are the SDK's own affair, of modules that have no `__all__` or must have them in it."""

INNER_MEMBERS = {
    "DurableFuture": {"has_ended", "scope", "settle", "start", "tell", "use", "value", "error"},
    "AsyncDurableFuture": {"has_ended", "scope", "settle", "tell", "use", "value", "error"},
    "Timeout": {"enter", "expired", "give_up", "leave", "next_marker", "was_given_up", "is_over"},
    "AsyncTimeout": {"enter", "expired", "give_up", "leave", "limited", "next_marker", "was_given_up"},
}
INNER_TYPES = re.compile(
    r"\b(Begun|Perdure|Scope|Service|Session|Store|Callable\[\[\], bool\])\b|: C\b|context: |state: "
)
"""What a constructor takes that is not for others to call."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Found(NamedTuple):
    """A definition: the module in which it stands, and its node."""

    module: str
    node: ast.stmt


# --- modules -----------------------------------------------------------------------------------------------------


class Module:
    """A parsed source file: what it defines, and where the names come from that it imports."""

    def __init__(self, name: str) -> None:
        path = SOURCE / Path(*name.split("."))
        self.file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self.name = name
        self.text = self.file.read_text("utf-8")
        self.tree = ast.parse(self.text)
        self.definitions: dict[str, ast.stmt] = {}
        self.notes: dict[str, str] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        self.re_exported: list[str] = []
        self._read(self.tree.body)

    def _read(self, body: list[ast.stmt]) -> None:
        for at, node in enumerate(body):
            if isinstance(node, ast.If):
                self._read(node.body)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (node.module, alias.name)
                    if alias.asname == alias.name:
                        self.re_exported.append(alias.name)
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                self.definitions.setdefault(node.name, node)
            elif name := assigned(node):
                self.definitions.setdefault(name, node)
                if note := note_after(body, at):
                    self.notes[name] = note

    def public(self) -> list[str]:
        """The names of the module's page, in the order of the source, then those from elsewhere."""
        listed = self._listed()
        if listed is None:
            inner = INSIDE.get(self.name, set())
            named = [name for name, node in self.definitions.items() if is_public(name, node) and name not in inner]
        else:
            listed = [name for name in listed if name not in INSIDE.get(self.name, set())]
            named = [name for name in self.definitions if name in listed]
        rest = {*(listed or []), *self.re_exported} - {*named, "__version__"}
        return [*named, *sorted(rest, key=lambda name: (name[0].isupper(), name))]

    def _listed(self) -> list[str] | None:
        node = self.definitions.get("__all__")
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
            return None
        return [str(item.value) for item in node.value.elts if isinstance(item, ast.Constant)]

    def segment(self, node: ast.AST) -> str:
        """The source of an expression, on one line; of an annotation in quotes what is in them."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"[\[|A-Z]", node.value):
            return self._spelled_out(node.value)
        text = ast.get_source_segment(self.text, node) or ""
        joined = re.sub(r"([\[(]) | ([\])])", r"\1\2", " ".join(text.split())).replace(",]", "]")
        return self._spelled_out(joined)

    def _spelled_out(self, text: str) -> str:
        """Private aliases of types, as `_Branch[T1]`, replaced by what they stand for."""
        for alias in set(re.findall(r"\b(_[A-Z]\w*)\[", text)):
            value = getattr(self.definitions.get(alias), "value", None)
            if value is not None:
                meant = (ast.get_source_segment(self.text, value) or "").replace('"', "")
                fill = lambda found, meant=meant: re.sub(r"\bT\b", found[1], meant)  # noqa: E731
                text = re.sub(rf"\b{alias}\[(\w+)\]", fill, text)
        return text


@cache
def module(name: str) -> Module:
    return Module(name)


def exists(name: str) -> bool:
    path = SOURCE / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def find(where: str, name: str) -> Found | None:
    """The definition that a name has in a module, wherever it stands."""
    while exists(where):
        here = module(where)
        if name in here.definitions:
            return Found(where, here.definitions[name])
        if name not in here.imported:
            return None
        where, name = here.imported[name]
    return None


def assigned(node: ast.stmt) -> str | None:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def note_after(body: list[ast.stmt], at: int) -> str:
    """The text that stands after an assignment and explains it."""
    following = body[at + 1] if at + 1 < len(body) else None
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        value = following.value.value
        return " ".join(value.split()) if isinstance(value, str) else ""
    return ""


def is_public(name: str, node: ast.stmt) -> bool:
    """Whether a name that no `__all__` mentions is for others: no type variable, no logger."""
    if name.startswith("_") or (isinstance(node, ast.Assign) and re.fullmatch(r"[A-Z](_\w+)?", name)):
        return False
    return not (isinstance(node, (ast.Assign, ast.AnnAssign)) and "TypeVar(" in ast.unparse(node)) and name != "log"


# --- pages -------------------------------------------------------------------------------------------------------


def modules() -> list[str]:
    return [name for name in MODULES if exists(name)]


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    return {"README.md": index(), **{f"{name}.md": page(name) for name in modules()}}


def index() -> str:
    lines = [f"| [`{name}`]({name}.md) | {about(name)} |" for name in modules()]
    head = "The public modules, written from their sources by `tools/write_reference.py`; a test compares."
    return "\n".join(("# The SDK", "", head, "", "| module | |", "|---|---|", *lines, ""))


def about(name: str) -> str:
    """The first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(module(name).tree) or "").partition("\n\n")[0].split())
    return text.replace("|", "\\|")


def page(name: str) -> str:
    here = module(name)
    parts = [
        "<!-- Written by tools/write_reference.py from the sources. -->",
        f"# `{name}`",
        prose(ast.get_docstring(here.tree) or ""),
    ]
    elsewhere: list[str] = []
    for public in here.public():
        found = find(name, public)
        if found is None:
            continue
        home = found.module
        if home != name and home in modules():
            elsewhere.append(f"| `{public}` | [`{home}`]({home}.md) | {first_line(found)} |")
        else:
            parts.append(entry(public, found))
    for extra in ALSO.get(name, []):
        where, _, called = extra.rpartition(".")
        if found := find(where, called):
            parts.append(entry(called, found))
    if elsewhere:
        parts.append("\n".join(("## From other modules", "", "| name | of | |", "|---|---|---|", *elsewhere)))
    return "\n\n".join(part for part in parts if part) + "\n"


def first_line(found: Found) -> str:
    """The first sentence of what a definition says of itself; of a function with several forms, the last of them."""
    if not isinstance(found.node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return ""
    said = ""
    for node in module(found.module).tree.body:
        if isinstance(node, type(found.node)) and node.name == found.node.name:
            said = ast.get_docstring(node) or said
    text = " ".join(said.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?])\s", text)[0].rstrip(":").replace("|", "\\|")


def prose(text: str) -> str:
    """A docstring as it stands; indented examples become blocks."""
    lines, code = list[str](), False
    for line in text.splitlines():
        if line.startswith("    ") and not code:
            lines.append("```py")
            code = True
        elif code and line and not line.startswith("    "):
            while not lines[-1]:
                lines.pop()
            lines.extend(("```", ""))
            code = False
        lines.append(line.removeprefix("    ") if code else line)
    return "\n".join([*lines, "```"] if code else lines)


def entry(name: str, found: Found) -> str:
    """A name of a module."""
    here = module(found.module)
    if isinstance(found.node, ast.ClassDef):
        return described_class(here, found.node)
    if isinstance(found.node, Function):
        nodes = [node for node in here.tree.body if isinstance(node, Function) and node.name == name]
        return function(here, nodes, "##")
    value = getattr(found.node, "value", None)
    shown = here.segment(value) if value is not None else ""
    heading = f"## `{name}`"
    stated = block(f"{name} = {shown}") if 0 < len(shown) <= 160 else ""
    return "\n\n".join(part for part in (heading, stated, here.notes.get(name, "")) if part)


def block(*lines: str) -> str:
    return "\n".join(("```py", *lines, "```"))


# --- functions ---------------------------------------------------------------------------------------------------


def decorators(node: Function) -> set[str]:
    return {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}


def function(here: Module, nodes: list[Function], level: str, owner: str = "") -> str:
    """A function with all its forms; `nodes` are its overloads and the function itself."""
    forms = [node for node in nodes if "overload" in decorators(node)] or nodes[-1:]
    name = nodes[-1].name
    said = next((text for node in reversed(nodes) if (text := ast.get_docstring(node))), "")
    heading = f"{level} `{owner}{name}`"
    return "\n\n".join(
        part for part in (heading, block(*(signature(here, form) for form in forms)), prose(said)) if part
    )


def signature(here: Module, node: Function, name: str = "") -> str:
    """`name(parameters) -> what`, over several lines if it is long."""
    marks = decorators(node)
    before = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    before = next((f"@{mark} " for mark in ("classmethod", "staticmethod") if mark in marks), "") + before
    parameters = list(parameters_of(here, node.args, is_method="staticmethod" not in marks))
    returns = f" -> {here.segment(node.returns)}" if node.returns is not None and not name else ""
    called = name or node.name
    line = f"{before}{called}({', '.join(parameters)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join((f"{before}{called}(", *(f"    {parameter}," for parameter in parameters), f"){returns}"))


def parameters_of(here: Module, given: ast.arguments, *, is_method: bool) -> Iterator[str]:
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults)) + [*given.defaults]
    for at, (parameter, default) in enumerate(zip(positional, defaults, strict=True)):
        if not (is_method and at == 0 and parameter.arg in ("self", "cls")):
            yield parameter_of(here, parameter, default)
    if given.vararg is not None:
        yield "*" + parameter_of(here, given.vararg, None)
    elif given.kwonlyargs:
        yield "*"
    for parameter, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield parameter_of(here, parameter, default)
    if given.kwarg is not None:
        yield "**" + parameter_of(here, given.kwarg, None)


def parameter_of(here: Module, parameter: ast.arg, default: ast.expr | None) -> str:
    text = parameter.arg
    if parameter.annotation is not None:
        text += f": {here.segment(parameter.annotation)}"
    if default is None:
        return text
    stated = here.segment(default).replace("_UNSET", "…")
    return f"{text} = {stated}" if parameter.annotation is not None else f"{text}={stated}"


# --- classes -----------------------------------------------------------------------------------------------------


def described_class(here: Module, node: ast.ClassDef) -> str:
    """A class: what it is, its fields, its methods, and those of its bases that have no page."""
    sources = [(here, node), *inner_bases(here, node)]
    bases = [here.segment(base) for base in node.bases if is_shown_base(here, base)]
    parts = [f"## `{node.name}`" + (f" ({', '.join(f'`{base}`' for base in bases)})" if bases else "")]
    if is_enum(node):
        parts += [prose(ast.get_docstring(node) or ""), members(here, node)]
    else:
        made = constructor(sources)
        parts += [made, prose(ast.get_docstring(node) or ""), fields(here, node)]
    seen = {"__init__"}
    for module_of, source in sources:
        for name, nodes in methods(source).items():
            if name in seen or name.startswith("_") or name in INNER_MEMBERS.get(node.name, ()):
                continue
            seen.add(name)
            parts.append(method(module_of, node.name, nodes))
    return "\n\n".join(part for part in parts if part)


def inner_bases(here: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
    """The bases that are described here, since they are no public names of a module that has a page."""
    for base in node.bases:
        found = found_base(here, base)
        if found is not None and not has_page(found):
            there = module(found.module)
            assert isinstance(found.node, ast.ClassDef)
            yield there, found.node
            yield from inner_bases(there, found.node)


def found_base(here: Module, base: ast.expr) -> Found | None:
    bare = base.value if isinstance(base, ast.Subscript) else base
    found = find(here.name, bare.id) if isinstance(bare, ast.Name) else None
    return found if found is not None and isinstance(found.node, ast.ClassDef) else None


def has_page(found: Found) -> bool:
    assert isinstance(found.node, ast.ClassDef)
    return found.module in modules() and found.node.name in module(found.module).public()


def is_shown_base(here: Module, base: ast.expr) -> bool:
    found = found_base(here, base)
    if found is not None:
        return has_page(found)
    return not here.segment(base).startswith(("Generic", "Word"))


def is_enum(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).rpartition(".")[2] in ("Word", "Enum", "StrEnum") for base in node.bases)


def members(here: Module, node: ast.ClassDef) -> str:
    lines = [
        (name, here.segment(each.value))
        for each in node.body
        if isinstance(each, ast.Assign) and (name := assigned(each))
    ]
    return "\n".join(("| member | value |", "|---|---|", *(f"| `{name}` | `{value}` |" for name, value in lines)))


def methods(node: ast.ClassDef) -> dict[str, list[Function]]:
    found: dict[str, list[Function]] = {}
    for each in node.body:
        if isinstance(each, Function):
            found.setdefault(each.name, []).append(each)
    return found


def constructor(sources: list[tuple[Module, ast.ClassDef]]) -> str:
    """How an object is made, where a class says so itself."""
    for here, node in sources:
        for init in methods(node).get("__init__", [])[-1:]:
            stated = signature(here, init, name=sources[0][1].name)
            return "" if INNER_TYPES.search(stated) else block(stated)
    return ""


def method(here: Module, owner: str, nodes: list[Function]) -> str:
    node = nodes[-1]
    if decorators(node) & {"property", "cached_property"}:
        returns = f": {here.segment(node.returns)}" if node.returns is not None else ""
        said = prose(ast.get_docstring(node) or "")
        return "\n\n".join(
            part for part in (f"### `{owner}.{node.name}`", block(f"{node.name}{returns}"), said) if part
        )
    return function(here, nodes, "###", f"{owner}.")


def fields(here: Module, node: ast.ClassDef) -> str:
    """The annotated attributes with their defaults; those that a constructor of the class's own gives are made."""
    rows: list[tuple[str, str, str, str]] = []
    for at, each in enumerate(node.body):
        name = assigned(each)
        if not isinstance(each, ast.AnnAssign) or name is None or name.startswith("_"):
            continue
        kind = here.segment(each.annotation)
        if kind.startswith(("ClassVar", "KW_ONLY")):
            continue
        rows.append((name, kind, default_of(here, node, each, name), note_after(node.body, at)))
    if not rows:
        return ""
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, kind, default, note in rows:
        cells = (f"`{name}`", f"`{kind}`", f"`{default}`" if default else "", note)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def default_of(here: Module, node: ast.ClassDef, each: ast.AnnAssign, name: str) -> str:
    if each.value is not None:
        if not isinstance(each.value, ast.Call) or ast.unparse(each.value.func) != "field":
            return here.segment(each.value)
        given = {keyword.arg: here.segment(keyword.value) for keyword in each.value.keywords}
        return f"{given['default_factory']}()" if "default_factory" in given else given.get("default", "")
    return made_default(here.name, node, name)


def made_default(where: str, node: ast.ClassDef, name: str) -> str:
    """The value that an object has which is made without arguments, of a class with a constructor of its own."""
    if "__init__" not in methods(node) or not any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        return ""
    made = example(where, node.name)
    if made is None:
        return ""
    value = getattr(made, name)
    return f"{type(value).__name__}.{value.name}" if hasattr(value, "name") else repr(value)


@cache
def example(where: str, name: str) -> Any:
    """An object of a class whose constructor gives its fields their defaults."""
    import importlib

    try:
        return getattr(importlib.import_module(where), name)()
    except TypeError:
        return None


# --- writing -----------------------------------------------------------------------------------------------------


def stale() -> list[str]:
    """The pages that are not as they should be, and those that should not be."""
    wanted = pages()
    there = {path.name: path.read_text("utf-8") for path in PAGES.glob("*.md")}
    return sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))


def main() -> None:
    sys.path.insert(0, str(SOURCE))
    names = stale()
    if "--write" not in sys.argv:
        print("\n".join(names) or "all pages are current")
        sys.exit(bool(names))
    wanted = pages()
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in wanted:
            (PAGES / name).write_text(wanted[name], "utf-8")
        else:
            (PAGES / name).unlink()


if __name__ == "__main__":
    main()
