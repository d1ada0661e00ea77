"""Where access keys are found."""

from pathlib import Path

import pytest

from perdure.client.credentials import Credentials, find_credentials
from perdure.client.errors import ClientError

FILE = """
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = of-default

[night%shift]
aws_access_key_id = AKIANIGHT
aws_secret_access_key = 100%secret
aws_session_token = a-token

[empty]
region = eu-central-1
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "credentials"
    file.write_text(FILE)
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file)}


def test_without_a_key_anywhere_there_is_none(tmp_path: Path) -> None:
    assert find_credentials({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}) is None


def test_perdures_own_variables_go_before_those_of_aws_and_both_before_the_file(env: dict[str, str]) -> None:
    aws = {"AWS_ACCESS_KEY_ID": "AKIAAWS", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "t"}
    own = {"PERDURE_ACCESS_KEY_ID": "AKIAOWN", "PERDURE_SECRET_ACCESS_KEY": "c"}
    assert find_credentials(env) == Credentials("AKIADEFAULT", "of-default")
    assert find_credentials({**env, **aws}) == Credentials("AKIAAWS", "b", "t")
    assert find_credentials({**env, **aws, **own}) == Credentials("AKIAOWN", "c")


def test_a_profile_that_is_asked_for_goes_before_the_environment(env: dict[str, str]) -> None:
    aws = {"AWS_ACCESS_KEY_ID": "AKIAAWS", "AWS_SECRET_ACCESS_KEY": "b"}
    assert find_credentials({**env, **aws}, "night%shift") == Credentials("AKIANIGHT", "100%secret", "a-token")


def test_the_environment_may_name_the_profile(env: dict[str, str]) -> None:
    assert find_credentials({**env, "AWS_PROFILE": "night%shift"}) == Credentials("AKIANIGHT", "100%secret", "a-token")


@pytest.mark.parametrize("profile", ["empty", "unknown"])
def test_a_profile_without_a_key_has_none(env: dict[str, str], profile: str) -> None:
    assert find_credentials(env, profile) is None


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("PERDURE_ACCESS_KEY_ID", "PERDURE_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_half_a_key_is_an_error(env: dict[str, str], name: str, missing: str) -> None:
    with pytest.raises(ClientError, match=f"{name} is set and {missing} is not"):
        find_credentials({**env, name: "x"})


def test_a_file_that_is_none_is_named(env: dict[str, str]) -> None:
    Path(env["AWS_SHARED_CREDENTIALS_FILE"]).write_text("no section = 1")
    with pytest.raises(ClientError, match="can't be read"):
        find_credentials(env)
