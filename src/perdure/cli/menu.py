"""What people can do when an execution waits for an answer: SAM's menu, and waiting on."""

from enum import IntEnum
from typing import Final

import click

from perdure.cli.desk import Desk
from perdure.client.errors import ApiError
from perdure.model.error import CallbackTimeout, ErrorObject
from perdure.model.operation import Callback
from perdure.model.view import ExecutionView


class Choice(IntEnum):
    SUCCEED = 1
    FAIL = 2
    HEARTBEAT = 3
    STOP = 4
    WAIT = 5


WORDS: Final = {
    Choice.SUCCEED: "answer it",
    Choice.FAIL: "answer it with a failure",
    Choice.HEARTBEAT: "say that work on it goes on",
    Choice.STOP: "stop the execution",
    Choice.WAIT: "wait for somebody else's answer",
}


def ask(desk: Desk, view: ExecutionView, callback: Callback) -> bool:
    """Have a callback answered by who sits at the terminal; False if they would rather wait."""
    name = f" {callback.name!r}" if callback.name else ""
    click.echo(f"\n{view.function}/{view.name} waits for an answer to{name} {callback.callback_id}", err=True)
    for choice, words in WORDS.items():
        click.echo(f"  {choice}. {words}", err=True)
    choices = click.IntRange(1, len(Choice))
    while True:
        choice = Choice(click.prompt("What now", type=choices, default=int(Choice.SUCCEED), err=True))
        if choice is Choice.WAIT:
            return False
        try:
            _do(desk, view, callback.callback_id, choice)
        except (ApiError, CallbackTimeout) as error:
            if error.code != CallbackTimeout.code:
                raise
            click.echo(f"it is closed already: {error.message}", err=True)
            return True
        if choice is not Choice.HEARTBEAT:
            return True


def _do(desk: Desk, view: ExecutionView, callback_id: str, choice: Choice) -> None:
    match choice:
        case Choice.SUCCEED:
            result = click.prompt("Result (optional)", default="", show_default=False, err=True)
            desk.succeed_callback(callback_id, result or None)
        case Choice.FAIL:
            desk.fail_callback(callback_id, _error("User cancelled"))
        case Choice.HEARTBEAT:
            desk.heartbeat_callback(callback_id)
            click.echo("kept alive", err=True)
        case Choice.STOP:
            desk.stop(view.arn, _error("Execution stopped by user"))


def _error(message: str) -> ErrorObject:
    said = click.prompt("Error message", default=message, err=True)
    kind = click.prompt("Error type (optional)", default="", show_default=False, err=True)
    return ErrorObject(said, kind or None)
