"""`perdure keys …`, `perdure roles …` and `perdure audit` on a store file, whoever owns it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import perdure
from cli.conftest import Cli
from perdure.identity.callers import Caller
from perdure.identity.gate import Gate
from perdure.model.error import UnrecognizedClient
from perdure.model.ids import Home
from perdure.service.clock import SystemClock
from perdure.store.open import open_store
from perdure.store.sqlite import Mode
from perdure.wire.signature import Sent, Signer

DAY_MS = 86_400_000
OWN = {"Statement": {"Effect": "Allow", "Action": "lambda:Get*", "Resource": "*"}}


def enter(key_id: str, secret: str) -> Caller:
    """Who the gate of the store says has signed with this key."""
    store = open_store("sqlite:///perdure.db", Mode.READ)
    try:
        headers = {"host": "example.org"}
        sent = Sent("GET", "/", "", headers, hashlib.sha256(b"").hexdigest())
        headers |= Signer(key_id, secret, region="us-east-1").sign(sent, SystemClock().now_ms())
        return Gate(store, Home(), SystemClock().now_ms).authenticate("GET", "/", "", headers, b"", peer="192.0.2.7")
    finally:
        store.close()


def create(cli: Cli, *arguments: str) -> Any:
    return cli("keys", "create", "--user", "ana", "--policy", "operator", "-o", "json", *arguments).json


def test_a_key_is_made_shown_once_and_opens_the_gate(cli: Cli) -> None:
    made = create(cli)
    caller = enter(made["AccessKeyId"], made["SecretAccessKey"])
    assert caller.shown == "arn:aws:iam::000000000000:user/ana"
    listed = cli("keys", "list", "-o", "json")
    assert made["SecretAccessKey"] not in listed.out
    assert listed.json["AccessKeys"] == [{name: value for name, value in made.items() if name != "SecretAccessKey"}]
    assert (made["Status"], made["Policies"]) == ("Active", ["operator"])


def test_the_first_key_says_that_it_closes_the_store(cli: Cli) -> None:
    said = "every request to a server of it must be signed"
    assert said in cli("keys", "create", "--user", "ana", "--policy", "admin").err
    assert said not in cli("keys", "create", "--user", "bo", "--policy", "admin").err


def test_a_key_is_written_as_shells_profiles_and_people_read_it(cli: Cli) -> None:
    arguments = ("keys", "create", "--user", "ana", "--policy", "admin")
    shell = cli(*arguments, "--format", "env").out.splitlines()
    assert [line.partition("=")[0] for line in shell] == [
        "export AWS_ACCESS_KEY_ID",
        "export AWS_SECRET_ACCESS_KEY",
        "export AWS_DEFAULT_REGION",
    ]
    profile = cli(*arguments, "--format", "profile").out.splitlines()
    assert profile[0] == "[perdure]"
    assert [line.partition(" = ")[0] for line in profile[1:]] == [
        "aws_access_key_id",
        "aws_secret_access_key",
        "region",
    ]
    assert set(json.loads(cli(*arguments, "--format", "json").out)) >= {"AccessKeyId", "SecretAccessKey"}
    assert "(shown this once)" in cli(*arguments, "-o", "summary").out


def test_a_key_may_end_and_have_policies_of_its_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(OWN))
    made = create(cli, "--expires", "90d", "--policy", "own.json")
    assert made["Policies"] == ["operator", OWN]
    assert made["Expires"] > made["CreateDate"]
    rows = cli("keys", "list", "-o", "tsv").rows
    assert rows[0][1:4] == ["ana", "active", "operator, (own)"]


def test_a_disabled_key_is_refused_and_an_enabled_one_is_not(cli: Cli) -> None:
    made = create(cli)
    create(cli)
    assert f"disabled: {made['AccessKeyId']} of ana" in cli("keys", "disable", made["AccessKeyId"], "-o", "summary").err
    with pytest.raises(UnrecognizedClient):
        enter(made["AccessKeyId"], made["SecretAccessKey"])
    cli("keys", "enable", made["AccessKeyId"])
    assert enter(made["AccessKeyId"], made["SecretAccessKey"])


def test_a_key_is_removed_when_that_is_confirmed(cli: Cli) -> None:
    made = create(cli)
    assert "give -y" in cli("keys", "delete", made["AccessKeyId"], code=2).err
    said = cli("keys", "delete", made["AccessKeyId"], "-y", "-o", "table").err
    assert "removed" in said
    assert "this was the last key" in said
    assert cli("keys", "list", "-o", "json").json == {"AccessKeys": []}
    assert "there is no access key" in cli("keys", "disable", made["AccessKeyId"], code=3).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--user", "ana"), "Missing option '--policy'"),
        (("--user", "a/b", "--policy", "admin"), "a user's name must be"),
        (("--user", "ana", "--policy", "gone.json"), "the policy file gone.json can't be read"),
        (("--user", "ana", "--policy", "bad.json"), "the policy is no JSON"),
        (("--user", "ana", "--policy", "admin", "--expires", "soon"), "is no duration"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_with_the_reason(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.json").write_text("{")
    assert said in cli("keys", "create", *arguments, code=2).err


def test_keys_are_made_while_another_process_owns_the_store(cli: Cli) -> None:
    with perdure.open("sqlite:///perdure.db", []):
        made = create(cli)
        assert enter(made["AccessKeyId"], made["SecretAccessKey"])


def test_without_a_store_there_is_nothing_to_list(cli: Cli) -> None:
    assert "there is no store" in cli("keys", "list", code=3).err


def test_roles_are_set_listed_and_forgotten(cli: Cli) -> None:
    cli("roles", "set", "shop", "--policy", "read-only")
    assert cli("roles", "list", "-o", "json").json == {"Roles": [{"RoleName": "shop", "Policies": ["read-only"]}]}
    assert cli("roles", "list", "-o", "tsv").rows == [["shop", "read-only"]]
    assert cli("roles", "delete", "shop", "-o", "json").json == {"RoleName": "shop"}
    assert "nothing is configured" in cli("roles", "delete", "shop", code=3).err


def test_what_was_done_to_keys_is_on_record_without_secrets(cli: Cli) -> None:
    made = create(cli)
    cli("keys", "disable", made["AccessKeyId"])
    cli("roles", "set", "shop", "--policy", "admin")
    said = cli("audit", "-o", "json")
    found = said.json["Entries"]
    assert [entry["EventName"] for entry in found] == ["PutRole", "DisableKey", "CreateKey"]
    assert found[2]["Resource"] == made["AccessKeyId"]
    assert found[2]["RequestParameters"] == {"User": "ana", "Policies": ["operator"]}
    assert found[2]["Caller"].startswith("cli:")
    assert made["SecretAccessKey"] not in said.out


def test_the_record_is_searched_by_its_parts(cli: Cli) -> None:
    made = create(cli)
    cli("keys", "disable", made["AccessKeyId"])

    def operations(*arguments: str) -> list[str]:
        return [row[3] for row in cli("audit", "-o", "tsv", *arguments).rows]

    assert operations("--operation", "create") == ["CreateKey"]
    assert operations("--user", "nobody-of-this-name") == []
    assert operations("--resource", made["AccessKeyId"]) == ["DisableKey", "CreateKey"]
    assert operations("--since", "1h", "--limit", "1") == ["DisableKey"]
    assert operations("--until", "1h") == []
    assert "nothing is on record that fits" in cli("audit", "-o", "table", "--user", "nobody-of-this-name").err
