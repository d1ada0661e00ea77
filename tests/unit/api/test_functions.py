"""The API's operations on functions, from a request's bytes to the answer's."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote

import pytest

from perdure.api import functions, policies, settings, tags, versions
from perdure.api.backing import Backing, PlainCall
from perdure.api.request import Handler, Request
from perdure.model.error import (
    InvalidParameterValue,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    ServiceError,
)
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import Home
from perdure.service.registry import Registry
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.wire.api import Message, lambda_api
from perdure.wire.table import Json
from support.ids import SeededIds
from support.local import ManualClock, Queue

HANDLERS: dict[str, Handler] = {
    **functions.OPERATIONS,
    **versions.OPERATIONS,
    **policies.OPERATIONS,
    **settings.OPERATIONS,
    **tags.OPERATIONS,
}
HOME = Home()
ARN = HOME.function_arn("fn")
ROLE = "arn:aws:iam::000000000000:role/any"
PACKAGE = b"PK\x05\x06" + bytes(18)
SHA256 = base64.b64encode(hashlib.sha256(PACKAGE).digest()).decode()


class NoCalls:
    def call(self, call: PlainCall) -> Any:
        raise AssertionError(call)

    def accept(self, call: PlainCall) -> None:
        raise AssertionError(call)


class Api:
    """The handlers with what stands behind them, asked as a client asks: by the bytes of a request."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = ManualClock()
        self.registry = Registry(self.store, HOME, self.clock, lambda: 0.0)
        self.service = Service(self.store, self.registry, Queue(), clock=self.clock, ids=SeededIds())
        self.checked: list[bytes] = []
        self.backing = Backing(
            service=self.service,
            registry=self.registry,
            store=self.store,
            home=HOME,
            calling=NoCalls(),
            runtimes=frozenset({"python3.13", "nodejs22.x"}),
            check_package=self._check_package,
        )

    def _check_package(self, package: bytes) -> None:
        self.checked.append(package)
        if not package.startswith(b"PK"):
            raise InvalidParameterValue("Could not unzip uploaded file")

    def ask(self, operation: str, **given: Any) -> Json:
        """The members of the answer; what the API's model has no name for does not get this far."""
        of = lambda_api().operations[operation]
        sent = of.write_request(given)
        parts = dict(zip(of.parts, sent.path.strip("/").split("/"), strict=True))
        path = {part[1:-1]: unquote(value) for part, value in parts.items() if part.startswith("{")}
        headers = {name.lower(): value for name, value in sent.headers}
        parameters = of.read_request(path, sent.query, headers, sent.body)
        answer = HANDLERS[operation](self.backing, Request(operation=operation, parameters=parameters))
        assert isinstance(answer, dict)
        assert answer.keys() <= {*of.answer.body, of.answer.status}, "a member that the API does not have"
        message: Message = of.write_answer(answer)
        return {**of.read_answer(message.status, {}, message.body), "Status": message.status}

    def create(self, name: str = "fn", **more: Any) -> Json:
        return self.ask(
            "CreateFunction",
            **{
                "FunctionName": name,
                "Runtime": "python3.13",
                "Role": ROLE,
                "Handler": "app.handler",
                "Code": {"ZipFile": PACKAGE},
                **more,
            },
        )

    def pages(self, operation: str, key: str, **given: Any) -> list[list[Any]]:
        """All pages of a list."""
        found: list[list[Any]] = []
        marker: Json = {}
        while True:
            answer = self.ask(operation, **given, **marker)
            found.append(answer[key])
            if "NextMarker" not in answer:
                return found
            marker = {"Marker": answer["NextMarker"]}


@pytest.fixture
def api() -> Api:
    return Api()


# --- functions -------------------------------------------------------------------------------------------------------


def test_every_operation_on_functions_has_a_handler() -> None:
    elsewhere = {"Invoke", "InvokeAsync", "InvokeWithResponseStream"}
    modelled = {
        name
        for name, operation in lambda_api().operations.items()
        if "durable-execution" not in operation.path and name not in elsewhere
    }
    assert modelled == HANDLERS.keys()


def test_a_function_has_every_member_that_clients_and_waiters_look_at(api: Api) -> None:
    """Service specification 1.4: State and LastUpdateStatus are always there."""
    made = api.create(DurableConfig={"ExecutionTimeout": 60})
    assert made["Status"] == 201
    assert made.pop("RevisionId")
    assert made == {
        "Architectures": ["x86_64"],
        "CodeSha256": SHA256,
        "CodeSize": len(PACKAGE),
        "Description": "",
        "DurableConfig": {"ExecutionTimeout": 60, "RetentionPeriodInDays": 14},
        "Environment": {"Variables": {}},
        "EphemeralStorage": {"Size": 512},
        "FunctionArn": ARN,
        "FunctionName": "fn",
        "Handler": "app.handler",
        "LastModified": "2025-12-01T00:00:00.000+0000",
        "LastUpdateStatus": "Successful",
        "Layers": [],
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/fn"},
        "MemorySize": 128,
        "PackageType": "Zip",
        "Role": ROLE,
        "Runtime": "python3.13",
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "State": "Active",
        "Status": 201,
        "Timeout": 3,
        "TracingConfig": {"Mode": "PassThrough"},
        "Version": "$LATEST",
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": ""},
    }
    assert api.checked == [PACKAGE]


def test_what_was_given_is_kept_and_shown(api: Api) -> None:
    given: Json = {
        "Description": "bills",
        "Timeout": 5400,
        "MemorySize": 512,
        "Environment": {"Variables": {"A_1": "ü"}},
        "Architectures": ["arm64"],
        "EphemeralStorage": {"Size": 1024},
        "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
        "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
        "TenancyConfig": {"TenantIsolationMode": "PER_TENANT"},
        "DurableConfig": {
            "ExecutionTimeout": 1,
            "RetentionPeriodInDays": 90,
            "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/d",
        },
    }
    made = api.create(
        **given,
        Layers=["arn:aws:lambda:us-east-1:000000000000:layer:l:1"],
        TracingConfig={"Mode": "Active"},
        LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"},
        SnapStart={"ApplyOn": "PublishedVersions"},
        VpcConfig={"SubnetIds": ["subnet-1"]},
        Tags={"team": "x"},
    )
    assert {name: made[name] for name in given} == given
    assert made["Layers"] == [{"Arn": "arn:aws:lambda:us-east-1:000000000000:layer:l:1", "CodeSize": 0}]
    assert made["TracingConfig"] == {"Mode": "Active"}
    assert made["LoggingConfig"] == {
        "LogFormat": "JSON",
        "LogGroup": "/aws/lambda/fn",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "WARN",
    }
    assert made["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    assert made["VpcConfig"] == {"SubnetIds": ["subnet-1"], "SecurityGroupIds": [], "VpcId": ""}
    assert api.ask("GetFunctionConfiguration", FunctionName="fn") == {**made, "Status": 200}
    version = api.registry.get("fn")
    assert version.is_tenant_isolated
    assert version.log_format == "JSON"
    assert version.durable == DurableConfig(execution_timeout_s=1, retention_days=90)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"Runtime": "ruby3.4"}, r"no runtime ruby3\.4; it has nodejs22\.x, python3\.13"),
        ({"Runtime": None}, "Runtime is missing"),
        ({"Handler": None}, "Handler is missing"),
        ({"Code": {}}, "ZipFile is missing"),
        ({"Code": {"ZipFile": b"no zip"}}, "unzip"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "S3"),
        ({"Code": {"ImageUri": "image"}}, "images"),
        ({"PackageType": "Image"}, "images"),
        ({"PublishTo": "LATEST_PUBLISHED"}, "capacity providers"),
        (
            {"CodeSigningConfigArn": "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdef0"},
            "signatures",
        ),
        ({"FunctionName": "fn:1"}, "qualifier"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "AWS_REGION"),
        ({"Environment": {"Variables": {"AA": "x" * 40_000}}}, "32768 bytes"),
        ({"Environment": {"Variables": {"AA": "\0"}}}, "NUL"),
        ({"Tags": {"aws:x": "y"}}, "reserved"),
        ({"Tags": {str(number): "" for number in range(51)}}, "50 tags"),
        ({"Timeout": 5401}, "Timeout"),
        ({"DurableConfig": {"ExecutionTimeout": 0}}, "ExecutionTimeout"),
        ({"DurableConfig": {"RetentionPeriodInDays": 91}}, "RetentionPeriodInDays"),
    ],
)
def test_a_function_that_can_t_be_right_is_refused_and_nothing_of_it_kept(api: Api, given: Json, error: str) -> None:
    with pytest.raises(InvalidParameterValue, match=error):
        api.create(**{"name": given.get("FunctionName", "fn"), **given})
    assert api.store.records("function") == []
    assert api.store.records("code") == []


def test_a_name_is_taken_once(api: Api) -> None:
    api.create()
    with pytest.raises(ResourceConflict, match="fn"):
        api.create()
    assert api.create(ARN.replace(":fn", ":fn2"))["FunctionName"] == "fn2"


def test_a_function_says_where_its_package_is(api: Api) -> None:
    api.create(Tags={"team": "x"}, Publish=True)
    found = api.ask("GetFunction", FunctionName="fn")
    assert found["Code"] == {"RepositoryType": "Perdure", "Location": "/perdure/code/fn/%24LATEST"}
    assert found["Tags"] == {"team": "x"}
    assert "Concurrency" not in found
    api.ask("PutFunctionConcurrency", FunctionName="fn", ReservedConcurrentExecutions=0)
    found = api.ask("GetFunction", FunctionName="fn", Qualifier="1")
    assert found["Code"]["Location"] == "/perdure/code/fn/1"
    assert found["Configuration"]["FunctionArn"] == f"{ARN}:1"
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 0}


def test_the_configuration_is_changed_where_the_request_says_so(api: Api) -> None:
    made = api.create(Environment={"Variables": {"AA": "1"}}, Timeout=9)
    changed = api.ask("UpdateFunctionConfiguration", FunctionName="fn", MemorySize=256, RevisionId=made["RevisionId"])
    assert (changed["MemorySize"], changed["Timeout"], changed["Environment"]) == (256, 9, {"Variables": {"AA": "1"}})
    assert changed["RevisionId"] != made["RevisionId"]
    with pytest.raises(PreconditionFailed):
        api.ask("UpdateFunctionConfiguration", FunctionName="fn", Timeout=1, RevisionId=made["RevisionId"])
    with pytest.raises(InvalidParameterValue, match="no runtime"):
        api.ask("UpdateFunctionConfiguration", FunctionName="fn", Runtime="java21")
    with pytest.raises(InvalidParameterValue, match="images"):
        api.ask("UpdateFunctionConfiguration", FunctionName="fn", ImageConfig={"Command": ["x"]})
    with pytest.raises(InvalidParameterValue, match="without a version"):
        api.ask("UpdateFunctionConfiguration", FunctionName="fn:1", Timeout=1)
    cleared = api.ask("UpdateFunctionConfiguration", FunctionName="fn", Environment={})
    assert cleared["Environment"] == {"Variables": {}}


def test_durability_may_be_turned_on_and_changed_for_what_starts_afterwards(api: Api) -> None:
    assert "DurableConfig" not in api.create()
    on = api.ask("UpdateFunctionConfiguration", FunctionName="fn", DurableConfig={"RetentionPeriodInDays": 3})
    assert on["DurableConfig"] == {"ExecutionTimeout": 31_622_400, "RetentionPeriodInDays": 3}
    api.ask("PublishVersion", FunctionName="fn")
    changed = api.ask("UpdateFunctionConfiguration", FunctionName="fn", DurableConfig={"ExecutionTimeout": 60})
    assert changed["DurableConfig"] == {"ExecutionTimeout": 60, "RetentionPeriodInDays": 3}
    assert api.ask("GetFunctionConfiguration", FunctionName="fn:1")["DurableConfig"] == on["DurableConfig"]


def test_code_is_replaced_published_or_only_tried(api: Api) -> None:
    made = api.create()
    other = b"PK other"
    tried = api.ask("UpdateFunctionCode", FunctionName="fn", ZipFile=other, DryRun=True, Architectures=["arm64"])
    assert (tried["CodeSize"], tried["Architectures"]) == (len(other), ["arm64"])
    assert api.ask("GetFunctionConfiguration", FunctionName="fn")["CodeSha256"] == SHA256
    with pytest.raises(PreconditionFailed):
        api.ask("UpdateFunctionCode", FunctionName="fn", ZipFile=other, DryRun=True, RevisionId="old")
    changed = api.ask("UpdateFunctionCode", FunctionName="fn", ZipFile=other, Publish=True, Architectures=["arm64"])
    assert (changed["Version"], changed["FunctionArn"], changed["CodeSha256"]) == ("1", f"{ARN}:1", tried["CodeSha256"])
    with pytest.raises(PreconditionFailed):
        api.ask("UpdateFunctionCode", FunctionName="fn", ZipFile=other, RevisionId=made["RevisionId"])
    with pytest.raises(InvalidParameterValue, match="unzip"):
        api.ask("UpdateFunctionCode", FunctionName="fn", ZipFile=b"no")
    with pytest.raises(InvalidParameterValue, match="S3"):
        api.ask("UpdateFunctionCode", FunctionName="fn", S3Bucket="bucket", S3Key="key")
    with pytest.raises(ResourceNotFound):
        api.ask("UpdateFunctionCode", FunctionName="no", ZipFile=other)


def test_a_worker_s_code_can_t_be_replaced_by_a_package(api: Api) -> None:
    api.registry.create(FunctionVersion(function="fn", host=Host.WORKER, durable=DurableConfig()))
    with pytest.raises(InvalidParameterValue, match="runs in a worker"):
        api.ask("UpdateFunctionCode", FunctionName="fn", ZipFile=PACKAGE)
    found = api.ask("GetFunction", FunctionName="fn")
    assert (found["Code"], found["Configuration"]["State"]) == ({}, "Active")
    assert api.ask("UpdateFunctionConfiguration", FunctionName="fn", Timeout=60)["Timeout"] == 60


def test_a_function_or_one_of_its_versions_is_deleted(api: Api) -> None:
    api.create(Publish=True)
    with pytest.raises(InvalidParameterValue):
        api.ask("DeleteFunction", FunctionName="fn", Qualifier="$LATEST")
    assert api.ask("DeleteFunction", FunctionName="fn", Qualifier="1")["StatusCode"] == 200
    with pytest.raises(ResourceNotFound):
        api.ask("GetFunctionConfiguration", FunctionName="fn:1")
    assert api.ask("DeleteFunction", FunctionName="fn")["StatusCode"] == 200
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}$"):
        api.ask("GetFunction", FunctionName="fn")


def test_functions_are_listed_page_by_page_with_all_their_versions_if_asked(api: Api) -> None:
    for name in ("c", "a", "b"):
        api.create(name, Publish=True)
    pages = api.pages("ListFunctions", "Functions", MaxItems=2)
    assert [[one["FunctionArn"] for one in page] for page in pages] == [
        [HOME.function_arn("a"), HOME.function_arn("b")],
        [HOME.function_arn("c")],
    ]
    pages = api.pages("ListFunctions", "Functions", MaxItems=4, FunctionVersion="ALL")
    assert [one["FunctionArn"].rpartition("function:")[2] for page in pages for one in page] == [
        f"{name}:{version}" for name in "abc" for version in ("$LATEST", "1")
    ]
    assert [len(page) for page in pages] == [4, 2]
    with pytest.raises(InvalidParameterValue, match="Marker"):
        api.ask("ListFunctions", Marker="made up")
    with pytest.raises(InvalidParameterValue, match="Marker"):
        api.ask("ListFunctions", FunctionVersion="ALL", Marker=base64.urlsafe_b64encode(b"after:a:x").decode())


def test_a_page_goes_on_behind_a_function_that_was_deleted_meanwhile(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.create(name)
    for more in ({}, {"FunctionVersion": "ALL"}):
        first = api.ask("ListFunctions", MaxItems=2, **more)
        api.ask("DeleteFunction", FunctionName="b")
        rest = api.ask("ListFunctions", MaxItems=2, Marker=first["NextMarker"], **more)
        assert [one["FunctionName"] for one in rest["Functions"]] == ["c"]
        api.create("b")


def test_no_page_has_more_than_fifty(api: Api) -> None:
    for number in range(51):
        api.create(f"f{number:02}")
    assert [len(page) for page in api.pages("ListFunctions", "Functions", MaxItems=10_000)] == [50, 1]


# --- versions and aliases --------------------------------------------------------------------------------------------


def test_a_version_is_published_once_for_what_it_holds(api: Api) -> None:
    made = api.create()
    first = api.ask("PublishVersion", FunctionName="fn", Description="first", CodeSha256=SHA256)
    assert first["Status"] == 201
    assert (first["Version"], first["FunctionArn"], first["Description"]) == ("1", f"{ARN}:1", "first")
    assert (first["State"], first["LastUpdateStatus"]) == ("Active", "Successful")
    assert api.ask("PublishVersion", FunctionName="fn")["Version"] == "1"
    with pytest.raises(InvalidParameterValue, match="CodeSha256"):
        api.ask("PublishVersion", FunctionName="fn", CodeSha256="no")
    api.ask("UpdateFunctionConfiguration", FunctionName="fn", Timeout=7)
    with pytest.raises(PreconditionFailed):
        api.ask("PublishVersion", FunctionName="fn", RevisionId=made["RevisionId"])
    with pytest.raises(InvalidParameterValue, match="capacity"):
        api.ask("PublishVersion", FunctionName="fn", PublishTo="LATEST_PUBLISHED")
    assert api.ask("PublishVersion", FunctionName="fn")["Version"] == "2"
    found = api.pages("ListVersionsByFunction", "Versions", FunctionName="fn", MaxItems=2)
    assert [[one["FunctionArn"] for one in page] for page in found] == [[f"{ARN}:$LATEST", f"{ARN}:1"], [f"{ARN}:2"]]


def test_aliases_are_made_moved_listed_and_removed(api: Api) -> None:
    api.create(Publish=True)
    api.ask("UpdateFunctionConfiguration", FunctionName="fn", Timeout=7)
    api.ask("PublishVersion", FunctionName="fn")
    made = api.ask(
        "CreateAlias",
        FunctionName="fn",
        Name="live",
        FunctionVersion="1",
        Description="what customers get",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}},
    )
    assert made["Status"] == 201
    assert made.pop("RevisionId")
    assert {**made, "Status": 0} == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "what customers get",
        "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.25}},
        "Status": 0,
    }
    with pytest.raises(ResourceConflict):
        api.ask("CreateAlias", FunctionName="fn", Name="live", FunctionVersion="1")
    with pytest.raises(InvalidParameterValue):
        api.ask("CreateAlias", FunctionName="fn", Name="12", FunctionVersion="1")
    with pytest.raises(ResourceNotFound):
        api.ask("CreateAlias", FunctionName="fn", Name="other", FunctionVersion="3")
    api.ask("CreateAlias", FunctionName="fn", Name="beta", FunctionVersion="$LATEST")
    found = api.ask("GetFunctionConfiguration", FunctionName="fn", Qualifier="live")
    assert (found["FunctionArn"], found["Version"]) == (f"{ARN}:live", "1")
    assert [
        [one["Name"] for one in page] for page in api.pages("ListAliases", "Aliases", FunctionName="fn", MaxItems=1)
    ] == [
        ["beta"],
        ["live"],
    ]
    for version, names in (("2", ["live"]), ("$LATEST", ["beta"]), ("3", [])):
        found = api.ask("ListAliases", FunctionName="fn", FunctionVersion=version)
        assert [one["Name"] for one in found["Aliases"]] == names
    kept = api.ask("UpdateAlias", FunctionName="fn", Name="live", Description="")
    assert (kept["FunctionVersion"], kept["RoutingConfig"]) == ("1", {"AdditionalVersionWeights": {"2": 0.25}})
    moved = api.ask(
        "UpdateAlias",
        FunctionName="fn",
        Name="live",
        FunctionVersion="2",
        RoutingConfig={},
        RevisionId=kept["RevisionId"],
    )
    assert moved["FunctionVersion"] == "2"
    assert "RoutingConfig" not in moved
    with pytest.raises(PreconditionFailed):
        api.ask("UpdateAlias", FunctionName="fn", Name="live", RevisionId=kept["RevisionId"])
    assert api.ask("GetAlias", FunctionName="fn", Name="live")["RevisionId"] == moved["RevisionId"]
    with pytest.raises(ResourceConflict, match="live"):
        api.ask("DeleteFunction", FunctionName="fn:2")
    assert api.ask("DeleteAlias", FunctionName="fn", Name="live") == {"Status": 204}
    with pytest.raises(ResourceNotFound):
        api.ask("GetAlias", FunctionName="fn", Name="live")


# --- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "written"),
    [
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
        ("111111111111", {"AWS": "arn:aws:iam::111111111111:root"}),
        ("arn:aws:iam::111111111111:user/u", {"AWS": "arn:aws:iam::111111111111:user/u"}),
        ("*", "*"),
    ],
)
def test_a_permission_becomes_a_statement_of_the_function_s_policy(api: Api, principal: str, written: Any) -> None:
    api.create()
    added = api.ask(
        "AddPermission",
        FunctionName="fn",
        StatementId="s1",
        Action="lambda:InvokeFunction",
        Principal=principal,
        SourceArn="arn:aws:events:us-east-1:000000000000:rule/r",
        SourceAccount="000000000000",
        InvokedViaFunctionUrl=True,
    )
    assert json.loads(added["Statement"]) == {
        "Sid": "s1",
        "Effect": "Allow",
        "Principal": written,
        "Action": "lambda:InvokeFunction",
        "Resource": ARN,
        "Condition": {
            "ArnLike": {"AWS:SourceArn": "arn:aws:events:us-east-1:000000000000:rule/r"},
            "StringEquals": {"AWS:SourceAccount": "000000000000"},
            "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
        },
    }
    policy = json.loads(api.ask("GetPolicy", FunctionName="fn")["Policy"])
    assert policy["Statement"] == [json.loads(added["Statement"])]


def test_a_policy_has_each_statement_once_and_may_be_on_a_version_or_alias(api: Api) -> None:
    api.create(Publish=True)
    given: Json = {"FunctionName": "fn", "StatementId": "s1", "Action": "lambda:InvokeFunction", "Principal": "*"}
    with pytest.raises(ResourceNotFound, match="has no policy"):
        api.ask("GetPolicy", FunctionName="fn")
    api.ask("AddPermission", **given)
    with pytest.raises(ResourceConflict, match="s1"):
        api.ask("AddPermission", **given)
    on_version = api.ask("AddPermission", **given, Qualifier="1")
    assert json.loads(on_version["Statement"])["Resource"] == f"{ARN}:1"
    for qualifier, error in (("$LATEST", InvalidParameterValue), ("2", ResourceNotFound)):
        with pytest.raises(error):
            api.ask("AddPermission", **given, Qualifier=qualifier)
    revision = api.ask("GetPolicy", FunctionName="fn")["RevisionId"]
    api.ask("AddPermission", **{**given, "StatementId": "s2"}, RevisionId=revision)
    with pytest.raises(PreconditionFailed):
        api.ask("AddPermission", **{**given, "StatementId": "s3"}, RevisionId=revision)
    with pytest.raises(PreconditionFailed):
        api.ask("RemovePermission", FunctionName="fn", StatementId="s1", RevisionId=revision)
    assert api.ask("RemovePermission", FunctionName="fn", StatementId="s1") == {"Status": 204}
    with pytest.raises(ResourceNotFound, match="s1"):
        api.ask("RemovePermission", FunctionName="fn", StatementId="s1")
    api.ask("RemovePermission", FunctionName="fn", StatementId="s2")
    with pytest.raises(ResourceNotFound):
        api.ask("GetPolicy", FunctionName="fn")
    assert api.ask("GetPolicy", FunctionName="fn:1")["Policy"]
    api.ask("DeleteFunction", FunctionName="fn:1")
    assert api.registry.function("fn").policies == {}


# --- settings --------------------------------------------------------------------------------------------------------


def test_asynchronous_invokes_have_settings_for_each_qualifier(api: Api) -> None:
    api.create(Publish=True)
    with pytest.raises(ResourceNotFound):
        api.ask("UpdateFunctionEventInvokeConfig", FunctionName="fn", MaximumRetryAttempts=1)
    put = api.ask("PutFunctionEventInvokeConfig", FunctionName="fn", MaximumRetryAttempts=0)
    assert put == {
        "LastModified": 1_764_547_200,
        "FunctionArn": f"{ARN}:$LATEST",
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
        "Status": 200,
    }
    api.clock.now += 1_000
    changed = api.ask("UpdateFunctionEventInvokeConfig", FunctionName="fn", MaximumEventAgeInSeconds=60)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (0, 60)
    replaced = api.ask("PutFunctionEventInvokeConfig", FunctionName="fn", MaximumEventAgeInSeconds=61)
    assert "MaximumRetryAttempts" not in replaced
    assert api.ask("GetFunctionEventInvokeConfig", FunctionName="fn") == replaced
    api.ask("PutFunctionEventInvokeConfig", FunctionName="fn:1", MaximumRetryAttempts=2)
    pages = api.pages("ListFunctionEventInvokeConfigs", "FunctionEventInvokeConfigs", FunctionName="fn", MaxItems=1)
    assert [[one["FunctionArn"] for one in page] for page in pages] == [[f"{ARN}:$LATEST"], [f"{ARN}:1"]]
    assert api.ask("DeleteFunctionEventInvokeConfig", FunctionName="fn") == {"Status": 204}
    for operation in ("GetFunctionEventInvokeConfig", "DeleteFunctionEventInvokeConfig"):
        with pytest.raises(ResourceNotFound):
            api.ask(operation, FunctionName="fn")
    with pytest.raises(ResourceNotFound):
        api.ask("PutFunctionEventInvokeConfig", FunctionName="fn", Qualifier="9")


def test_concurrency_is_reserved_and_given_back(api: Api) -> None:
    api.create()
    assert api.ask("GetFunctionConcurrency", FunctionName="fn") == {"Status": 200}
    put = api.ask("PutFunctionConcurrency", FunctionName="fn", ReservedConcurrentExecutions=5)
    assert put["ReservedConcurrentExecutions"] == 5
    assert api.ask("GetFunctionConcurrency", FunctionName="fn")["ReservedConcurrentExecutions"] == 5
    account = api.ask("GetAccountSettings")
    assert account["AccountLimit"]["UnreservedConcurrentExecutions"] == 995
    assert account["AccountUsage"] == {"TotalCodeSize": len(PACKAGE), "FunctionCount": 1}
    assert api.ask("DeleteFunctionConcurrency", FunctionName="fn") == {"Status": 204}
    assert api.registry.function("fn").concurrency is None
    with pytest.raises(InvalidParameterValue):
        api.ask("PutFunctionConcurrency", FunctionName="fn", ReservedConcurrentExecutions=-1)


def test_functions_have_tags(api: Api) -> None:
    api.create(Tags={"a": "1", "b": "2"})
    api.ask("TagResource", Resource=ARN, Tags={"b": "3", "c": "4"})
    api.ask("UntagResource", Resource=ARN, TagKeys=["a", "no"])
    assert api.ask("ListTags", Resource=ARN)["Tags"] == {"b": "3", "c": "4"}
    with pytest.raises(InvalidParameterValue, match="50 tags"):
        api.ask("TagResource", Resource=ARN, Tags={str(number): "" for number in range(49)})
    with pytest.raises(ResourceNotFound):
        api.ask("ListTags", Resource=HOME.function_arn("no"))
    with pytest.raises(InvalidParameterValue):
        api.ask("ListTags", Resource="arn:aws:lambda:us-east-1:000000000000:event-source-mapping:" + "0" * 36)


def test_event_sources_are_refused_and_none_is_listed(api: Api) -> None:
    with pytest.raises(InvalidParameterValue, match="Perdure has no event sources"):
        api.ask("CreateEventSourceMapping", FunctionName="fn", EventSourceArn="arn:aws:sqs:us-east-1:000000000000:q")
    for operation in ("GetEventSourceMapping", "UpdateEventSourceMapping", "DeleteEventSourceMapping"):
        with pytest.raises(ResourceNotFound):
            api.ask(operation, UUID="0" * 36)
    assert api.ask("ListEventSourceMappings") == {"EventSourceMappings": [], "Status": 200}


# --- naming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["GetFunction", "GetFunctionConfiguration", "DeleteFunction", "GetPolicy"])
def test_a_function_of_another_account_or_region_is_not_found(api: Api, operation: str) -> None:
    api.create()
    for arn in (
        "arn:aws:lambda:us-east-1:111111111111:function:fn",
        "arn:aws:lambda:eu-west-1:000000000000:function:fn",
    ):
        with pytest.raises(ResourceNotFound, match=arn):
            api.ask(operation, FunctionName=arn)


def test_a_qualifier_in_the_name_and_another_beside_it_are_refused(api: Api) -> None:
    api.create(Publish=True)
    assert api.ask("GetFunctionConfiguration", FunctionName="fn:1", Qualifier="1")["Version"] == "1"
    for operation in ("GetFunction", "GetFunctionConfiguration", "DeleteFunction"):
        with pytest.raises(ServiceError, match="the same twice"):
            api.ask(operation, FunctionName="fn:1", Qualifier="2")


def test_a_deleting_function_says_why_it_is_still_there(api: Api) -> None:
    api.create(DurableConfig={})
    started = api.service.start([StartRequest(function="fn", version="$LATEST")])[0]
    assert api.ask("DeleteFunction", FunctionName="fn")["StatusCode"] == 202
    found = api.ask("GetFunctionConfiguration", FunctionName="fn")
    assert (found["State"], found["StateReasonCode"]) == ("Deleting", "DrainingDurableExecutions")
    api.service.stop(started.execution_id)
    api.registry.sweep()
    with pytest.raises(ResourceNotFound):
        api.ask("GetFunctionConfiguration", FunctionName="fn")
