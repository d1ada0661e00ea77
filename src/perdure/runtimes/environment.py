"""The environment variables of a function's process: those of its configuration, and those that Lambda reserves.

Nothing of the server's own environment is passed on but PATH, which finds interpreters and tools.

Source: Lambda Developer Guide, "Defined runtime environment variables".
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from perdure.model.function import FunctionVersion
from perdure.model.ids import Home

PROVIDED = "provided"


class Place(msgspec.Struct, frozen=True):
    """Where a sandbox lives: its id, the unpacked package, a folder for temporary files, its Runtime API's port."""

    sandbox: str
    root: Path
    temp: Path
    port: int
    now_ms: int


def variables(
    version: FunctionVersion, place: Place, home: Home, credentials: Mapping[str, str], endpoint: str | None
) -> dict[str, str]:
    """All variables. `credentials` are those of the function's role; `endpoint` is the URL of the service."""
    day = datetime.fromtimestamp(place.now_ms // 1000, UTC)
    temp, root = str(place.temp), str(place.root)
    runtime = version.runtime or PROVIDED
    logging = version.more.get("LoggingConfig")
    logging = logging if isinstance(logging, Mapping) else {}
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "HOME": temp,
        "TMPDIR": temp,
        "LD_LIBRARY_PATH": f"{root}:{root}/lib",
        **version.environment,
        **credentials,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{place.port}",
        "AWS_LAMBDA_FUNCTION_NAME": version.function,
        "AWS_LAMBDA_FUNCTION_VERSION": version.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": str(logging.get("LogGroup") or f"/aws/lambda/{version.function}"),
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{day:%Y/%m/%d}/[{version.version}]{place.sandbox}",
        "AWS_LAMBDA_LOG_FORMAT": version.log_format,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": home.region,
        "AWS_DEFAULT_REGION": home.region,
        "LAMBDA_TASK_ROOT": root,
        "LAMBDA_RUNTIME_DIR": str(Path(__file__).parent),
        "_HANDLER": version.handler or "",
        "PERDURE_SANDBOX": place.sandbox,
    }
    if not runtime.startswith(PROVIDED):
        found["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{runtime}"
    if version.log_format == "JSON":
        found["AWS_LAMBDA_LOG_LEVEL"] = str(logging.get("ApplicationLogLevel") or "INFO")
    if endpoint is not None:
        found["AWS_ENDPOINT_URL_LAMBDA"] = endpoint
        found["PERDURE_ENDPOINT"] = endpoint  # Perdure's SDK needs no boto3 for it
    return found
