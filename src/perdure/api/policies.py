"""Policies on functions: who else may do something with one, a statement each.

Source: Lambda API 2015-03-31; the language of IAM policies.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from perdure.api.backing import Backing
from perdure.api.naming import qualified
from perdure.api.request import Handler, Request
from perdure.model.error import InvalidParameterValue, PreconditionFailed, ResourceConflict, ResourceNotFound
from perdure.model.function import Function
from perdure.model.ids import LATEST, Home
from perdure.wire.table import Json

Statements = Mapping[str, dict[str, Any]]

_CONDITIONS: Final = {
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
    "EventSourceToken": ("StringEquals", "lambda:EventSourceToken"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "InvokedViaFunctionUrl": ("Bool", "lambda:InvokedViaFunctionUrl"),
}


def add(backing: Backing, request: Request) -> Json:
    given = request.parameters
    name, qualifier = _place(backing, given)
    statement = _statement(given, backing.home, backing.home.function_arn(name, qualifier))

    def change(function: Function) -> Function:
        statements = function.policies.get(qualifier or LATEST, {})
        _check_revision(statements, given)
        if statement["Sid"] in statements:
            raise ResourceConflict(f"the policy of {name!r} has a statement {statement['Sid']!r} already")
        return _with_statements(function, qualifier, {**statements, statement["Sid"]: statement})

    backing.registry.update_function(name, change)
    return {"Statement": json.dumps(statement)}


def get(backing: Backing, request: Request) -> Json:
    name, qualifier = _place(backing, request.parameters)
    statements = backing.registry.function(name).policies.get(qualifier or LATEST)
    if not statements:
        raise ResourceNotFound(f"{backing.home.function_arn(name, qualifier)} has no policy")
    policy = {"Version": "2012-10-17", "Id": "default", "Statement": list(statements.values())}
    return {"Policy": json.dumps(policy), "RevisionId": _revision(statements)}


def remove(backing: Backing, request: Request) -> Json:
    given = request.parameters
    name, qualifier = _place(backing, given)
    sid = given["StatementId"]

    def change(function: Function) -> Function:
        statements = dict(function.policies.get(qualifier or LATEST, {}))
        _check_revision(statements, given)
        if statements.pop(sid, None) is None:
            raise ResourceNotFound(f"the policy of {name!r} has no statement {sid!r:.120}")
        return _with_statements(function, qualifier, statements)

    backing.registry.update_function(name, change)
    return {}


def _place(backing: Backing, given: Json) -> tuple[str, str | None]:
    """The function, and the version or alias, that a policy is on; it must exist."""
    name, qualifier = qualified(backing, given)
    if qualifier == LATEST:
        raise InvalidParameterValue("a policy can't be on $LATEST", hint="leave the qualifier out")
    backing.registry.get(name, qualifier)
    return name, qualifier


def _statement(given: Json, home: Home, resource: str) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": given["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(given["Principal"], home),
        "Action": given["Action"],
        "Resource": resource,
    }
    condition: dict[str, dict[str, str]] = {}
    for name, (operator, key) in _CONDITIONS.items():
        if name in given:
            value = given[name]
            condition.setdefault(operator, {})[key] = str(value).lower() if isinstance(value, bool) else value
    if condition:
        statement["Condition"] = condition
    return statement


def _principal(text: str, home: Home) -> str | dict[str, str]:
    if text == "*":
        return text
    if text.isdigit() and len(text) == 12:
        return {"AWS": f"arn:{home.partition}:iam::{text}:root"}
    return {"AWS" if text.startswith("arn:") else "Service": text}


def _with_statements(function: Function, qualifier: str | None, statements: dict[str, dict[str, Any]]) -> Function:
    policies = {**function.policies, qualifier or LATEST: statements}
    return replace(function, policies={key: value for key, value in policies.items() if value})


def _check_revision(statements: Statements, given: Json) -> None:
    if given.get("RevisionId") not in (None, _revision(statements)):
        raise PreconditionFailed(
            "the RevisionId is not that of the policy, which has changed since it was read",
            hint="read it again with GetPolicy",
        )


def _revision(statements: Statements) -> str:
    """A policy's revision id is made of what it says."""
    digest = hashlib.sha256(json.dumps(statements, sort_keys=True).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16]))


OPERATIONS: Final[dict[str, Handler]] = {"AddPermission": add, "GetPolicy": get, "RemovePermission": remove}
