"""Completion for shells: the scripts, and the ids and names that are completed from the store."""

import contextlib
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from perdure.cli.exits import CliError, Exit
from perdure.cli.settings import Command, Settings, of

SHELLS: Final = ("bash", "zsh", "fish")
_SHOWN_MAX: Final = 50
_PLACES: Final = {
    "bash": ".local/share/bash-completion/completions/perdure",
    "zsh": ".zfunc/_perdure",
    "fish": ".config/fish/completions/perdure.fish",
}


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Put it where the shell looks for it, and say where that is.")
def completion(shell: str, install: bool) -> None:
    """Print the script that completes commands, options, names and ids.

    To try it: source <(perdure completion bash)
    """
    from perdure.cli.main import root

    script_class = get_completion_class(shell)
    if script_class is None:
        raise CliError(f"there is no completion for {shell}", Exit.USAGE)
    script = script_class(root, {}, "perdure", "_PERDURE_COMPLETE").source()
    if not install:
        click.echo(script)
        return
    place = Path.home() / _PLACES[shell]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(script, "utf-8")
    click.echo(f"written: {place}", err=True)
    if shell == "zsh":
        click.echo("~/.zshrc needs: fpath+=~/.zfunc; autoload -Uz compinit && compinit", err=True)


def _found(context: click.Context, find: Callable[[Settings], Iterable[CompletionItem]]) -> list[CompletionItem]:
    """What `find` finds; nothing if anything is in the way: completion never complains."""
    with contextlib.suppress(Exception):
        return list(find(of(context)))
    return []


def executions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of executions that begin so, or the newest ones, and the words with @."""
    from perdure.cli.desk import opened
    from perdure.store.protocol import Query

    def find(options: Settings) -> Iterable[CompletionItem]:
        if not incomplete or incomplete.startswith("@"):
            for word in ("@last", "@last-failed"):
                if word.startswith(incomplete):
                    yield CompletionItem(word)
        with opened(options, is_hasty=True) as desk:
            query = Query(now_ms=desk.now_ms(), id_prefix=incomplete or None, limit=_SHOWN_MAX)
            for row in islice(desk.rows(query), _SHOWN_MAX):
                yield CompletionItem(row.execution_id, help=f"{row.function}/{row.shown_name} {row.status}")

    return _found(context, find)


def callbacks(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of open callbacks."""
    from perdure.cli.desk import opened

    def find(options: Settings) -> Iterable[CompletionItem]:
        with opened(options, is_hasty=True) as desk:
            for found in desk.open_callbacks(limit=_SHOWN_MAX):
                if found.callback_id.startswith(incomplete):
                    yield CompletionItem(found.callback_id, help=f"{found.execution_name} {found.name or ''}")

    return _found(context, find)


def functions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of functions."""
    from perdure.cli.desk import opened

    def find(options: Settings) -> Iterable[CompletionItem]:
        with opened(options, is_hasty=True) as desk:
            for name in desk.functions():
                if name.startswith(incomplete):
                    yield CompletionItem(name)

    return _found(context, find)
