"""Routes that only the official local server has: SAM and the official test tools use them.

Source: aws-durable-execution-sdk-python-testing 1.4, routes of its web server; SAM CLI, client of an external emulator.
"""

from typing import Any, Final

import msgspec

from perdure.api.app import RawRequest, RawRoute
from perdure.api.backing import Backing
from perdure.api.executions import execution_marker, listed, ready
from perdure.model.error import InvalidParameterValue
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion, Host, endpoint_url
from perdure.model.ids import LATEST, FunctionReference
from perdure.service.starting import StartRequest
from perdure.store.protocol import Query
from perdure.wire.api import Message
from perdure.wire.table import Json

START_BYTES_MAX: Final = 40 * 1024 * 1024


def health(_backing: Backing, _request: RawRequest) -> Message:
    return ready({"status": "healthy"})


def start(backing: Backing, request: RawRequest) -> Message:
    """Begin an execution of a function that is registered here, or else that the endpoint knows."""
    given = _object(request.body)
    name, qualifier = _text(given, "FunctionName"), _text(given, "FunctionQualifier", LATEST)
    timeout_s = _whole(given, "ExecutionTimeoutSeconds", DurableConfig().execution_timeout_s)
    config = DurableConfig(timeout_s, _whole(given, "ExecutionRetentionPeriodDays", DurableConfig().retention_days))
    version = _version(backing, name, qualifier, given.get("LambdaEndpoint"))
    fields = given.get("TraceFields")
    trace = fields.get("XAmznTraceId") if isinstance(fields, dict) else None
    request_of_start = StartRequest(
        function=version.function,
        version=version.version,
        input=_text(given, "Input", "null"),
        name=_text(given, "ExecutionName", None),
        config=config,
        tenant_id=_text(given, "TenantId", None),
        trace_header=trace if isinstance(trace, str) else None,
    )
    (started,) = backing.service.start([request_of_start])
    return ready({"ExecutionArn": started.arn}, 201)


def _version(backing: Backing, name: str, qualifier: str, endpoint: Any) -> FunctionVersion:
    """The version to start. A function that nobody has registered is one of the endpoint's.

    SAM calls all functions by one name, and starts a container for each invoke: what has begun at an endpoint goes on
    there, on a version of its own.
    """
    reference = FunctionReference.parse(name)
    found = backing.registry.find(reference.name, LATEST)
    if found is not None and found.host is not Host.ENDPOINT:
        return backing.registry.resolve(reference, qualifier)
    if endpoint is not None and not isinstance(endpoint, str):
        raise InvalidParameterValue(f"LambdaEndpoint must be a URL, not {endpoint!r:.80}")
    url = endpoint_url(endpoint) if endpoint else backing.lambda_endpoint
    if url is None:
        return backing.registry.resolve(reference, qualifier)
    version = FunctionVersion(
        function=reference.name,
        host=Host.ENDPOINT,
        durable=DurableConfig(),
        endpoint=url,
        timeout_s=backing.endpoint_timeout_s,
    )
    return backing.registry.register_endpoint(version)


def list_all(backing: Backing, request: RawRequest) -> Message:
    after = dict(request.query).get("Marker") or None
    return listed(backing, Query(now_ms=backing.service.clock.now_ms(), after=execution_marker(after)))


def lambda_endpoint(backing: Backing, request: RawRequest) -> Message:
    """Say where functions are that nobody has registered."""
    given = _object(request.body)
    region = _text(given, "RegionName", backing.home.region)
    if region != backing.home.region:
        raise InvalidParameterValue(
            f"RegionName must be {backing.home.region}, the region of this server, not {region}"
        )
    backing.lambda_endpoint = endpoint_url(_text(given, "EndpointUrl"))
    return ready({"message": f"functions are invoked at {backing.lambda_endpoint}"})


def _object(body: bytes) -> Json:
    try:
        value = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameterValue(f"the request's body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidParameterValue(f"the request's body must be a JSON object, not {value!r:.80}")
    return value


_NEEDED: Final = object()


def _text(given: Json, name: str, default: Any = _NEEDED) -> Any:
    value = given.get(name)
    if value is None:
        if default is _NEEDED:
            raise InvalidParameterValue(f"{name} is missing")
        return default
    if not isinstance(value, str):
        raise InvalidParameterValue(f"{name} must be a text, not {value!r:.80}")
    return value


def _whole(given: Json, name: str, default: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidParameterValue(f"{name} must be a whole number, not {value!r:.80}")
    return value


ROUTES: Final = (
    RawRoute(method="GET", path="/health", handler=health, action="perdure:Health", is_open=True),
    RawRoute(
        method="POST",
        path="/start-durable-execution",
        handler=start,
        action="lambda:InvokeFunction",
        body_bytes_max=START_BYTES_MAX,
    ),
    RawRoute(
        method="GET",
        path="/2025-12-01/durable-executions",
        handler=list_all,
        action="lambda:ListDurableExecutionsByFunction",
    ),
    RawRoute(
        method="PUT",
        path="/lambda-endpoint",
        handler=lambda_endpoint,
        action="perdure:UpdateLambdaEndpoint",
        is_audited=True,
    ),
)
