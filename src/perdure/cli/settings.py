"""The options that every command takes, at any position, and the commands that take them."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import click

FORMATS: Final = ("table", "summary", "json", "jsonl", "yaml", "tsv")
SECTION: Final = "Options of every command"


@dataclass(slots=True)
class Settings:
    """What the options of every command say. `output` is None where nothing was asked for."""

    output: str | None = None
    store: str | None = None
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    query: str | None = None
    verbosity: int = 0
    is_quiet: bool = False
    is_sure: bool = False
    is_utc: bool = False
    timeout_s: float | None = None

    @property
    def is_json(self) -> bool:
        """Whether JSON was asked for, or YAML, which JSON is."""
        return self.output in ("json", "jsonl", "yaml")

    @property
    def store_url(self) -> str:
        from perdure.store.open import DEFAULT_URL

        return self.store or os.environ.get("PERDURE_STORE") or DEFAULT_URL

    def form(self, human: str) -> str:
        """How to write data: as asked for; else `human` on a terminal, JSON elsewhere."""
        is_for_people = sys.stdout.isatty() and self.query is None
        return self.output or (human if is_for_people else "json")


def settings() -> Settings:
    """The settings of the command that runs."""
    return of(click.get_current_context())


def of(context: click.Context) -> Settings:
    root = context.find_root()
    if not isinstance(root.obj, Settings):
        root.obj = Settings()
    return root.obj


def _set(attribute: str, constant: Any = None) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value not in (None, False, 0):
            setattr(of(context), attribute, value if constant is None else constant)

    return keep


def _no_color(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value or os.environ.get("NO_COLOR"):
        context.find_root().color = False
        os.environ["NO_COLOR"] = "1"


class GlobalOption(click.Option):
    """An option of every command; it stands in a section of its own in the help."""


def _global_options() -> list[click.Parameter]:
    def option(*names: str, **facts: Any) -> GlobalOption:
        return GlobalOption(names, expose_value=False, **facts)

    return [
        option(
            "-o",
            "--output",
            type=click.Choice(FORMATS),
            callback=_set("output"),
            help="How data is written. JSON where stdout is no terminal.",
        ),
        option("--query", metavar="JMESPATH", callback=_set("query"), help="Only this part of the data."),
        option("--json", is_flag=True, callback=_set("output", "json"), help="The same as -o json."),
        option("--store", metavar="URL", callback=_set("store"), help="sqlite:///FILE or a path [$PERDURE_STORE]."),
        option("--endpoint", metavar="URL", callback=_set("endpoint"), help="The server [$PERDURE_ENDPOINT]."),
        option("--region", metavar="NAME", callback=_set("region"), help="The region that requests are signed for."),
        option("--profile", metavar="NAME", callback=_set("profile"), help="A section of the configuration."),
        option("--timeout", type=click.FloatRange(min=0), callback=_set("timeout_s"), help="Seconds to wait at most."),
        option("-y", "--yes", is_flag=True, callback=_set("is_sure"), help="Ask nothing."),
        option("--utc", is_flag=True, callback=_set("is_utc"), help="Show times in UTC."),
        option("--no-color", is_flag=True, callback=_no_color, is_eager=True, help="No colours [$NO_COLOR]."),
        option("-q", "--quiet", is_flag=True, callback=_set("is_quiet"), help="Errors and data only."),
        option("-v", "--verbose", count=True, callback=_set("verbosity"), help="Say more; -vv with tracebacks."),
    ]


class _Sectioned(click.Command):
    """Takes the options of every command, and shows them after its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {name for parameter in own for name in parameter.opts}
        return [*own, *(option for option in _GLOBAL if taken.isdisjoint(option.opts))]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (shared if isinstance(parameter, GlobalOption) else own).append(record)
        for title, records in (("Options", own), (SECTION, shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Command(_Sectioned):
    """A command with the options of every command."""


class Group(_Sectioned, click.Group):
    """A group whose commands are loaded when they are named: `lazy` maps a name to (module:attribute, one line)."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]] | None = None, **facts: Any) -> None:
        super().__init__(*args, **facts)
        self._lazy = lazy or {}

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._lazy.get(cmd_name)
        if found is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = found[0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = _near(args[0], self.list_commands(ctx))
            if near is None:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}; did you mean {near!r}?", ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = [(name, line) for name, (_, line) in self._lazy.items() if line]
        for name in super().list_commands(ctx):
            command = super().get_command(ctx, name)
            if command is not None and not command.hidden:
                lines.append((name, command.get_short_help_str(80)))
        if lines:
            with formatter.section("Commands"):
                formatter.write_dl(lines)


def _near(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), 1)
    return found[0] if found else None


_GLOBAL: Final = _global_options()
