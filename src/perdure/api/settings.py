"""What is set on functions beside their versions: asynchronous invokes and concurrency; and what the account has.

Source: Lambda API 2015-03-31.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from perdure.api.backing import Backing
from perdure.api.naming import after_of, limit_of, page, qualified, unqualified
from perdure.api.request import Handler, Request
from perdure.model.error import InvalidParameterValue, ResourceNotFound
from perdure.model.function import EventInvokeConfig, Function
from perdure.model.ids import LATEST
from perdure.wire.table import Json

CONCURRENCY: Final = 1_000
"""What the account is said to have at once: AWS's default. Here it bounds nothing; the places of the server do."""
CODE_BYTES_MAX: Final = 75 * 1024**3
ZIPPED_BYTES_MAX: Final = 50 * 1024**2
UNZIPPED_BYTES_MAX: Final = 250 * 1024**2


# --- asynchronous invokes --------------------------------------------------------------------------------------------


def put_event_invoke(backing: Backing, request: Request) -> Json:
    return _set_event_invoke(backing, request.parameters, lambda _found: EventInvokeConfig())


def update_event_invoke(backing: Backing, request: Request) -> Json:
    def existing(found: EventInvokeConfig | None) -> EventInvokeConfig:
        if found is None:
            raise _no_event_invoke(request.parameters)
        return found

    return _set_event_invoke(backing, request.parameters, existing)


def _set_event_invoke(
    backing: Backing, given: Json, begin_with: Callable[[EventInvokeConfig | None], EventInvokeConfig]
) -> Json:
    name, qualifier = _event_invoke_place(backing, given)
    now_ms = backing.service.clock.now_ms()

    def change(function: Function) -> Function:
        before = begin_with(function.event_invokes.get(qualifier))
        config = replace(
            before,
            retries_max=given.get("MaximumRetryAttempts", before.retries_max),
            age_max_s=given.get("MaximumEventAgeInSeconds", before.age_max_s),
            destinations=given.get("DestinationConfig", before.destinations),
            modified_ms=now_ms,
        )
        return replace(function, event_invokes={**function.event_invokes, qualifier: config})

    function = backing.registry.update_function(name, change)
    return _event_invoke_written(backing, name, qualifier, function.event_invokes[qualifier])


def get_event_invoke(backing: Backing, request: Request) -> Json:
    name, qualifier = _event_invoke_place(backing, request.parameters)
    config = backing.registry.function(name).event_invokes.get(qualifier)
    if config is None:
        raise _no_event_invoke(request.parameters)
    return _event_invoke_written(backing, name, qualifier, config)


def delete_event_invoke(backing: Backing, request: Request) -> Json:
    name, qualifier = _event_invoke_place(backing, request.parameters)

    def change(function: Function) -> Function:
        if qualifier not in function.event_invokes:
            raise _no_event_invoke(request.parameters)
        rest = {key: value for key, value in function.event_invokes.items() if key != qualifier}
        return replace(function, event_invokes=rest)

    backing.registry.update_function(name, change)
    return {}


def list_event_invokes(backing: Backing, request: Request) -> Json:
    given = request.parameters
    name, after = unqualified(backing, given), after_of(given) or ""
    found = [item for item in sorted(backing.registry.function(name).event_invokes.items()) if item[0] > after]
    answer = page("FunctionEventInvokeConfigs", found, limit_of(given), lambda item: item[0])
    answer["FunctionEventInvokeConfigs"] = [
        _event_invoke_written(backing, name, *item) for item in answer["FunctionEventInvokeConfigs"]
    ]
    return answer


def _event_invoke_place(backing: Backing, given: Json) -> tuple[str, str]:
    """The function, and the version or alias, that a setting is for; it must exist."""
    name, qualifier = qualified(backing, given)
    backing.registry.get(name, qualifier)
    return name, qualifier or LATEST


def _no_event_invoke(given: Json) -> ResourceNotFound:
    return ResourceNotFound(f"nothing is set for asynchronous invokes of {given['FunctionName']:.200}")


def _event_invoke_written(backing: Backing, name: str, qualifier: str, config: EventInvokeConfig) -> Json:
    answer: Json = {
        "LastModified": config.modified_ms,
        "FunctionArn": backing.home.function_arn(name, qualifier),
        "MaximumRetryAttempts": config.retries_max,
        "MaximumEventAgeInSeconds": config.age_max_s,
        "DestinationConfig": config.destinations or {"OnSuccess": {}, "OnFailure": {}},
    }
    return {key: value for key, value in answer.items() if value is not None}


# --- concurrency -----------------------------------------------------------------------------------------------------


def put_concurrency(backing: Backing, request: Request) -> Json:
    given = request.parameters
    reserved = given["ReservedConcurrentExecutions"]
    backing.registry.update_function(
        unqualified(backing, given), lambda function: replace(function, concurrency=reserved)
    )
    return {"ReservedConcurrentExecutions": reserved}


def get_concurrency(backing: Backing, request: Request) -> Json:
    reserved = backing.registry.function(unqualified(backing, request.parameters)).concurrency
    return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}


def delete_concurrency(backing: Backing, request: Request) -> Json:
    name = unqualified(backing, request.parameters)
    backing.registry.update_function(name, lambda function: replace(function, concurrency=None))
    return {}


# --- the account -----------------------------------------------------------------------------------------------------


def account_settings(backing: Backing, _request: Request) -> Json:
    functions = [deployed.function for deployed in backing.registry.functions()]
    reserved = sum(function.concurrency or 0 for function in functions)
    return {
        "AccountLimit": {
            "TotalCodeSize": CODE_BYTES_MAX,
            "CodeSizeUnzipped": UNZIPPED_BYTES_MAX,
            "CodeSizeZipped": ZIPPED_BYTES_MAX,
            "ConcurrentExecutions": CONCURRENCY,
            "UnreservedConcurrentExecutions": max(CONCURRENCY - reserved, 0),
        },
        "AccountUsage": {"TotalCodeSize": backing.registry.code_bytes(), "FunctionCount": len(functions)},
    }


# --- event sources ---------------------------------------------------------------------------------------------------


def no_event_source(_backing: Backing, _request: Request) -> Json:
    raise InvalidParameterValue(
        "Perdure has no event sources: it reads no queues and no streams",
        hint="have whoever reads the source call Invoke, with an execution name made of the message's id",
    )


def unknown_mapping(_backing: Backing, request: Request) -> Json:
    raise ResourceNotFound(
        f"there is no event source mapping {request.parameters['UUID']:.40}", hint="Perdure has no event sources"
    )


def list_mappings(_backing: Backing, _request: Request) -> Json:
    return {"EventSourceMappings": []}


OPERATIONS: Final[dict[str, Handler]] = {
    "CreateEventSourceMapping": no_event_source,
    "DeleteEventSourceMapping": unknown_mapping,
    "DeleteFunctionConcurrency": delete_concurrency,
    "DeleteFunctionEventInvokeConfig": delete_event_invoke,
    "GetAccountSettings": account_settings,
    "GetEventSourceMapping": unknown_mapping,
    "GetFunctionConcurrency": get_concurrency,
    "GetFunctionEventInvokeConfig": get_event_invoke,
    "ListEventSourceMappings": list_mappings,
    "ListFunctionEventInvokeConfigs": list_event_invokes,
    "PutFunctionConcurrency": put_concurrency,
    "PutFunctionEventInvokeConfig": put_event_invoke,
    "UpdateEventSourceMapping": unknown_mapping,
    "UpdateFunctionEventInvokeConfig": update_event_invoke,
}
