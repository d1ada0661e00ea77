"""Draw which room of `src/perdure` imports which, from the imports as they are: docs/explanation/rooms.md.

python tools/draw_rooms.py           print the drawing
python tools/draw_rooms.py --write   put it into the page
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "perdure"
PAGE = ROOT / "docs" / "explanation" / "rooms.md"
SDK_MODULES = "sdk (public modules)"
"""The SDK's public modules stand at the root of the package, under the official names."""
PUBLIC_PACKAGES = {"concurrency", "operation"}
"""Some of them are packages."""
NO_ROOM = {"__about__", "__main__"}


def room_of(module: str) -> str | None:
    """The room of `perdure.a.b`; None for what belongs to none."""
    parts = module.split(".")
    if parts[0] != "perdure" or (len(parts) > 1 and parts[1] in NO_ROOM):
        return None
    is_room = len(parts) > 1 and parts[1] not in PUBLIC_PACKAGES and (SOURCE / parts[1]).is_dir()
    return parts[1] if is_room else SDK_MODULES


def imports(path: Path) -> Iterator[str]:
    """The modules of perdure that a file imports, for its types or when it runs."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for name in node.names:
                module = f"{node.module}.{name.name}"
                is_module = (SOURCE.parent / Path(*module.split("."))).with_suffix(".py").exists() or (
                    SOURCE.parent / Path(*module.split("."))
                ).is_dir()
                yield module if is_module else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def arrows() -> set[tuple[str, str]]:
    """Which room imports which."""
    found: set[tuple[str, str]] = set()
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        here = room_of(module.removesuffix(".__init__"))
        if here is None:
            continue
        for imported in imports(path):
            there = room_of(imported)
            if there is not None and there != here:
                found.add((here, there))
    return found


def drawing() -> str:
    """The arrows as a Mermaid graph."""
    names = sorted({room for arrow in arrows() for room in arrow})
    ids = {name: re.sub(r"\W+", "_", name).strip("_") for name in names}
    lines = ["graph TD", *(f'    {ids[name]}["{name}"]' for name in names)]
    lines += [f"    {ids[here]} --> {ids[there]}" for here, there in sorted(arrows())]
    return "\n".join(lines)


def main() -> None:
    if "--write" not in sys.argv:
        print(drawing())
        return
    text = PAGE.read_text("utf-8")
    PAGE.write_text(re.sub(r"```mermaid\n.*?```", lambda _: f"```mermaid\n{drawing()}\n```", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
