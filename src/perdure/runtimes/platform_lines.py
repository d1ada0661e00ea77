"""What the platform itself writes into a function's log: the lines that tools for AWS Lambda look for.

Text and JSON, as the function's log format says. Source: Lambda Developer Guide, "Viewing CloudWatch logs".
"""

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.function import FunctionVersion

MIB = 1024 * 1024


def begun(version: FunctionVersion, request_id: str) -> str:
    """An invocation begins."""
    if version.log_format == "JSON":
        return _json("platform.start", {"requestId": request_id, "version": version.version})
    return f"START RequestId: {request_id} Version: {version.version}"


def initialized(version: FunctionVersion, duration_s: float) -> list[str]:
    """The function is loaded. In text, the report of the first invocation says so."""
    if version.log_format != "JSON":
        return []
    metrics = {"durationMs": _ms(duration_s)}
    return [_json("platform.initReport", {"initializationType": "on-demand", "phase": "init", "metrics": metrics})]


def failed_to_begin(version: FunctionVersion, duration_s: float, error: ErrorObject) -> str:
    """The function could not be loaded."""
    if version.log_format == "JSON":
        record = {
            "phase": "init",
            "status": "error",
            "errorType": error.type,
            "metrics": {"durationMs": _ms(duration_s)},
        }
        return _json("platform.initReport", record)
    return f"INIT_REPORT Init Duration: {_ms(duration_s):.2f} ms\tPhase: init\tStatus: error\tError Type: {error.type}"


def ended(
    version: FunctionVersion,
    request_id: str,
    *,
    duration_s: float,
    init_s: float | None,
    memory_bytes: int,
    error: ErrorObject | None,
) -> list[str]:
    """An invocation has ended: how long it took, what memory its process has held at most, and of what it failed."""
    duration_ms, used_mb = _ms(duration_s), memory_bytes // MIB
    billed_ms = max(1, math.ceil(duration_ms))
    status = "timeout" if error is not None and error.type == "Sandbox.Timedout" else "error"
    if version.log_format == "JSON":
        metrics: dict[str, Any] = {
            "durationMs": duration_ms,
            "billedDurationMs": billed_ms,
            "memorySizeMB": version.memory_mb,
            "maxMemoryUsedMB": used_mb,
        }
        if init_s is not None:
            metrics["initDurationMs"] = _ms(init_s)
        record: dict[str, Any] = {"requestId": request_id, "metrics": metrics, "status": "success"}
        if error is not None:
            record |= {"status": status, "errorType": error.type}
        return [_json("platform.report", record)]
    report = (
        f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms} ms\t"
        f"Memory Size: {version.memory_mb} MB\tMax Memory Used: {used_mb} MB"
    )
    if init_s is not None:
        report += f"\tInit Duration: {_ms(init_s):.2f} ms"
    if error is not None:
        report += f"\tStatus: {status}\tError Type: {error.type}"
    return [f"END RequestId: {request_id}", report]


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 3)


def _json(kind: str, record: dict[str, Any]) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"time": at, "type": kind, "record": record}).decode()
