"""What can't be loaded says so where operators look: in the function's state, with a reason, until it can be."""

import io
import json
import sys
import time
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from support.packages import package
from support.served import Served

ROLE = "arn:aws:iam::000000000000:role/any"
PYTHON = f"python3.{sys.version_info.minor}"


def create(served: Served, name: str, code: bytes, **more: Any) -> Any:
    given = {"Runtime": PYTHON, "Handler": "app.handler", "Role": ROLE, "Code": {"ZipFile": code}, **more}
    return served.client.create_function(FunctionName=name, **given)


def state(served: Served, name: str, wanted: str) -> Any:
    """The function's configuration, once its state is as wanted."""
    deadline = time.monotonic() + 10
    while (found := served.client.get_function_configuration(FunctionName=name))["State"] != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_a_handler_that_does_not_exist(served: Served) -> None:
    create(served, "lost", package({"app.py": "x = 1"}), Handler="nowhere.handler")
    answer = served.client.invoke(FunctionName="lost", Payload=b"{}")
    assert json.loads(answer["Payload"].read())["errorType"] == "Runtime.ImportModuleError"
    found = state(served, "lost", "Failed")
    assert found["StateReasonCode"] == "FunctionError.RuntimeInitError"
    assert "nowhere" in found["StateReason"]
    with pytest.raises(WaiterError, match="terminal failure"):
        served.client.get_waiter("function_active_v2").wait(FunctionName="lost", WaiterConfig={"MaxAttempts": 2})
    mended = package({"nowhere.py": "def handler(event, context): return 'found'"})
    served.client.update_function_code(FunctionName="lost", ZipFile=mended)
    assert state(served, "lost", "Active").get("StateReason") is None
    assert served.client.invoke(FunctionName="lost", Payload=b"{}")["Payload"].read() == b'"found"'


def test_a_bootstrap_that_is_missing_or_ends_at_once(served: Served) -> None:
    create(served, "empty", package({"readme": "x"}), Runtime="provided.al2023")
    assert "FunctionError" in served.client.invoke(FunctionName="empty", Payload=b"{}")
    assert state(served, "empty", "Failed")["StateReasonCode"] == "FunctionError.InvalidEntryPoint"
    short = package({"bootstrap": "#!/bin/sh\nexit 3\n"}, executable=("bootstrap",))
    create(served, "short", short, Runtime="provided.al2023")
    answer = served.client.invoke(FunctionName="short", Payload=b"{}")
    assert json.loads(answer["Payload"].read())["errorType"] == "Runtime.ExitError"
    assert "exit status 3" in state(served, "short", "Failed")["StateReason"]


def test_what_fails_at_first_and_loads_later_is_active_again(served: Served, tmp_path: Any) -> None:
    mark = tmp_path / "ready"
    source = f"import os\nassert os.path.exists({str(mark)!r})\ndef handler(event, context): return 1\n"
    create(served, "later", package({"app.py": source}))
    served.client.invoke(FunctionName="later", Payload=b"{}")
    state(served, "later", "Failed")
    mark.touch()
    assert served.client.invoke(FunctionName="later", Payload=b"{}")["Payload"].read() == b"1"
    state(served, "later", "Active")


@pytest.mark.parametrize(
    ("name", "more", "named"),
    [
        ("unknown-runtime", {"Runtime": "cobol85"}, "Runtime"),
        ("no-zip", {"Code": {"ZipFile": b"no zip"}}, "zip"),
        ("in-s3", {"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "S3"),
        ("image", {"Code": {"ImageUri": "x"}, "PackageType": "Image"}, "mage"),
    ],
)
def test_what_can_not_be_is_refused_at_once(served: Served, name: str, more: dict[str, Any], named: str) -> None:
    given = {"Runtime": PYTHON, "Handler": "app.handler", "Code": {"ZipFile": package({"app.py": ""})}, **more}
    with pytest.raises(ClientError, match=named) as raised:
        served.client.create_function(FunctionName=name, Role=ROLE, **given)
    assert raised.value.response["Error"]["Code"] == "InvalidParameterValueException"
    with pytest.raises(ClientError, match="Function not found"):
        served.client.get_function(FunctionName=name)


@pytest.mark.parametrize("entry", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py"])
def test_a_package_that_leads_out_of_its_folder_is_refused(served: Served, entry: str) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(entry, "x")
    with pytest.raises(ClientError, match="InvalidParameterValueException"):
        create(served, "evil", made.getvalue())


def test_a_zip_bomb_is_refused(served: Served) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{number}", b"\0" * 50_000_000)
    with pytest.raises(ClientError, match="InvalidParameterValueException"):
        create(served, "bomb", made.getvalue())


def test_executions_that_no_concurrency_was_left_for_go_on_as_soon_as_there_is_some(served: Served) -> None:
    """They waited for whatever came next, which could take half a minute."""
    function = served.function()
    served.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=0)
    served.invoke(FunctionName=function.qualified, InvocationType="Event")
    assert function.count == 0
    served.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=1)
    function.next(5).succeed()
