"""`perdure debug`: go back to any event of an execution, and look at the code as it stood there."""

import json
import pdb
import sys
from types import FrameType
from typing import Any, Final

import click

from perdure.cli import completion
from perdure.cli.exits import CliError, Exit
from perdure.cli.export import handler_of, history_at
from perdure.cli.lines import plain_tree
from perdure.cli.output import one_line, write_data
from perdure.cli.running import handlers_of, quiet_stdout
from perdure.cli.settings import Command, Settings, settings
from perdure.exceptions import ValidationError
from perdure.execution import definition_of
from perdure.sdk.invocation import Definition, InvocationStatus
from perdure.testing.exceptions import DurableFunctionsTestError
from perdure.testing.histories import History
from perdure.testing.replaying.asking import Rerun
from perdure.testing.replaying.debugging import Debugger, Leave, Reached, Stop, TimeMachine, watch
from perdure.wire.forms import PEOPLE
from perdure.wire.operations import write_operation

CHARS_MAX: Final = 200
"""So much of a variable is shown."""


@click.command(cls=Command)
@click.argument("execution", metavar="EXECUTION|FILE", shell_complete=completion.executions)
@click.option("--at", "event_id", type=click.IntRange(min=1), metavar="EVENT", help="The event; without it, the last.")
@click.option("--handler", metavar="MODULE_OR_FILE:HANDLER", help="The code; without it, it is looked for here.")
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=JSON", help="What if this operation had returned that?"
)
@click.option("--run", "names", multiple=True, metavar="STEP", help="Run this step's body, where it has no result.")
@click.option(
    "--pdb/--no-pdb", "has_prompt", default=None, help="A prompt in the frame; or what is there, and the end."
)
def debug(
    execution: str,
    event_id: int | None,
    handler: str | None,
    overrides: tuple[str, ...],
    names: tuple[str, ...],
    has_prompt: bool | None,
) -> int:
    """Replay an execution here up to an event, with its stored results, and stop in the handler's frame.

    No body runs, but those that --run names, and nothing is written to the store or the server. In the prompt, beside
    the commands of pdb: `forward` and `backward` go to the next or the last operation, `goto EVENT` to any event, `ops`
    lists the operations so far, `whatif PATH JSON` replays with another result. EXECUTION may be a file that `perdure
    execution export` has written.
    """
    options = settings()
    history = history_at(options, execution)
    machine = TimeMachine(_definition(handler, history), history)
    for given in overrides:
        path, sign, value = given.partition("=")
        if not sign:
            raise click.BadParameter(f"{given!r} is not PATH=JSON", param_hint="--set")
        _override(machine, path, value)
    machine.runs.update(names)
    at = event_id if event_id is not None else machine.last
    machine.event(at)
    if has_prompt is None:
        has_prompt = sys.stdin.isatty() and sys.stdout.isatty() and options.output is None
    return _prompted(options, machine, at) if has_prompt else _shown(options, machine, at)


def _definition(handler: str | None, history: History) -> Definition:
    """The code that is to be replayed."""
    reference = handler_of(handler, history)
    with quiet_stdout():
        functions = handlers_of(reference).functions
    function = history.view.function
    found = functions.get(function) or (next(iter(functions.values())) if len(functions) == 1 else None)
    definition = definition_of(found)
    if definition is None:
        raise CliError(
            f"{reference} has no durable function {function!r}, but {', '.join(functions)}",
            Exit.USAGE,
            hint="--handler MODULE:HANDLER names one",
            kind="HandlerNotLoaded",
        )
    return definition


def _override(machine: TimeMachine, path: str, value: str) -> None:
    try:
        machine.override(path, json.loads(value))
    except json.JSONDecodeError as error:
        raise CliError(
            f"what {path!r} is set to is not JSON: {error}", Exit.USAGE, hint="a text needs quotes"
        ) from None
    except DurableFunctionsTestError as error:
        raise CliError(str(error), Exit.USAGE, kind=type(error).__name__) from None


# --- without a prompt ---------------------------------------------------------------------------------------------


def _shown(options: Settings, machine: TimeMachine, event_id: int) -> int:
    stops: list[Stop] = []

    def stopped(stop: Stop) -> None:
        stops.append(stop)
        raise Leave

    with quiet_stdout():
        run = _travelled(machine, event_id, stopped)
    if not stops:
        raise _never_there(machine, event_id, run)
    form = options.form("summary")
    if options.query is not None or form in ("json", "jsonl", "yaml"):
        write_data(options, _document(stops[0]), form)
    else:
        click.echo(_text(machine, stops[0]))
    return Exit.OK


def _travelled(machine: TimeMachine, event_id: int, stopped: Any, debugger_of: Any = None) -> Rerun | None:
    try:
        return machine.travel(event_id, stopped, debugger_of)
    except Leave:
        return None


def _never_there(machine: TimeMachine, event_id: int, run: Rerun | None) -> CliError:
    """Why the code does not come to an event."""
    divergence = run.divergence if run is not None else None
    why = f": {divergence}" if divergence is not None else ""
    return CliError(
        f"the code does not come to event {event_id} of {machine.history.label}{why}",
        Exit.DIVERGED,
        hint="`perdure replay` shows where code and history part",
        kind="NotReached",
    )


def _document(stop: Stop) -> dict[str, Any]:
    where = stop.where
    return {
        "EventId": stop.event.event_id,
        "EventType": stop.event.type,
        "Operation": None if stop.operation is None else write_operation(stop.operation, PEOPLE),
        "File": where.file if where is not None else None,
        "Line": where.line if where is not None else None,
        "Function": where.function if where is not None else None,
        "Source": [{"Line": number, "Text": text} for number, text in stop.source()],
        "Variables": {name: _repr(value) for name, value in stop.variables.items()},
        "Operations": [write_operation(operation, PEOPLE) for operation in stop.operations],
    }


def _text(machine: TimeMachine, stop: Stop) -> str:
    lines = [_headline(machine, stop)]
    if stop.where is not None:
        lines.append(str(stop.where))
        lines += [
            f"{'->' if number == stop.where.line else '  '} {number:>4}  {text}" for number, text in stop.source()
        ]
    lines.append("variables")
    width = max((len(name) for name in stop.variables), default=0)
    lines += [f"  {name:<{width}}  {_repr(value)}" for name, value in stop.variables.items()]
    return "\n".join([*lines, "operations", *(f"  {line}" for line in _operations(stop))])


def _headline(machine: TimeMachine, stop: Stop) -> str:
    named = f" of {stop.event.name}" if stop.event.name else ""
    count = len(machine.history.events)
    return f"{machine.history.label} at event {stop.event.event_id} of {count}: {stop.event.type}{named}"


def _operations(stop: Stop) -> list[str]:
    return list(plain_tree(stop.operations, stop.event.event.at_ms))


def _repr(value: Any) -> str:
    try:
        return one_line(repr(value), CHARS_MAX)
    except Exception as error:  # noqa: BLE001 - the author's __repr__ must not hide the other variables
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


# --- with a prompt ------------------------------------------------------------------------------------------------


def _prompted(options: Settings, machine: TimeMachine, event_id: int) -> int:
    at: int | None = event_id
    is_at_call = False
    while at is not None:
        session = _Session(machine, at)
        try:
            run: Rerun | None = machine.travel(at, session.stopped, session.debugger, is_at_call=is_at_call)
        except Leave:
            run = None
        if not session.has_stopped:
            raise _never_there(machine, at, run)
        if not session.was_asked and not is_at_call:
            is_at_call = True  # the code had no line after this operation: its call will do
            continue
        is_at_call = False
        if not session.was_asked and session.stop is not None:
            click.echo(_text(machine, session.stop))
        if run is not None:
            _say_how_it_went_on(machine, run)
        at = session.wanted
    return Exit.OK


def _say_how_it_went_on(machine: TimeMachine, run: Rerun) -> None:
    """What the code came to after the prompt was left, with what is recorded after that event."""
    if run.divergence is not None:
        click.echo(f"it goes on differently: {run.divergence}")
    recorded = {operation.id for operation in machine.operations()}
    new = [asked for asked in run.asked.values() if asked.record is None and asked.name not in machine.runs]
    for asked in new:
        if asked.place not in recorded:
            click.echo(
                f"it would go on with {asked.type} '{asked.name or ''}' at {asked.where}; bodies do not run here"
            )
    if any(asked.place in recorded for asked in new):
        click.echo("what ran beside it stays where it was at that event")
    if run.answer is not None and run.answer.status is not InvocationStatus.PENDING:
        click.echo(f"it ends {run.answer.status}: {one_line(run.answer.result or str(run.answer.error), CHARS_MAX)}")


class _Session:
    """One stay at a point in time; `wanted` is the event to go to after it."""

    def __init__(self, machine: TimeMachine, event_id: int) -> None:
        self.machine = machine
        self.event_id = event_id
        self.wanted: int | None = None
        self.has_stopped = False
        self.was_asked = False
        self.stop: Stop | None = None

    def stopped(self, stop: Stop) -> None:
        self.stop = stop
        self.has_stopped = True
        if stop.frame is not None:
            click.echo(_headline(self.machine, stop))

    def debugger(self, reached: Reached) -> Debugger:
        return _Prompt(self, reached)


class _Prompt(pdb.Pdb):
    """pdb's prompt, which also goes through time."""

    def __init__(self, session: _Session, reached: Reached) -> None:
        super().__init__(nosigint=True)
        self.prompt = "(perdure) "
        self._session = session
        self._reached = reached
        self._leaves = False

    # --- what stops the code -------------------------------------------------------------------------------------

    def watch(self, frame: FrameType) -> None:
        watch(self, frame)

    def stand(self, frame: FrameType) -> None:
        watch(self, frame)
        self.interaction(frame, None)

    def let_go(self) -> None:
        sys.settrace(None)

    def interaction(self, frame: Any, *how: Any, **more: Any) -> None:
        """Ask what to do; leave the replay if that is to go elsewhere."""
        self._reached(frame)
        self._session.was_asked = True
        super().interaction(frame, *how, **more)
        if self._leaves:
            sys.settrace(None)
            raise Leave

    def _go(self, event_id: int) -> bool:
        self._session.wanted = event_id
        self._leaves = True
        return True

    # --- commands ------------------------------------------------------------------------------------------------

    def do_forward(self, arg: str) -> bool | None:
        """forward [count]: go to where the next operation has come to its end."""
        count = self._count(arg)
        return None if count is None else self._go(self._session.machine.after(self._session.event_id, count))

    do_fw = do_forward

    def do_backward(self, arg: str) -> bool | None:
        """backward [count]: go back to the operation before."""
        count = self._count(arg)
        return None if count is None else self._go(self._session.machine.before(self._session.event_id, count))

    do_bw = do_backward

    def do_goto(self, arg: str) -> bool | None:
        """goto event: go to any event."""
        try:
            self._session.machine.event(int(arg))
        except (ValueError, ValidationError) as error:
            self.error(str(error))
            return None
        return self._go(int(arg))

    def do_ops(self, _arg: str) -> None:
        """ops: the operations as they are now."""
        stop = self._session.stop
        for line in _operations(stop) if stop is not None else ():
            self.message(line)

    def do_whatif(self, arg: str) -> bool | None:
        """whatif path json: replay with another result of an operation."""
        path, _, value = arg.partition(" ")
        try:
            _override(self._session.machine, path, value)
        except CliError as error:
            self.error(error.message)
            return None
        return self._go(self._session.event_id)

    def do_quit(self, arg: str) -> bool:
        """quit: leave."""
        self._leaves = True
        return True

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool:  # noqa: N802 - the name that cmd calls
        """The end of the input: leave."""
        self.message("")
        return self.do_quit(arg)

    def _count(self, arg: str) -> int | None:
        if not arg:
            return 1
        if arg.isdecimal() and int(arg) > 0:
            return int(arg)
        self.error(f"{arg!r} is no number of operations")
        return None
