"""Between a version of a function and its FunctionConfiguration in the Lambda API.

Source: Lambda API 2015-03-31, shape FunctionConfiguration, and the requests that make or change one.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from perdure.model.error import InvalidParameterValue
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion
from perdure.model.ids import LATEST, Home
from perdure.wire.table import Json

ENVIRONMENT_BYTES_MAX: Final = 32 * 1024
"""AWS allows 4 KiB. A process is given its environment at once, and every system has room for this much."""
RESERVED: Final = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""Variables that the runtime sets itself."""

_FIELDS: Final = {
    "Description": "description",
    "Handler": "handler",
    "MemorySize": "memory_mb",
    "Role": "role",
    "Runtime": "runtime",
    "Timeout": "timeout_s",
}
_KEPT: Final = (
    "AcceleratorConfig",
    "Architectures",
    "CapacityProviderConfig",
    "DeadLetterConfig",
    "EphemeralStorage",
    "FileSystemConfigs",
    "KMSKeyArn",
    "Layers",
    "LoggingConfig",
    "RuntimeConfig",
    "SnapStart",
    "TracingConfig",
    "VpcConfig",
)
"""Members that are kept as they were given, and shown."""


def changed(version: FunctionVersion, given: Json) -> FunctionVersion:
    """`version` with what a request says of it; what the request does not name stays.

    Raises InvalidParameterValue if an environment can't be given to a process.
    """
    fields: Json = {field: given[name] for name, field in _FIELDS.items() if name in given}
    more: Json = {**version.more, **{name: given[name] for name in _KEPT if name in given}}
    if "Environment" in given:
        fields["environment"] = _environment(given["Environment"].get("Variables", {}))
    if "LoggingConfig" in given:
        fields["log_format"] = given["LoggingConfig"].get("LogFormat", "Text")
    if "TenancyConfig" in given:
        fields["is_tenant_isolated"] = True
    if "DurableConfig" in given:
        fields["durable"] = _durable(version.durable or DurableConfig(), given["DurableConfig"])
        if "KMSKeyArn" in given["DurableConfig"]:
            more["DurableKMSKeyArn"] = given["DurableConfig"]["KMSKeyArn"]
    return replace(version, more=more, **fields)


def _durable(config: DurableConfig, given: Json) -> DurableConfig:
    return DurableConfig(
        execution_timeout_s=given.get("ExecutionTimeout", config.execution_timeout_s),
        retention_days=given.get("RetentionPeriodInDays", config.retention_days),
    )


def _environment(variables: dict[str, str]) -> dict[str, str]:
    if reserved := sorted(RESERVED & variables.keys()):
        raise InvalidParameterValue(
            f"Environment can't set {', '.join(reserved)}: the runtime does", hint="choose other names"
        )
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size > ENVIRONMENT_BYTES_MAX:
        raise InvalidParameterValue(f"Environment must have at most {ENVIRONMENT_BYTES_MAX} bytes, not {size}")
    if unfit := sorted(name for name, value in variables.items() if "\0" in value):
        raise InvalidParameterValue(f"Environment.{unfit[0]} must not hold a NUL character")
    return variables


def check_runnable(version: FunctionVersion, runtimes: Collection[str]) -> None:
    """InvalidParameterValue if nobody here could run a package as the version says."""
    if version.runtime is None or version.handler is None:
        missing = "Runtime" if version.runtime is None else "Handler"
        raise InvalidParameterValue(f"{missing} is missing: a deployment package can't be run without it")
    if version.runtime not in runtimes:
        raise InvalidParameterValue(
            f"this server has no runtime {version.runtime}; it has {', '.join(sorted(runtimes)) or 'none'}",
            hint="install the language on the server, or package the function for one that is there",
        )


def written(version: FunctionVersion, home: Home, qualifier: str | None = None) -> Json:
    """A FunctionConfiguration; its ARN has the qualifier by which it was asked for, or its number."""
    if qualifier is None and version.version != LATEST:
        qualifier = version.version
    more = version.more
    answer: Json = {
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        **{name: more[name] for name in _KEPT if name in more},
        "CodeSha256": version.code_sha256,
        "CodeSize": version.code_bytes,
        "Description": version.description,
        "DurableConfig": _durable_written(version),
        "Environment": {"Variables": version.environment},
        "FunctionArn": home.function_arn(version.function, qualifier),
        "FunctionName": version.function,
        "Handler": version.handler,
        "LastModified": moment(version.modified_ms),
        "LastUpdateStatus": "Successful",
        "Layers": [{"Arn": arn, "CodeSize": 0} for arn in more.get("Layers", ())],
        "LoggingConfig": _logging_written(version),
        "MemorySize": version.memory_mb,
        "PackageType": "Zip",
        "RevisionId": version.revision_id,
        "Role": version.role,
        "Runtime": version.runtime,
        "SnapStart": {"ApplyOn": "None", **more.get("SnapStart", {}), "OptimizationStatus": "Off"},
        "State": str(version.state),
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "TenancyConfig": {"TenantIsolationMode": "PER_TENANT"} if version.is_tenant_isolated else None,
        "Timeout": version.timeout_s,
        "TracingConfig": {"Mode": "PassThrough", **more.get("TracingConfig", {})},
        "Version": version.version,
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": [], **more.get("VpcConfig", {}), "VpcId": ""},
    }
    return {name: value for name, value in answer.items() if value is not None}


def _durable_written(version: FunctionVersion) -> Json | None:
    if version.durable is None:
        return None
    config: Json = {
        "ExecutionTimeout": version.durable.execution_timeout_s,
        "RetentionPeriodInDays": version.durable.retention_days,
    }
    if "DurableKMSKeyArn" in version.more:
        config["KMSKeyArn"] = version.more["DurableKMSKeyArn"]
    return config


def _logging_written(version: FunctionVersion) -> Json:
    config: Json = {"LogFormat": version.log_format, "LogGroup": f"/aws/lambda/{version.function}"}
    if version.log_format == "JSON":
        config.update(ApplicationLogLevel="INFO", SystemLogLevel="INFO")
    return {**config, **version.more.get("LoggingConfig", {})}


def moment(at_ms: int) -> str:
    """A time as functions have it: `2025-12-01T00:00:00.000+0000`."""
    seconds, thousandths = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{thousandths:03}+0000"
