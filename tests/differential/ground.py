"""Programs run by one SDK or the other, what is compared of the runs, and the differences that are meant to be."""

import json
import re
import zlib
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.view import OpenCallback
from support.local import Outcome
from support.sdks import OFFICIAL_ROOT, Ground, Sdk, load_both

Sources = dict[Sdk, dict[str, Any]]
INTERPRETER: Final = Path(__file__).with_name("interpreter.py")


@cache
def interpreter() -> Sources:
    return load_both(INTERPRETER.read_text(), "interpreter")


def answer(ground: Ground, callback: OpenCallback) -> bool:
    """Complete a callback, as its place in the program says; some are left to their time-outs."""
    service = ground.service
    chosen = zlib.crc32(callback.operation_id.encode()) % 5
    match chosen:
        case 0:
            service.fail_callback(callback.callback_id, ErrorObject("no", "Outside", "data", ("a", "b")))
        case 1 if callback.timeout_ms:
            return False
        case 2:
            service.succeed_callback(callback.callback_id, None)
        case _:
            service.succeed_callback(callback.callback_id, '{"answered": [1, null]}')
    return True


def run(sdk: Any, program: Any, crashes: dict[int, bool] | None = None, **more: Any) -> tuple[Ground, Outcome]:
    ground = Ground(interpreter(), sdk, crashes=crashes, **more)
    return ground, ground.run_answering({"program": program}, answer)


# --- what is compared --------------------------------------------------------------------------------------------


def snapshot(outcome: Outcome) -> Any:
    """All that two runs of a program have in common, as plain data."""
    view = outcome.view
    return normalised(
        {
            "status": view.status,
            "result": view.result,
            "error": msgspec.to_builtins(view.error),
            "operations": [msgspec.to_builtins(one) for one in outcome.operations],
            "history": [_event(one) for one in outcome.history],
        }
    )


def ended(found: Any) -> Any:
    """What is left of a snapshot where an ExecutionError may have ended the execution.

    What was begun just then, the official SDK sends or discards, as its threads happen to run (2.4).
    """
    operations = [one for one in found["operations"] if one.get("end_ms") is not None]
    return {**found, "operations": operations, "history": None}


def unordered(found: Any) -> Any:
    """What is left of a snapshot whose branches ran beside each other: their order is free, and with it the moments."""
    free = {
        "number",
        "start_ms",
        "end_ms",
        "callback_id",
        "next_attempt_ms",
        "scheduled_end_ms",
        "timeout_ms",
        "execution_id",
    }
    operations = [{name: one[name] for name in one.keys() - free} for one in found["operations"]]
    events = [(one["operation_id"], one["type"]) for one in found["history"] if one["operation_id"]]
    ends = {name: found[name] for name in ("status", "result", "error")}
    return {**ends, "operations": sorted(operations, key=lambda one: str(one["id"])), "history": sorted(events)}


def _event(event: HistoryEvent) -> dict[str, Any]:
    fields = {name: getattr(event.event, name) for name in event.event.__struct_fields__}
    return {"type": event.type, **msgspec.to_builtins(event), "event": msgspec.to_builtins(fields)}


def normalised(value: Any, key: str = "") -> Any:
    """Without the differences that the specification asks for or leaves open. There are three, and shall be no others.

    1. 2.13: an error of the SDK's own is recorded under the name that it has under the SDK's root.
    2. 1.11: Perdure records the frames of the author's errors; the official SDK records none. Frames that were given
       to a callback from outside are recorded by both.
    3. 2.5, 1.8, 1.12, 1.6: what an interrupted step, an exhausted condition, a value that can't be written and a
       batch that can't be completed say of themselves; the specification has no texts.
    """
    if isinstance(value, dict):
        return {name: normalised(one, name) for name, one in value.items() if not _is_our_trace(name, one)}
    if isinstance(value, (list, tuple)):
        return [normalised(one) for one in value]
    if not isinstance(value, str):
        return value
    if key in ("result", "payload") and '"StackTrace"' in value:
        return json.dumps(normalised(json.loads(value)), separators=(",", ":"))
    if value.startswith("perdure.") or key in ("result", "payload"):
        value = re.sub(r"\bperdure\.(exceptions|concurrency\.models)\.", rf"{OFFICIAL_ROOT}.\1.", value)
    for text, meaning in TEXTS.items():
        value = re.sub(text, meaning, value)
    return value


TEXTS: Final = {
    r"Step operation_id=\w+ name=.*? was previously interrupted": "interrupted",
    r"step '.*?' was interrupted: whether it took effect is unknown": "interrupted",
    r"wait_for_condition exhausted (\d+) attempts before the condition was met": r"not met in \1",
    r"Unsupported type: <class 'object'>": "unwritable",
    r"a value of type builtins\.object can't be written; return [a-zA-Z, ]+ or give a serdes": "unwritable",
    r"min_successful cannot be greater than total items: (\d+) > (\d+)": r"\1 of \2",
    r"min_successful is (\d+), and there are only (\d+) items": r"\1 of \2",
    r"the condition was not met in (\d+) polls": r"not met in \1",
}


def _is_our_trace(name: str, value: Any) -> bool:
    """Frames as Perdure writes them; in a payload of tagged values the list and its texts are tagged."""
    if name not in ("stack_trace", "StackTrace") or not value:
        return False
    frames = value["v"] if isinstance(value, dict) else value
    return all((one["v"] if isinstance(one, dict) else one).startswith('  File "') for one in frames)


def first_difference(one: Any, other: Any, place: str = "") -> str | None:
    """Where two snapshots differ, and how; None if nowhere."""
    if isinstance(one, list) and isinstance(other, list):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            found = first_difference(one.get(key), other.get(key), f"{place}/{key}")
            if found is not None:
                return found
        return None
    return None if one == other else f"{place}: {str(one)[:2000]} != {str(other)[:2000]}"
