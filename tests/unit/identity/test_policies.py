"""Policies: what documents say, what they make of a request together, and which documents are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from perdure.identity.patterns import fits
from perdure.identity.policies import BUILT_IN, Asked, Policy, Verdict, decide, named_or_own, policy_of, read_policy
from perdure.model.error import InvalidParameterValue

FN = "arn:aws:lambda:us-east-1:000000000000:function:orders"
EXECUTION = f"{FN}:1/durable-execution/order-1/0198"
USER = "arn:aws:iam::000000000000:user/ana"
OTHER = "arn:aws:iam::111111111111:user/ana"


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    if "NotAction" not in elements:
        elements = {"Action": "*", **elements}
    if "NotResource" not in elements:
        elements = {"Resource": "*", **elements}
    return {"Effect": effect, **elements}


def policy(*statements: dict[str, Any], is_of_resource: bool = False) -> Policy:
    return policy_of({"Version": "2012-10-17", "Statement": list(statements)}, is_of_resource=is_of_resource)


def verdict(
    *statements: dict[str, Any],
    action: str = "lambda:StopDurableExecution",
    resource: str = EXECUTION,
    facts: dict[str, str] | None = None,
) -> Verdict:
    return decide([policy(*statements)], Asked(action, resource, (USER,), facts or {}))


# --- the rules of evaluation --------------------------------------------------------------------------------------


def test_what_nobody_allows_is_not_allowed() -> None:
    assert decide([], Asked("lambda:Invoke", FN)) is Verdict.NOT_ALLOWED
    assert verdict(statement(Action="lambda:Get*")) is Verdict.NOT_ALLOWED


def test_one_deny_outdoes_every_allow_wherever_it_stands() -> None:
    deny = statement("Deny", Action="lambda:Stop*")
    assert verdict(deny, statement()) is Verdict.DENIED
    assert verdict(statement(), deny) is Verdict.DENIED
    assert decide([policy(statement()), policy(deny)], Asked("lambda:StopDurableExecution", FN)) is Verdict.DENIED


def test_actions_are_compared_without_case_and_resources_with_it() -> None:
    assert verdict(statement(Action="LAMBDA:stopdurable*")) is Verdict.ALLOWED
    assert verdict(statement(Resource=EXECUTION.replace("orders", "Orders"))) is Verdict.NOT_ALLOWED


def test_a_function_with_any_version_covers_its_executions_and_the_bare_function_does_not() -> None:
    assert verdict(statement(Resource=f"{FN}:*")) is Verdict.ALLOWED
    assert verdict(statement(Resource=f"{FN}:*/durable-execution/*/*")) is Verdict.ALLOWED
    assert verdict(statement(Resource=FN)) is Verdict.NOT_ALLOWED
    assert verdict(statement(Resource=f"{FN}:prod")) is Verdict.NOT_ALLOWED
    assert verdict(statement(Resource=f"{FN}-2:*")) is Verdict.NOT_ALLOWED


def test_elements_that_begin_with_not_are_the_rest() -> None:
    assert verdict(statement(NotAction=["lambda:Get*", "lambda:List*"])) is Verdict.ALLOWED
    assert verdict(statement(NotAction="lambda:Stop*")) is Verdict.NOT_ALLOWED
    assert verdict(statement(NotResource=f"{FN}:*")) is Verdict.NOT_ALLOWED
    assert verdict(statement("Deny", NotResource="arn:aws:lambda:*:*:function:other:*"), statement()) is Verdict.DENIED


def test_one_statement_may_stand_without_a_list() -> None:
    assert decide([policy_of({"Statement": statement()})], Asked("lambda:X", FN)) is Verdict.ALLOWED


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("read-only", ["lambda:GetDurableExecution", "lambda:ListFunctions"], ["lambda:StopDurableExecution"]),
        (
            "operator",
            ["lambda:StopDurableExecution", "lambda:SendDurableExecutionCallbackFailure", "lambda:GetFunction"],
            ["lambda:InvokeFunction", "lambda:UpdateFunctionCode", "perdure:CreateKey"],
        ),
        ("developer", ["lambda:InvokeFunction", "lambda:CreateFunction", "perdure:ListAudit"], ["perdure:CreateKey"]),
        ("admin", ["lambda:DeleteFunction", "perdure:CreateKey"], []),
    ],
)
def test_built_in_policies_allow_what_their_names_say(name: str, allowed: list[str], refused: list[str]) -> None:
    found = {each: decide([named_or_own(name)], Asked(each, FN)) for each in [*allowed, *refused]}
    assert found == dict.fromkeys(allowed, Verdict.ALLOWED) | dict.fromkeys(refused, Verdict.NOT_ALLOWED)


def test_there_is_no_policy_of_an_unknown_name() -> None:
    with pytest.raises(InvalidParameterValue, match="no built-in policy 'root'"):
        named_or_own("root")
    assert set(BUILT_IN) == {"read-only", "operator", "developer", "worker", "admin"}


# --- properties ---------------------------------------------------------------------------------------------------

PATTERNS = st.sampled_from(["*", "lambda:*", "lambda:Stop*", "lambda:Get*", "lambda:GetFunction", "perdure:*"])
RESOURCES = st.sampled_from(["*", FN, f"{FN}:*", "arn:aws:lambda:*:*:function:o?ders:*"])
CONDITIONS = st.sampled_from(
    [
        {},
        {"Bool": {"aws:SecureTransport": "true"}},
        {"StringLike": {"aws:username": "a*"}},
        {"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}},
    ]
)


@st.composite
def statements(draw: st.DrawFn, effects: tuple[str, ...] = ("Allow", "Deny")) -> dict[str, Any]:
    made = {
        "Effect": draw(st.sampled_from(effects)),
        draw(st.sampled_from(["Action", "NotAction"])): draw(st.lists(PATTERNS, min_size=1, max_size=3)),
        draw(st.sampled_from(["Resource", "NotResource"])): draw(RESOURCES),
    }
    condition = draw(CONDITIONS)
    return {**made, "Condition": condition} if condition else made


ASKED = st.builds(
    Asked,
    st.sampled_from(["lambda:StopDurableExecution", "lambda:GetFunction", "perdure:CreateKey"]),
    st.sampled_from([FN, EXECUTION, "*"]),
    st.just((USER,)),
    st.fixed_dictionaries(
        {},
        optional={
            "aws:SecureTransport": st.sampled_from(["true", "false"]),
            "aws:username": st.sampled_from(["ana", "bo"]),
            "aws:SourceIp": st.sampled_from(["10.1.1.1", "::1"]),
        },
    ),
)


@given(before=st.lists(statements(), max_size=4), deny=statements(("Deny",)), asked=ASKED)
def test_another_deny_never_allows_more(before: list[dict[str, Any]], deny: dict[str, Any], asked: Asked) -> None:
    old = decide([policy(*before)] if before else [], asked)
    new = decide([policy(*before, deny)], asked)
    assert new in (old, Verdict.DENIED)


@given(before=st.lists(statements(), max_size=4), allow=statements(("Allow",)), asked=ASKED)
def test_another_allow_never_lifts_a_deny(before: list[dict[str, Any]], allow: dict[str, Any], asked: Asked) -> None:
    old = decide([policy(*before)] if before else [], asked)
    new = decide([policy(*before, allow)], asked)
    assert (new is Verdict.DENIED) is (old is Verdict.DENIED)
    assert new is not Verdict.NOT_ALLOWED or old is Verdict.NOT_ALLOWED


@given(several=st.lists(statements(), min_size=1, max_size=5), asked=ASKED, seed=st.randoms())
def test_order_and_division_into_policies_mean_nothing(several: list[dict[str, Any]], asked: Asked, seed: Any) -> None:
    shuffled = list(several)
    seed.shuffle(shuffled)
    assert decide([policy(*several)], asked) is decide([policy(each) for each in shuffled], asked)


def naive(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(text[at:], pattern[1:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in (text[0], "?") and naive(text[1:], pattern[1:])


@given(text=st.text("ab:.[\n", max_size=7), pattern=st.text("ab:.[*?\n", max_size=7))
def test_a_pattern_fits_what_its_signs_say(text: str, pattern: str) -> None:
    assert fits(text, pattern) is naive(text, pattern)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not fits("a" * 2000, "*a" * 500 + "*b")


# --- conditions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "facts", "holds"),
    [
        ({"StringEquals": {"aws:username": ["ana", "bo"]}}, {"aws:username": "bo"}, True),
        ({"StringEquals": {"AWS:UserName": "ana"}}, {"aws:username": "Ana"}, False),
        ({"StringEqualsIgnoreCase": {"aws:username": "ana"}}, {"aws:username": "Ana"}, True),
        ({"StringNotEquals": {"aws:username": ["ana", "bo"]}}, {"aws:username": "bo"}, False),
        ({"StringNotEquals": {"aws:username": "ana"}}, {}, True),
        ({"StringEquals": {"aws:username": "ana"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:username": "ana"}}, {}, True),
        ({"StringEqualsIfExists": {"aws:username": "ana"}}, {"aws:username": "bo"}, False),
        ({"StringLike": {"aws:username": "a?a*"}}, {"aws:username": "ana-2"}, True),
        ({"StringNotLike": {"aws:username": "a*"}}, {"aws:username": "ana"}, False),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*"}}, {"aws:PrincipalArn": USER}, True),
        ({"ArnNotEquals": {"aws:PrincipalArn": USER}}, {"aws:PrincipalArn": USER}, False),
        ({"Bool": {"aws:SecureTransport": True}}, {"aws:SecureTransport": "true"}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "true"}, False),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}}, {"aws:SourceIp": "10.9.8.7"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:SourceIp": "11.0.0.1"}, False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:SourceIp": "somewhere"}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:SourceIp": "10.0.0.1"}, False),
        ({"Null": {"aws:username": "true"}}, {}, True),
        ({"Null": {"aws:username": "false"}}, {}, False),
        (
            {"Bool": {"aws:SecureTransport": "true"}, "StringEquals": {"aws:username": "ana"}},
            {"aws:username": "ana", "aws:SecureTransport": "false"},
            False,
        ),
    ],
)
def test_a_condition_holds_as_iam_says(condition: dict[str, Any], facts: dict[str, str], holds: bool) -> None:
    expected = Verdict.ALLOWED if holds else Verdict.NOT_ALLOWED
    assert verdict(statement(Condition=condition), facts=facts) is expected


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "it must be an object"),
        ({}, "Statement must be an object or a list"),
        ({"Version": "2020-01-01", "Statement": statement()}, "Version"),
        ({"Statement": []}, "Statement"),
        ({"Statements": statement()}, "the policy has 'Statements'"),
        ({"Statement": {**statement(), "Actions": "*"}}, r"Statement\[0\] has 'Actions'"),
        ({"Statement": {**statement(), "Effect": "allow"}}, r"Statement\[0\].Effect"),
        ({"Statement": {"Effect": "Allow", "Action": "*"}}, "with Resource or NotResource, one of them"),
        ({"Statement": {**statement(), "NotAction": "*"}}, "with Action or NotAction, one of them"),
        ({"Statement": statement(Action="InvokeFunction")}, "as \"lambda:InvokeFunction\", not 'InvokeFunction'"),
        ({"Statement": statement(Action=[])}, "a text or a list of texts"),
        ({"Statement": statement(Action=7)}, "a text or a list of texts"),
        ({"Statement": statement(Resource="orders")}, "an ARN, not 'orders'"),
        ({"Statement": statement(Resource="arn:aws:lambda:::function:${aws:username}")}, "policy variables"),
        ({"Statement": statement(Principal="*")}, "without a Principal"),
        ({"Statement": statement(Condition=[])}, "Condition"),
        ({"Statement": statement(Condition={"NumericEquals": {"aws:username": "1"}})}, "'NumericEquals' is not supp"),
        ({"Statement": statement(Condition={"ForAllValues:StringLike": {"aws:username": "1"}})}, "not supported"),
        ({"Statement": statement(Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})}, "aws:MultiFactorAuth"),
        ({"Statement": statement(Condition={"Bool": {"aws:SecureTransport": "yes"}})}, "true or false"),
        ({"Statement": statement(Condition={"Bool": {}})}, "condition keys"),
        ({"Statement": statement(Condition={"StringEquals": {"aws:username": [1]}})}, "a text or a list of texts"),
        ({"Statement": statement(Condition={"StringEquals": {"aws:username": "${x}"}})}, "policy variables"),
        ({"Statement": statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/40"}})}, "a network, not"),
    ],
)
def test_a_document_that_cannot_be_followed_is_refused_with_the_place(document: Any, said: str) -> None:
    with pytest.raises(InvalidParameterValue, match=said):
        read_policy(json.dumps(document))


def test_what_is_no_json_or_too_long_is_no_policy() -> None:
    with pytest.raises(InvalidParameterValue, match="no JSON"):
        read_policy("{")
    with pytest.raises(InvalidParameterValue, match="at most 20480 bytes"):
        read_policy(" " * 20_481)


# --- policies of resources ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "effect", "expected"),
    [
        ("*", "Allow", Verdict.ALLOWED),
        ({"AWS": "*"}, "Allow", Verdict.ALLOWED),
        ({"AWS": [OTHER, USER]}, "Allow", Verdict.ALLOWED),
        ({"AWS": OTHER}, "Allow", Verdict.NOT_ALLOWED),
        ({"AWS": "000000000000"}, "Allow", Verdict.NOT_ALLOWED),
        ({"AWS": "000000000000"}, "Deny", Verdict.DENIED),
        ({"AWS": "arn:aws:iam::000000000000:root"}, "Deny", Verdict.DENIED),
        ({"AWS": "111111111111"}, "Deny", Verdict.NOT_ALLOWED),
        ({"Service": "s3.amazonaws.com"}, "Allow", Verdict.NOT_ALLOWED),
    ],
)
def test_a_resource_names_callers(principal: Any, effect: str, expected: Verdict) -> None:
    of_resource = policy(statement(effect, Principal=principal), is_of_resource=True)
    assert decide([of_resource], Asked("lambda:InvokeFunction", FN, (USER,))) is expected
    assert decide([of_resource], Asked("lambda:InvokeFunction", FN)) in (expected, Verdict.NOT_ALLOWED)


@pytest.mark.parametrize("principal", [None, [], {}, {"Federated": "x"}, {"AWS": 7}, "ana"])
def test_a_resource_that_names_nobody_readable_is_refused(principal: Any) -> None:
    with pytest.raises(InvalidParameterValue, match="Principal"):
        policy(statement(Principal=principal) if principal is not None else statement(), is_of_resource=True)


def test_the_policy_on_the_page_does_what_the_page_says() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "howto" / "access.md").read_text("utf-8")
    shown = read_policy(page.partition("```json\n")[2].partition("```")[0])
    inside, outside = {"aws:SourceIp": "10.1.1.1"}, {"aws:SourceIp": "192.0.2.1"}
    for action, resource in [("lambda:InvokeFunction", f"{FN}:prod"), ("lambda:StopDurableExecution", EXECUTION)]:
        assert decide([shown], Asked(action, resource, (USER,), inside)) is Verdict.ALLOWED
        assert decide([shown], Asked(action, resource, (USER,), outside)) is Verdict.DENIED
    assert decide([shown], Asked("lambda:InvokeFunction", f"{FN}:7", (USER,), inside)) is Verdict.NOT_ALLOWED
