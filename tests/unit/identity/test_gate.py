"""The gate: who is let in, as whom, and what they may do then."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from perdure.identity import keys, roles
from perdure.identity.actions import OPERATIONS, need_of, need_of_own
from perdure.identity.callers import Caller, CallerKind
from perdure.identity.gate import Gate
from perdure.identity.policies import policy_of
from perdure.identity.roles import Credentialing, Credentials
from perdure.model.error import (
    AccessDenied,
    ExpiredToken,
    InvalidParameterValue,
    InvalidSignature,
    MissingAuthentication,
    ResourceNotFound,
    ServiceError,
    UnrecognizedClient,
)
from perdure.model.function import FunctionVersion
from perdure.model.ids import Home
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Change
from perdure.wire.signature import Sent, Signer

HOME = Home()
START_MS = 1_769_860_805_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
HOST = "127.0.0.1:9014"
PATH = "/2015-03-31/functions/fn/invocations"


class Place:
    """A store, a gate before it, and a clock."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.store = MemoryStore()
        self.gate = Gate(self.store, HOME, lambda: self.now_ms)

    def key(self, *policies: str | dict[str, Any], user: str = "ana", expires_ms: int | None = None) -> Credentials:
        key, secret = keys.create_key(self.store, user, policies or ("admin",), self.now_ms, expires_ms)
        return Credentials(key.key_id, secret, "", 0)

    def ask(
        self,
        credentials: Credentials | None = None,
        *,
        body: bytes = b"{}",
        sent_body: bytes | None = None,
        peer: str | None = "192.0.2.7",
        is_secure: bool = False,
        signed_ms: int | None = None,
        **headers: str,
    ) -> Caller:
        named = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if credentials is not None:
            sent = Sent("POST", PATH, "", named, hashlib.sha256(body).hexdigest())
            signer = Signer(credentials.key_id, credentials.secret, region="us-east-1", token=credentials.token or None)
            named |= signer.sign(sent, self.now_ms if signed_ms is None else signed_ms)
        sent_body = body if sent_body is None else sent_body
        return self.gate.authenticate("POST", PATH, "", named, sent_body, peer=peer, is_secure=is_secure)

    def may(self, caller: Caller, action: str, resource: str) -> bool:
        try:
            self.gate.authorize(caller, action, resource)
        except AccessDenied:
            return False
        return True


@pytest.fixture
def place() -> Place:
    return Place()


# --- without keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None])
def test_without_keys_this_machine_may_do_everything(place: Place, peer: str | None) -> None:
    caller = place.ask(peer=peer)
    assert place.gate.is_open()
    assert (caller.kind, caller.shown, caller.function) == (CallerKind.ANONYMOUS, "anonymous", None)
    assert place.may(caller, "lambda:DeleteFunction", HOME.function_arn("fn"))


def test_without_keys_a_signature_of_whatever_key_does_no_harm(place: Place) -> None:
    assert place.ask(Credentials("test", "test", "", 0), peer="127.0.0.1").kind is CallerKind.ANONYMOUS


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:10.0.0.1", "fe80::1%eth0", "testclient", ""])
def test_without_keys_nobody_else_is_served(place: Place, peer: str) -> None:
    with pytest.raises(MissingAuthentication, match="only this machine is served") as caught:
        place.ask(peer=peer)
    assert "keys create" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "host", ["localhost:9014", "app.localhost", "[::1]:9014", "10.0.0.3", "host.docker.internal:9014"]
)
def test_without_keys_addresses_and_names_of_this_machine_lead_here(place: Place, host: str) -> None:
    assert place.ask(peer="127.0.0.1", host=host).kind is CallerKind.ANONYMOUS


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:9014", "", "[::1", "localhost@evil.example"])
def test_without_keys_another_name_that_leads_here_is_not_served(place: Place, host: str) -> None:
    with pytest.raises(MissingAuthentication, match="under the name"):
        place.ask(peer="127.0.0.1", host=host)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        {"x_forwarded_for": "192.0.2.7"},
        {"forwarded": "for=192.0.2.7"},
    ],
)
def test_without_keys_other_pages_and_proxies_are_not_this_machine(place: Place, headers: dict[str, Any]) -> None:
    with pytest.raises(MissingAuthentication, match=r"not the page|a proxy speaks for"):
        place.ask(peer="127.0.0.1", **headers)


def test_without_keys_a_page_of_the_server_and_a_link_to_it_are_served(place: Place) -> None:
    assert place.ask(peer="127.0.0.1", origin=f"http://{HOST}")
    assert place.ask(peer="127.0.0.1", sec_fetch_site="cross-site", sec_fetch_mode="navigate")


# --- users --------------------------------------------------------------------------------------------------------


def test_a_user_is_known_by_a_key(place: Place) -> None:
    key = place.key("read-only", user="ana@example.com")
    caller = place.ask(key)
    assert (caller.kind, caller.name, caller.key_id) == (CallerKind.USER, "ana@example.com", key.key_id)
    assert caller.shown == "arn:aws:iam::000000000000:user/ana@example.com"
    assert place.may(caller, "lambda:GetFunction", HOME.function_arn("fn"))
    assert not place.may(caller, "lambda:DeleteFunction", HOME.function_arn("fn"))


def test_with_keys_this_machine_signs_as_well(place: Place) -> None:
    place.ask(peer="127.0.0.1")
    place.key()
    with pytest.raises(MissingAuthentication, match="Missing Authentication Token"):
        place.ask(peer="127.0.0.1")


def test_a_secret_is_kept_nowhere_and_found_again(place: Place) -> None:
    key = place.key()
    assert (len(key.key_id), key.key_id[:4], len(key.secret)) == (20, "AKIA", 40)
    assert all(key.secret.encode() not in record.data for record in place.store.records(keys.KIND))
    assert keys.secret_of(place.store, key.key_id) == key.secret
    assert keys.secret_of(MemoryStore(), key.key_id) != key.secret


def test_a_wrong_secret_and_a_changed_body_are_refused(place: Place) -> None:
    key = place.key()
    with pytest.raises(InvalidSignature, match="does not match the signature"):
        place.ask(Credentials(key.key_id, "x" * 40, "", 0))
    with pytest.raises(InvalidSignature):
        place.ask(key, body=b"{}", sent_body=b"[]")


def test_a_disabled_key_is_refused_from_the_next_request_on(place: Place) -> None:
    key, other = place.key(), place.key()
    assert place.ask(key)
    keys.disable_key(place.store, key.key_id)
    with pytest.raises(UnrecognizedClient, match=r"security token included in the request is invalid\."):
        place.ask(key)
    assert place.ask(other)
    keys.disable_key(place.store, key.key_id, is_disabled=False)
    assert place.ask(key)


def test_a_removed_key_is_unknown_and_the_last_one_leaves_the_store_open_to_this_machine(place: Place) -> None:
    key, last = place.key(), place.key()
    keys.delete_key(place.store, key.key_id)
    with pytest.raises(UnrecognizedClient):
        place.ask(key)
    keys.delete_key(place.store, last.key_id)
    assert place.gate.is_open()
    with pytest.raises(MissingAuthentication):
        place.ask(last)


def test_a_store_whose_keys_are_all_disabled_is_not_open(place: Place) -> None:
    key = place.key()
    keys.disable_key(place.store, key.key_id)
    with pytest.raises(MissingAuthentication):
        place.ask(peer="127.0.0.1")


def test_a_key_ends_when_it_was_said_to_end(place: Place) -> None:
    key = place.key(expires_ms=START_MS + HOUR_MS)
    place.now_ms += HOUR_MS - 1
    assert place.ask(key)
    place.now_ms += 1
    with pytest.raises(ExpiredToken, match="is expired"):
        place.ask(key)


@pytest.mark.parametrize("off_ms", [-5 * MINUTE_MS, 5 * MINUTE_MS])
def test_a_clock_may_be_off_by_five_minutes(place: Place, off_ms: int) -> None:
    assert place.ask(place.key(), signed_ms=START_MS + off_ms)


@pytest.mark.parametrize(("off_ms", "said"), [(-5 * MINUTE_MS - 1000, "expired"), (5 * MINUTE_MS + 1000, "not yet")])
def test_a_clock_may_not_be_off_by_more(place: Place, off_ms: int, said: str) -> None:
    with pytest.raises(InvalidSignature, match=f"Signature {said}"):
        place.ask(place.key(), signed_ms=START_MS + off_ms)


def test_an_unsigned_payload_is_taken_under_tls_and_from_this_machine(place: Place) -> None:
    key = place.key()
    claim: dict[str, Any] = {"x_amz_content_sha256": "UNSIGNED-PAYLOAD", "sent_body": b"[]"}
    assert place.ask(key, is_secure=True, **claim)
    assert place.ask(key, peer="127.0.0.1", **claim)
    with pytest.raises(InvalidSignature):
        place.ask(key, **claim)


def test_a_key_without_a_session_takes_no_session_token(place: Place) -> None:
    key = place.key()
    with pytest.raises(UnrecognizedClient):
        place.ask(Credentials(key.key_id, key.secret, "made-up", 0))


def presigned(place: Place, key: Credentials, expires_s: int, signed_ms: int) -> Callable[[], Caller]:
    """A presigned URL, and what asking for it gives."""
    from datetime import UTC, datetime
    from unittest.mock import patch
    from urllib.parse import urlsplit

    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as Theirs

    request = AWSRequest("GET", f"http://{HOST}/2015-03-31/functions/fn")
    at = datetime.fromtimestamp(signed_ms / 1000, UTC).replace(tzinfo=None)
    with patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4QueryAuth(Theirs(key.key_id, key.secret), "lambda", "us-east-1", expires=expires_s).add_auth(request)
    parts = urlsplit(request.url)
    return lambda: place.gate.authenticate("GET", parts.path, parts.query, {"host": HOST}, b"", peer="192.0.2.7")


def test_a_presigned_url_is_good_for_as_long_as_it_says(place: Place) -> None:
    ask = presigned(place, place.key(), 7200, START_MS)
    assert ask().name == "ana"
    place.now_ms += 7_200_000
    assert ask().name == "ana"
    place.now_ms += 1000
    with pytest.raises(InvalidSignature, match="was good for 7200 seconds"):
        ask()


def test_a_presigned_url_may_begin_fifteen_minutes_from_now_at_most(place: Place) -> None:
    key = place.key()
    assert presigned(place, key, 60, START_MS + 15 * MINUTE_MS)()
    with pytest.raises(InvalidSignature, match="not yet current"):
        presigned(place, key, 60, START_MS + 15 * MINUTE_MS + 1000)()


def test_a_condition_sees_where_a_request_comes_from(place: Place) -> None:
    key = place.key(
        {
            "Statement": {
                "Effect": "Allow",
                "Action": "*",
                "Resource": "*",
                "Condition": {
                    "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
                    "Bool": {"aws:SecureTransport": "true"},
                    "StringEquals": {"aws:username": "ana", "aws:PrincipalAccount": "000000000000"},
                },
            }
        }
    )
    assert place.may(place.ask(key, peer="::ffff:10.1.2.3", is_secure=True), "lambda:X", "*")
    assert not place.may(place.ask(key, peer="10.1.2.3"), "lambda:X", "*")
    assert not place.may(place.ask(key, peer="192.0.2.7", is_secure=True), "lambda:X", "*")


# --- making keys --------------------------------------------------------------------------------------------------


def test_keys_are_listed_in_the_order_in_which_they_were_made(place: Place) -> None:
    made = []
    for number in range(5):
        place.now_ms += 1
        made.append(place.key(user=f"user-{number}").key_id)
    assert [key.key_id for key in keys.all_keys(place.store)] == made


@pytest.mark.parametrize(
    ("user", "policies", "ends_ms", "said"),
    [
        ("", ("admin",), None, "a user's name"),
        ("a/b", ("admin",), None, "a user's name"),
        ("ana", (), None, "may do nothing"),
        ("ana", ("root",), None, "no built-in policy"),
        ("ana", ({"Statement": {}},), None, "Effect"),
        ("ana", ("admin",), START_MS, "expired before"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(
    place: Place, user: str, policies: tuple[Any, ...], ends_ms: int | None, said: str
) -> None:
    with pytest.raises(InvalidParameterValue, match=said):
        keys.create_key(place.store, user, policies, START_MS, ends_ms)
    assert keys.all_keys(place.store) == []


def test_a_key_that_is_not_there_is_not_found(place: Place) -> None:
    for act in (keys.get_key, keys.disable_key, keys.delete_key):
        with pytest.raises(ResourceNotFound, match="AKIANONE"):
            act(place.store, "AKIANONE")


# --- functions ----------------------------------------------------------------------------------------------------

ORDERS = FunctionVersion(function="orders", role="arn:aws:iam::000000000000:role/service-role/shop")


@pytest.fixture
def closed(place: Place) -> Place:
    place.key()
    return place


def credentials(place: Place, function: FunctionVersion = ORDERS) -> Credentials:
    return Credentialing(place.store.secret).credentials_for(function, place.now_ms)


def own(function: str, version: str = "3") -> str:
    return HOME.execution_arn(function, version, "order-1", "0198")


def test_a_function_is_known_by_its_temporary_credentials(closed: Place) -> None:
    given = credentials(closed)
    caller = closed.ask(given)
    assert (len(given.key_id), given.key_id[:4], len(given.secret)) == (20, "ASIA", 40)
    assert (caller.kind, caller.function, caller.key_id) == (CallerKind.ROLE, "orders", given.key_id)
    assert caller.shown == "arn:aws:sts::000000000000:assumed-role/shop/orders"


def test_a_function_moves_its_own_executions_on_and_no_others(closed: Place) -> None:
    caller = closed.ask(credentials(closed))
    for action in ("lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"):
        assert closed.may(caller, action, own("orders"))
        assert closed.may(caller, action, own("orders", "$LATEST"))
        assert not closed.may(caller, action, own("orders2"))
        assert not closed.may(caller, action, own("order"))
    assert not closed.may(caller, "lambda:StopDurableExecution", own("orders"))
    assert not closed.may(caller, "lambda:SendDurableExecutionCallbackSuccess", own("orders"))


def test_a_function_whose_role_nobody_configured_invokes_functions_of_its_account(closed: Place) -> None:
    caller = closed.ask(credentials(closed))
    assert closed.may(caller, "lambda:InvokeFunction", HOME.function_arn("other", "prod"))
    assert not closed.may(caller, "lambda:InvokeFunction", Home(account="111111111111").function_arn("other"))


def test_a_configured_role_says_what_a_function_may_beside_its_own_executions(closed: Place) -> None:
    given = credentials(closed)
    allow = {
        "Effect": "Allow",
        "Action": "lambda:SendDurableExecutionCallback*",
        "Resource": f"{HOME.function_arn('a')}:*",
    }
    roles.put_role(closed.store, "shop", ({"Statement": allow},))
    caller = closed.ask(given)
    assert closed.may(caller, "lambda:SendDurableExecutionCallbackSuccess", own("a"))
    assert closed.may(caller, "lambda:CheckpointDurableExecution", own("orders"))
    assert not closed.may(caller, "lambda:InvokeFunction", HOME.function_arn("other"))
    roles.delete_role(closed.store, "shop")
    assert closed.may(closed.ask(given), "lambda:InvokeFunction", HOME.function_arn("other"))


def test_roles_are_listed_by_name_and_what_is_not_there_is_not_found(place: Place) -> None:
    roles.put_role(place.store, "b", ())
    roles.put_role(place.store, "a", ("read-only",))
    assert [role.name for role in roles.all_roles(place.store)] == ["a", "b"]
    with pytest.raises(ResourceNotFound, match="'c'"):
        roles.delete_role(place.store, "c")
    with pytest.raises(InvalidParameterValue, match="a role's name"):
        roles.put_role(place.store, "a b", ())


def test_credentials_end_after_twelve_hours_and_are_given_anew_after_six(closed: Place) -> None:
    giving = Credentialing(closed.store.secret)
    first = giving.credentials_for(ORDERS, closed.now_ms)
    closed.now_ms += 6 * HOUR_MS
    assert giving.credentials_for(ORDERS, closed.now_ms) == first
    closed.now_ms += 1
    second = giving.credentials_for(ORDERS, closed.now_ms)
    assert second != first
    assert closed.ask(first) and closed.ask(second)
    closed.now_ms = first.expires_ms
    with pytest.raises(ExpiredToken):
        closed.ask(first)
    assert closed.ask(second)


def test_credentials_of_another_store_and_mixed_ones_are_unknown(closed: Place) -> None:
    given, other = credentials(closed), credentials(closed, FunctionVersion(function="other"))
    foreign = Credentialing(b"another secret").credentials_for(ORDERS, START_MS)
    for mixed in (
        foreign,
        Credentials(given.key_id, given.secret, other.token, 0),
        Credentials(given.key_id, given.secret, given.token[:-4] + "AAAA", 0),
        Credentials(given.key_id, given.secret, "AAAA", 0),
        Credentials(given.key_id, given.secret, "%", 0),
    ):
        with pytest.raises(UnrecognizedClient):
            closed.ask(mixed)
    with pytest.raises(UnrecognizedClient):
        closed.ask(Credentials(given.key_id, given.secret, "", 0))


def test_a_function_without_a_role_has_the_default_one(closed: Place) -> None:
    plain = FunctionVersion(function="plain")
    roles.put_role(closed.store, "default", ())
    caller = closed.ask(credentials(closed, plain))
    assert caller.shown == "arn:aws:sts::000000000000:assumed-role/default/plain"
    assert not closed.may(caller, "lambda:InvokeFunction", HOME.function_arn("other"))


# --- what is refused, and what it needs ---------------------------------------------------------------------------


def test_a_denial_says_who_may_not_do_what_to_what(place: Place) -> None:
    caller = place.ask(place.key("read-only"))
    with pytest.raises(AccessDenied) as caught:
        place.gate.authorize(caller, "lambda:InvokeFunction", HOME.function_arn("fn"))
    assert caught.value.message == (
        "User: arn:aws:iam::000000000000:user/ana is not authorized to perform: lambda:InvokeFunction on resource: "
        "arn:aws:lambda:us-east-1:000000000000:function:fn because no identity-based policy allows the "
        "lambda:InvokeFunction action"
    )
    assert (caught.value.code, caught.value.http_status) == ("AccessDeniedException", 403)


def test_a_resource_may_allow_and_deny_beside_the_callers_policies(place: Place) -> None:
    caller, arn = place.ask(place.key("read-only")), HOME.function_arn("fn")

    def of_resource(effect: str, action: str) -> Any:
        facts = {"Effect": effect, "Action": action, "Resource": arn, "Principal": {"AWS": caller.shown}}
        return policy_of({"Statement": facts}, is_of_resource=True)

    place.gate.authorize(caller, "lambda:InvokeFunction", arn, of_resource("Allow", "lambda:InvokeFunction"))
    with pytest.raises(AccessDenied, match="with an explicit deny in a resource-based policy"):
        place.gate.authorize(caller, "lambda:GetFunction", arn, of_resource("Deny", "lambda:Get*"))


def test_an_explicit_deny_of_a_key_is_told_as_such(place: Place) -> None:
    deny = {"Statement": {"Effect": "Deny", "Action": "lambda:Delete*", "Resource": "*"}}
    caller = place.ask(place.key("admin", deny))
    with pytest.raises(AccessDenied, match="with an explicit deny in an identity-based policy"):
        place.gate.authorize(caller, "lambda:DeleteFunction", "*")


ARN = HOME.function_arn("fn")
EXECUTION = own("fn")


@pytest.mark.parametrize(
    ("operation", "parameters", "action", "resource"),
    [
        ("CheckpointDurableExecution", {"DurableExecutionArn": EXECUTION}, None, EXECUTION),
        ("StopDurableExecution", {"DurableExecutionArn": EXECUTION}, None, EXECUTION),
        ("ListDurableExecutionsByFunction", {"FunctionName": "fn:prod"}, None, ARN),
        ("Invoke", {"FunctionName": "fn"}, "lambda:InvokeFunction", ARN),
        ("Invoke", {"FunctionName": "fn", "Qualifier": "3"}, "lambda:InvokeFunction", f"{ARN}:3"),
        ("Invoke", {"FunctionName": f"{ARN}:prod"}, "lambda:InvokeFunction", f"{ARN}:prod"),
        (
            "Invoke",
            {"FunctionName": "arn:aws:lambda:eu-west-1:111111111111:function:fn"},
            "lambda:InvokeFunction",
            "arn:aws:lambda:eu-west-1:111111111111:function:fn",
        ),
        ("CreateAlias", {"FunctionName": "fn", "Name": "prod"}, None, ARN),
        ("ListFunctions", {}, None, "*"),
        ("TagResource", {"Resource": ARN}, None, ARN),
        ("GetEventSourceMapping", {"UUID": "1"}, None, "arn:aws:lambda:us-east-1:000000000000:event-source-mapping:1"),
    ],
)
def test_an_operation_needs_an_action_on_a_resource(
    operation: str, parameters: dict[str, Any], action: str | None, resource: str
) -> None:
    need = need_of(operation, parameters, HOME)
    assert (need.action, need.resource) == (action or f"lambda:{operation}", resource)


def test_a_callback_needs_the_right_to_its_execution() -> None:
    need = need_of("SendDurableExecutionCallbackSuccess", {"CallbackId": "x"}, HOME, execution_arn=EXECUTION)
    assert (need.action, need.resource) == ("lambda:SendDurableExecutionCallbackSuccess", EXECUTION)


def test_what_changes_something_by_will_goes_on_record_and_nothing_else() -> None:
    parameters = {"DurableExecutionArn": EXECUTION, "FunctionName": "fn", "Resource": ARN, "UUID": "1"}
    needs = {name: need_of(name, parameters, HOME, execution_arn=EXECUTION) for name in OPERATIONS}
    quiet = {name for name, need in needs.items() if not need.is_audited}
    moved_on = {"CheckpointDurableExecution", "SendDurableExecutionCallbackHeartbeat"}
    assert quiet - moved_on == {name for name in OPERATIONS if name.startswith(("Get", "List"))}
    assert need_of_own("CreateKey", is_audited=True).action == "perdure:CreateKey"


def test_a_key_with_a_policy_that_cannot_be_read_any_more_is_an_error_and_no_entry(place: Place) -> None:
    key = place.key()
    damaged = keys.Key(key_id=key.key_id, user="ana", policies=("gone",))
    place.store.change([Change(keys.KIND, key.key_id, msgspec.json.encode(damaged))])
    with pytest.raises(ServiceError):
        place.ask(key)
