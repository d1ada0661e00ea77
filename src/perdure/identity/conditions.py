"""The Condition of a policy's statement: which facts of a request it asks for, and whether they are so.

Source: IAM JSON policy elements: Condition operators. What is not supported is refused when the policy is read: a
condition that is never met would let a Deny pass unseen.
"""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from perdure.identity.patterns import fits
from perdure.model.error import InvalidParameterValue

SOURCE_IP: Final = "aws:SourceIp"
SECURE_TRANSPORT: Final = "aws:SecureTransport"
USERNAME: Final = "aws:username"
PRINCIPAL_ARN: Final = "aws:PrincipalArn"
PRINCIPAL_ACCOUNT: Final = "aws:PrincipalAccount"

Facts = Mapping[str, str]
"""What is known of a request, by the names of condition keys."""

KNOWN: Final = {
    name.lower(): name for name in (SOURCE_IP, SECURE_TRANSPORT, USERNAME, PRINCIPAL_ARN, PRINCIPAL_ACCOUNT)
} | {"aws:sourcearn": "aws:SourceArn", "aws:sourceaccount": "aws:SourceAccount"}
"""The keys that a policy may ask for. The last two belong to calls of AWS services: no request here has them."""


def _in_network(found: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(found) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


def _equal(found: str, wanted: str) -> bool:
    return found == wanted


def _equal_ignoring_case(found: str, wanted: str) -> bool:
    return found.lower() == wanted.lower()


Test = Callable[[str, str], bool]
OPERATORS: Final[dict[str, tuple[Test, bool]]] = {
    "stringequals": (_equal, True),
    "stringnotequals": (_equal, False),
    "stringequalsignorecase": (_equal_ignoring_case, True),
    "stringnotequalsignorecase": (_equal_ignoring_case, False),
    "stringlike": (fits, True),
    "stringnotlike": (fits, False),
    "arnequals": (fits, True),
    "arnnotequals": (fits, False),
    "arnlike": (fits, True),
    "arnnotlike": (fits, False),
    "bool": (_equal_ignoring_case, True),
    "ipaddress": (_in_network, True),
    "notipaddress": (_in_network, False),
}
"""How a value is compared, and whether one of the wanted values must fit or none may."""


class Condition(msgspec.Struct, frozen=True):
    """One key under one operator. `operator` is in lower case; "null" asks whether the key is absent."""

    operator: str
    key: str
    values: tuple[str, ...]
    is_if_exists: bool = False

    def holds(self, facts: Facts) -> bool:
        found = facts.get(self.key)
        if self.operator == "null":
            return any((found is None) == (value.lower() == "true") for value in self.values)
        test, is_positive = OPERATORS[self.operator]
        if found is None:
            return self.is_if_exists or not is_positive
        return any(test(found, value) for value in self.values) is is_positive


def read_conditions(document: Any) -> tuple[Condition, ...]:
    """The Condition element of a statement; InvalidParameterValue if it is none that can be answered."""
    if not isinstance(document, dict):
        raise _refused("Condition", "an object of operators")
    found: list[Condition] = []
    for operator, keys in document.items():
        name = operator.lower()
        plain = name.removesuffix("ifexists")
        if plain not in OPERATORS and name != "null":
            raise InvalidParameterValue(
                f"the policy's condition operator {operator[:60]!r} is not supported",
                hint="there are StringEquals, StringLike, ArnLike, Bool, IpAddress, their negations, …IfExists, Null",
            )
        if not isinstance(keys, dict) or not keys:
            raise _refused(f"Condition.{operator}", "an object of condition keys")
        for key, values in keys.items():
            known = KNOWN.get(key.lower())
            if known is None:
                raise InvalidParameterValue(
                    f"the policy's condition key {key[:60]!r} is nothing that is known of a request here",
                    hint=f"there are {', '.join(sorted(KNOWN.values()))}",
                )
            texts = _values(values, f"Condition.{operator}.{key}")
            _check_values(plain, texts)
            found.append(Condition(plain, known, texts, plain != name))
    return tuple(found)


def _values(values: Any, where: str) -> tuple[str, ...]:
    listed = values if isinstance(values, list) else [values]
    if not listed or not all(isinstance(value, (str, bool)) for value in listed):
        raise _refused(where, "a text or a list of texts")
    return tuple(str(value).lower() if isinstance(value, bool) else value for value in listed)


def _check_values(operator: str, values: tuple[str, ...]) -> None:
    for value in values:
        if "${" in value:
            raise InvalidParameterValue("policy variables, ${…}, are not supported", hint="write one policy per user")
        if operator in ("bool", "null") and value.lower() not in ("true", "false"):
            raise _refused(f"a value of {operator}", "true or false")
        if operator in ("ipaddress", "notipaddress"):
            try:
                ipaddress.ip_network(value, strict=False)
            except ValueError:
                raise _refused(f"a value of {operator}", f"an address or a network, not {value[:60]!r}") from None


def _refused(where: str, rule: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"the policy can't be read: {where} must be {rule}")
