"""Policies: what an IAM JSON document says, and what several of them together make of one request.

Source: IAM JSON policy elements, and the policy evaluation logic for requests within one account.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from perdure.identity.conditions import Condition, Facts, read_conditions
from perdure.identity.patterns import fits
from perdure.model.error import InvalidParameterValue
from perdure.model.word import Word

DOCUMENT_BYTES_MAX: Final = 20_480
_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_ELEMENTS: Final = frozenset(
    {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)


class Effect(Word):
    ALLOW = "Allow"
    DENY = "Deny"


class Verdict(Word):
    """What policies make of a request. Without a statement that fits, it is not allowed."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NOT_ALLOWED = "not allowed"


class Asked(msgspec.Struct, frozen=True):
    """A request as policies see it. `principals` are the ARNs under which the caller may be named, its own first."""

    action: str
    resource: str
    principals: tuple[str, ...] = ()
    facts: Facts = {}


class Statement(msgspec.Struct, frozen=True):
    """One statement. `is_not_action` and `is_not_resource` turn what is listed around.

    `principals` is None in a policy of a caller; `actions` are in lower case.
    """

    effect: Effect
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    is_not_action: bool = False
    is_not_resource: bool = False
    principals: tuple[str, ...] | None = None
    conditions: tuple[Condition, ...] = ()

    def applies(self, asked: Asked) -> bool:
        action = asked.action.lower()
        return (
            any(fits(action, pattern) for pattern in self.actions) is not self.is_not_action
            and any(fits(asked.resource, pattern) for pattern in self.resources) is not self.is_not_resource
            and (self.principals is None or self._names(self.principals, asked.principals))
            and all(condition.holds(asked.facts) for condition in self.conditions)
        )

    def _names(self, named: tuple[str, ...], callers: tuple[str, ...]) -> bool:
        """An account named as such is all its callers in a Deny; in an Allow it leaves the choice to their policies."""
        accounts = {caller.split(":")[4] for caller in callers} if self.effect is Effect.DENY else set()
        return any(name == "*" or name in callers or _account(name) in accounts for name in named)


class Policy(msgspec.Struct, frozen=True):
    statements: tuple[Statement, ...]


def decide(policies: Iterable[Policy], asked: Asked) -> Verdict:
    """One Deny that applies outdoes every Allow; without an Allow that applies, it is not allowed."""
    verdict = Verdict.NOT_ALLOWED
    for policy in policies:
        for statement in policy.statements:
            if statement.effect is Effect.ALLOW and verdict is Verdict.ALLOWED:
                continue
            if statement.applies(asked):
                if statement.effect is Effect.DENY:
                    return Verdict.DENIED
                verdict = Verdict.ALLOWED
    return verdict


# --- reading ------------------------------------------------------------------------------------------------------


def read_policy(text: str, *, is_of_resource: bool = False) -> Policy:
    """A policy from the text of its document; InvalidParameterValue, with the place, if it is none."""
    if len(text.encode()) > DOCUMENT_BYTES_MAX:
        raise InvalidParameterValue(f"a policy has at most {DOCUMENT_BYTES_MAX} bytes, not {len(text.encode())}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameterValue(f"the policy is no JSON: {error}") from None
    return policy_of(document, is_of_resource=is_of_resource)


def policy_of(document: Any, *, is_of_resource: bool = False) -> Policy:
    """A policy from its document. A resource's policy names principals, a caller's does not."""
    if not isinstance(document, dict):
        raise _refused("it", "an object")
    _check_elements(document, {"Version", "Id", "Statement"}, "the policy")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise _refused("Version", f'"{_VERSIONS[0]}"')
    statements = document.get("Statement")
    listed: list[Any] = statements if isinstance(statements, list) else [statements]
    if not listed or not all(isinstance(statement, dict) for statement in listed):
        raise _refused("Statement", "an object or a list of objects")
    return Policy(tuple(_statement(each, f"Statement[{number}]", is_of_resource) for number, each in enumerate(listed)))


def _statement(document: dict[str, Any], where: str, is_of_resource: bool) -> Statement:
    _check_elements(document, _ELEMENTS, where)
    effect = document.get("Effect")
    if effect not in (Effect.ALLOW, Effect.DENY):
        raise _refused(f"{where}.Effect", '"Allow" or "Deny"')
    actions, is_not_action = _one_of(document, "Action", where)
    resources, is_not_resource = _one_of(document, "Resource", where)
    for action in actions:
        if action != "*" and ":" not in action:
            raise _refused(f"{where}.Action", f'"*" or as "lambda:InvokeFunction", not {action[:60]!r}')
    for resource in resources:
        if "${" in resource:
            raise InvalidParameterValue("policy variables, ${…}, are not supported", hint="write one policy per user")
        if resource != "*" and not resource.startswith("arn:"):
            raise _refused(f"{where}.Resource", f'"*" or an ARN, not {resource[:60]!r}')
    if is_of_resource != ("Principal" in document):
        raise _refused(where, "with a Principal" if is_of_resource else "without a Principal: it is of who has it")
    return Statement(
        Effect(effect),
        tuple(action.lower() for action in actions),
        resources,
        is_not_action,
        is_not_resource,
        _principals(document["Principal"], f"{where}.Principal") if is_of_resource else None,
        read_conditions(document["Condition"]) if "Condition" in document else (),
    )


def _one_of(document: Mapping[str, Any], name: str, where: str) -> tuple[tuple[str, ...], bool]:
    """The element or the one that turns it around, whichever is there."""
    given = [each for each in (name, f"Not{name}") if each in document]
    if len(given) != 1:
        raise _refused(where, f"with {name} or Not{name}, one of them")
    return _texts(document[given[0]], f"{where}.{given[0]}"), given[0] != name


def _principals(value: Any, where: str) -> tuple[str, ...]:
    """Names of callers. Services are kept under their names: no caller here has one."""
    if value == "*":
        return ("*",)
    if not isinstance(value, dict) or not value or not set(value) <= {"AWS", "Service"}:
        raise _refused(where, '"*", or an object with "AWS" or "Service"')
    return tuple(name for kind in value for name in _texts(value[kind], f"{where}.{kind}"))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(text, str) and text for text in listed):
        raise _refused(where, "a text or a list of texts")
    return tuple(listed)


def _account(principal: str) -> str | None:
    """The account that a principal names as a whole: by its number, or as its root."""
    if principal.isdigit():
        return principal
    parts = principal.split(":")
    return parts[4] if len(parts) == 6 and parts[5] == "root" else None


def _check_elements(document: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise InvalidParameterValue(
            f"the policy can't be read: {where} has {unknown[0][:60]!r}", hint=f"there are {', '.join(sorted(known))}"
        )


def _refused(where: str, rule: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"the policy can't be read: {where} must be {rule}")


# --- built in -----------------------------------------------------------------------------------------------------


def _allow(*actions: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


_READING: Final = ("lambda:Get*", "lambda:List*", "perdure:Get*", "perdure:List*")
_OPERATING: Final = (
    "lambda:StopDurableExecution",
    "lambda:PauseDurableExecution",
    "lambda:ResumeDurableExecution",
    "lambda:DeleteDurableExecution",
    "lambda:SendDurableExecutionCallback*",
)
_WORKING: Final = (
    "lambda:CheckpointDurableExecution",
    "lambda:GetDurableExecutionState",
    "lambda:InvokeFunction",
)

BUILT_IN: Final[dict[str, dict[str, Any]]] = {
    "read-only": _allow(*_READING),
    "operator": _allow(*_READING, *_OPERATING),
    "developer": _allow("lambda:*", "perdure:Get*", "perdure:List*"),
    "worker": _allow("perdure:RunWorker", *_WORKING),
    "admin": _allow("*"),
}
"""Policies with a name: to look; also to stop, hold, free, remove and answer; also to invoke and deploy; everything.
`worker` is what a worker needs, and nothing else."""


def named_or_own(policy: str | Mapping[str, Any]) -> Policy:
    """A policy as keys and roles hold it: the name of a built-in one, or a document."""
    if isinstance(policy, str):
        document = BUILT_IN.get(policy)
        if document is None:
            raise InvalidParameterValue(
                f"there is no built-in policy {policy[:60]!r}", hint=f"there are {', '.join(BUILT_IN)}"
            )
        return policy_of(document)
    return policy_of(policy)
