"""Where the functions that are developed come from: what is asked of a module, and of a template."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from perdure.cli.exits import CliError, Exit
from perdure.model.ids import Home

if TYPE_CHECKING:
    from perdure.cli.dev.live import Live
    from perdure.server.node import Node

TEMPLATES: Final = ("template.yaml", "template.yml")
_SUFFIXES: Final = (".yaml", ".yml", ".json", ".template")

State = Mapping[str, object]
"""What the files look like: what is equal has not changed."""


class Shown(msgspec.Struct, frozen=True):
    """A function as the table shows it. `qualifier` is how a caller names what it runs."""

    name: str
    runs: str
    qualifier: str | None
    is_durable: bool


class Source(Protocol):
    """Functions and the files that they come from."""

    @property
    def title(self) -> str:
        """What it is, for people."""
        ...

    def handlers(self) -> Mapping[str, Callable[..., Any]]:
        """The functions that run in the process of the node; read once, before there is one.

        Raises CliError or ServiceError if they can't be had.
        """
        ...

    def deploy(self, node: "Node", live: "Live") -> None:
        """Have the functions in the registry of the node, before it serves."""
        ...

    def look(self) -> State:
        """The state of the files now. Raises ServiceError if they can't be looked at."""
        ...

    def renew(self, node: "Node", live: "Live") -> None:
        """Take up what has changed; what can't be taken up is told, and what runs goes on as it was."""
        ...

    def shown(self) -> list[Shown]: ...


def find_source(argument: str | None, folder: Path, overrides: Mapping[str, str], home: Home) -> Source:
    """What is meant by APP or template.yaml, or by nothing.

    Raises CliError if there is nothing to serve.
    """
    if argument is not None and Path(argument).is_dir():
        folder, argument = Path(argument), None
    if argument is None:
        template = next((folder / name for name in TEMPLATES if (folder / name).is_file()), None)
        app = _app_of(folder / "pyproject.toml") if template is None else None
        if template is None and app is None:
            raise CliError(
                f"there is no {TEMPLATES[0]} in {folder.resolve()}, and no app in its pyproject.toml",
                Exit.USAGE,
                hint="name a module (perdure dev orders.py) or a template, or write app in [tool.perdure]",
                kind="NothingToServe",
            )
        argument = str(template) if template is not None else app
    assert argument is not None
    if argument.endswith(_SUFFIXES):
        from perdure.cli.dev.template import TemplateSource

        return TemplateSource(Path(argument), overrides, home)
    if overrides:
        raise CliError("--parameter-overrides is for templates", Exit.USAGE, hint=f"{argument} is an application")
    from perdure.cli.dev.application import AppSource

    return AppSource(argument)


def _app_of(pyproject: Path) -> str | None:
    """What `app` of [tool.perdure] names."""
    try:
        document = tomllib.loads(pyproject.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CliError(f"{pyproject.name} can't be read: {error}", Exit.USAGE) from None
    section = document.get("tool", {}).get("perdure", {})
    app = section.get("app") if isinstance(section, dict) else None
    if app is not None and not isinstance(app, str):
        raise CliError(f"app in [tool.perdure] of {pyproject.name} must be a text, not {app!r}", Exit.USAGE)
    return app
