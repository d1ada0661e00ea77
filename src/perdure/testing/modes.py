"""Where tests run their durable functions: in this process, at a server that is started for them, or elsewhere.

One choice for the whole process, which `--perdure-mode` makes: the same test then runs on either back-end.
"""

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

Handler = Callable[..., Any]


class Mode(StrEnum):
    """`local`: in this process. `server`: a real server and worker, over HTTP. `remote`: what is deployed elsewhere."""

    LOCAL = "local"
    SERVER = "server"
    REMOTE = "remote"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How runners are made that say nothing themselves.

    `functions` are the names that handlers go by at a remote server, by their own names. With `is_real_time` nothing is
    skipped. `seed` is that of everything random in a runner.
    """

    mode: Mode = Mode.LOCAL
    endpoint: str | None = None
    functions: Mapping[str, str] = msgspec.field(default_factory=dict)
    is_real_time: bool = False
    seed: int | None = None


_LOCAL_ONLY: Final = frozenset(
    {"skip_time", "start_time", "execution_timeout", "invocation_timeout", "store", "seed", "max_operations"}
    | {"max_bytes", "page_bytes", "checkpoint_delay", "limits"}
)
"""What a server elsewhere has its own ways about: it is left out there, so that the same test runs."""

_chosen = Choice()


def chosen() -> Choice:
    """The choice of this process."""
    return _chosen


def choose(choice: Choice) -> Choice:
    """Have runners made like this from now on; what was chosen before is returned."""
    global _chosen
    before, _chosen = _chosen, choice
    return before


def make_runner(handler: Handler, **options: Any) -> Any:
    """A runner for a handler, of the kind that was chosen; `options` are those of LocalRunner."""
    choice = _chosen
    if choice.is_real_time:
        options["skip_time"] = False
    if choice.mode is Mode.REMOTE:
        from perdure.testing.remote import RemoteRunner

        kept = {name: value for name, value in options.items() if name not in _LOCAL_ONLY}
        return RemoteRunner(remote_name(handler), endpoint=choice.endpoint, **kept)
    if choice.seed is not None:
        options.setdefault("seed", choice.seed)
    if choice.mode is Mode.SERVER:
        from perdure.testing.server import ServerRunner

        return ServerRunner(handler, **options)
    from perdure.testing.local_runner import LocalRunner

    return LocalRunner(handler, **options)


def remote_name(handler: Handler) -> str:
    """The name that a handler goes by at the remote server: as the map has it, or else its own."""
    from perdure.execution import default_name, definition_of

    definition = definition_of(handler)
    name = definition.name if definition is not None else default_name(handler)
    functions = _chosen.functions
    for key in (name, getattr(handler, "__name__", name)):
        if key in functions:
            return functions[key]
    return name


def read_functions(path: Path) -> dict[str, str]:
    """A map of names: a JSON object, or a TOML table, of texts. ValueError says what is wrong with it."""
    text = path.read_text("utf-8")
    found: Any
    if path.suffix == ".toml":
        import tomllib

        found = tomllib.loads(text)
    else:
        found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{path} must map names of handlers to names of functions, both texts")
    return found
