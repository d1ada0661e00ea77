"""An execution begun by one SDK is finished by the other, from every point at which a process may die or suspend."""

from collections.abc import Callable
from typing import Any

import pytest

from differential.ground import normalised, run
from support.local import Outcome
from support.sdks import OFFICIAL, PERDURE, Ground, Sdk

STEP = {
    "kind": "step",
    "value": ["tuple", [["json", 1], ["decimal", "1.50"]]],
    "as_json": False,
    "failures": 0,
    "error": "ValueError",
    "retry": ["exponential", 3, 5],
    "once": False,
    "sub_type": None,
    "is_unnamed": False,
}
BATCH = {
    "names": None,
    "max_concurrency": 1,
    "completion": ["all_completed", None],
    "is_flat": False,
    "throws": False,
    "value": ["json", "branch"],
}
CHILD = {"is_virtual": False, "value": ["json", 7], "is_summed_up": False, "sub_type": None}


def step(name: str, **more: Any) -> dict[str, Any]:
    return {**STEP, "name": name, **more}


def wait(name: str) -> dict[str, Any]:
    return {"kind": "wait", "name": name, "seconds": 60}


def attempt(*body: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "attempt", "name": None, "body": list(body)}


def child(name: str, *body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "child", "name": name, **CHILD, "body": list(body), **more}


def batch(kind: str, *bodies: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": f"a {kind}", **BATCH, "bodies": list(bodies), **more}


def invoke(function: str) -> dict[str, Any]:
    return {"kind": "invoke", "name": f"ask {function}", "function": function, "payload": {"a": [1]}}


CONDITION = {
    "kind": "condition",
    "name": "ready",
    "polls": 3,
    "attempts": 5,
    "fails_at": 0,
    "error": "Refused",
    "seconds": 30,
}
CALLBACK = {"kind": "callback", "name": "approval", "timeout": 3600, "as_json": True, "body": []}
WAIT_FOR_CALLBACK = {
    "kind": "wait_for_callback",
    "name": "job",
    "timeout": 3600,
    "as_json": False,
    "is_refused": False,
    "error": "Refused",
    "retry": ["exponential", 2, 5],
}
NO_RETRY = {"failures": 9, "retry": ["none", 1, 1], "error": "Refused"}

PROGRAMS: dict[str, list[dict[str, Any]]] = {
    "steps": [step("one"), step("two", as_json=True, value=["json", {"a": None}]), step("three", sub_type="Charge")],
    "retries": [step("second try", failures=1), attempt(step("never", failures=9)), step("after")],
    "at most once": [step("charge", once=True, failures=1), attempt(step("once", once=True, retry=["none", 1, 1]))],
    "waits": [wait("a while"), step("after"), wait("another")],
    "children": [
        child("outer", step("in"), child("inner", wait("in it"), step("deep")), attempt(step("bad", **NO_RETRY))),
        child("virtual", step("in the virtual"), is_virtual=True),
        attempt(child("failing", step("worse", **NO_RETRY))),
    ],
    "large results": [
        child("large", step("made once"), value=["large", "x"]),
        child("summed up", step("once, too"), value=["large", "ü"], is_summed_up=True),
        wait("over night"),
        batch("map", [step("m0")], [step("m1", **NO_RETRY)], [step("m2")], value=["large", "y"]),
        step("after"),
    ],
    "conditions": [CONDITION, attempt({**CONDITION, "attempts": 2}), attempt({**CONDITION, "fails_at": 2})],
    "callbacks": [CALLBACK, WAIT_FOR_CALLBACK, attempt({**WAIT_FOR_CALLBACK, "name": "bad", "is_refused": True})],
    "failed callbacks": [attempt(CALLBACK), attempt(WAIT_FOR_CALLBACK), attempt(CALLBACK), attempt(WAIT_FOR_CALLBACK)],
    "invokes": [invoke("echo"), invoke("other"), *[attempt(invoke(f)) for f in ("refuse", "other-refuses", "nobody")]],
    "a map": [batch("map", [step("a"), wait("w")], [attempt(step("b", **NO_RETRY))], [step("c", failures=1)])],
    "a failing parallel": [
        attempt(batch("parallel", [step("a")], [step("b", **NO_RETRY)], [step("c")], throws=True)),
        batch("parallel", [step("d")], [step("e", **NO_RETRY)], [step("f")], completion=[None, None]),
    ],
    "an early end": [
        batch("parallel", [step("a")], [step("b")], [step("c")], completion=["min_successful", 2]),
        batch("map", [step("d")], [step("e")], completion=["predicate", 1]),
    ],
    "flat batches": [batch("map", [step("a"), wait("w")], [step("b", failures=1)], is_flat=True), step("after")],
}


def end_of(outcome: Outcome) -> Any:
    view = outcome.view
    error = (view.error.type, view.error.message) if view.error is not None else None
    return normalised({"status": view.status, "result": view.result, "error": error})


def first_then(first: Sdk, then: Sdk, invocations: int) -> Callable[[Ground], Sdk]:
    """The first so many invocations of a ground are `first`'s, the others `then`'s."""
    return lambda ground: first if ground.invocations <= invocations else then


UNKNOWN_THERE = "failed callbacks"
"""2.13 has Perdure record its errors under its own root, which the official SDK does not know: there, the recorded end
of a callback or of a serialization is a failure of the operation around it. See the last test."""

BOTH_WAYS = [
    pytest.param(first, then, name, id=f"{way}-{name}")
    for way, first, then in [("to ours", OFFICIAL, PERDURE), ("to theirs", PERDURE, OFFICIAL)]
    for name in PROGRAMS
    if (then, name) != (OFFICIAL, UNKNOWN_THERE)
]


@pytest.mark.parametrize(("first", "then", "name"), BOTH_WAYS)
def test_what_one_sdk_begins_the_other_finishes(first: Sdk, then: Sdk, name: str) -> None:
    """After each of the first's invocations that suspends; and after each update, as if its process had died there."""
    program = PROGRAMS[name]
    ground, outcome = run(first, program)
    uninterrupted = end_of(outcome)
    for invocations in range(1, ground.invocations):
        mixed, outcome = run(first_then(first, then, invocations), program)
        assert {first, then} == set(mixed.ran_by)
        assert end_of(outcome) == uninterrupted, f"{then} from invocation {invocations + 1}"
    for updates in range(1, ground.updates):
        dead, outcome = run(_after_death(first, then), program, {updates: False})
        assert dead.deaths == 1
        if name != "at most once":
            assert end_of(outcome) == uninterrupted, f"{then} after a death at update {updates}"
        assert end_of(outcome) == end_of(run(then, program, {updates: False})[1])


def _after_death(first: Sdk, then: Sdk) -> Callable[[Ground], Sdk]:
    return lambda ground: then if ground.deaths else first


ERRORS = [
    attempt(step("bad", **NO_RETRY)),
    attempt(step("unwritable", value=["object", None])),
    attempt(child("failing", step("worse", **NO_RETRY))),
    attempt(child("unwritable child", step("unwritable in it", value=["object", None]))),
    attempt({**CONDITION, "attempts": 1}),
    attempt({**WAIT_FOR_CALLBACK, "name": "refused", "is_refused": True, "retry": ["none", 1, 1]}),
    attempt({**WAIT_FOR_CALLBACK, "name": "failed", "timeout": 1}),
    attempt(invoke("refuse")),
    attempt(batch("parallel", [step("b", **NO_RETRY)], throws=True)),
    wait("until the other"),
]
"""The handler catches each of these again in the last invocation, which is the other SDK's."""


def caught(first: Sdk, then: Sdk) -> list[str]:
    ground, alone = run(first, ERRORS)
    _, outcome = run(first_then(first, then, ground.invocations - 1), ERRORS)
    assert [each[1] for each in alone.result[:-1]] == OWN_CLASSES
    return [each[1] for each in outcome.result[:-1]]


OWN_CLASSES = [
    "StepError",
    "SerDesError",
    "ChildContextError",
    "SerDesError",
    "WaitForConditionError",
    "CallbackSubmitterError",
    "CallbackExternalError",
    "InvokeError",
    "ChildContextError",
]


def test_errors_that_the_official_sdk_has_recorded_are_of_their_classes_in_perdure() -> None:
    """[88]"""
    assert caught(OFFICIAL, PERDURE) == OWN_CLASSES
    assert caught(PERDURE, PERDURE) == OWN_CLASSES


def test_the_official_sdk_takes_what_it_does_not_know_for_a_failure_of_the_operation() -> None:
    unknown = {1: "StepError", 3: "ChildContextError", 5: "ChildContextError", 6: "ChildContextError"}
    assert caught(PERDURE, OFFICIAL) == [unknown.get(at, kind) for at, kind in enumerate(OWN_CLASSES)]
