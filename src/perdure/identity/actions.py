"""Which action and which resource an operation is checked against, and whether it is put on record.

Source: Service Authorization Reference, AWS Lambda; and for durable executions, the resource types of their actions.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from perdure.model.ids import FunctionReference, Home

Parameters = Mapping[str, Any]
ANY: Final = "*"


class Need(msgspec.Struct, frozen=True):
    """What a caller must be allowed: an action on a resource. `is_audited` says that it goes on record."""

    action: str
    resource: str
    is_audited: bool


class _Rule(msgspec.Struct, frozen=True):
    resource: Callable[[Home, Parameters], str]
    is_audited: bool = False
    action: str | None = None


def _execution(_home: Home, parameters: Parameters) -> str:
    return str(parameters["DurableExecutionArn"])


def _owner(_home: Home, _parameters: Parameters) -> str:
    """Callbacks say in their id, and not in their name, whose they are: the caller of `need_of` knows."""
    raise AssertionError("the execution of a callback must be given")


def _qualified(home: Home, parameters: Parameters) -> str:
    """The function with the qualifier that was used."""
    reference = FunctionReference.parse(parameters["FunctionName"])
    return _arn(home, reference, reference.qualifier or parameters.get("Qualifier"))


def _function(home: Home, parameters: Parameters) -> str:
    """The function as a whole."""
    return _arn(home, FunctionReference.parse(parameters["FunctionName"]), None)


def _arn(home: Home, reference: FunctionReference, qualifier: str | None) -> str:
    there = Home(home.partition, reference.region or home.region, reference.account or home.account)
    return there.function_arn(reference.name, qualifier)


def _tagged(_home: Home, parameters: Parameters) -> str:
    return str(parameters["Resource"])


def _mapping(home: Home, parameters: Parameters) -> str:
    return f"arn:{home.partition}:lambda:{home.region}:{home.account}:event-source-mapping:{parameters['UUID']}"


def _everything(_home: Home, _parameters: Parameters) -> str:
    return ANY


_RULES: Final[dict[str, _Rule]] = {
    "CheckpointDurableExecution": _Rule(_execution),
    "GetDurableExecutionState": _Rule(_execution),
    "GetDurableExecution": _Rule(_execution),
    "GetDurableExecutionHistory": _Rule(_execution),
    "StopDurableExecution": _Rule(_execution, is_audited=True),
    "PauseDurableExecution": _Rule(_execution, is_audited=True),
    "ResumeDurableExecution": _Rule(_execution, is_audited=True),
    "DeleteDurableExecution": _Rule(_execution, is_audited=True),
    "SendDurableExecutionCallbackSuccess": _Rule(_owner, is_audited=True),
    "SendDurableExecutionCallbackFailure": _Rule(_owner, is_audited=True),
    "SendDurableExecutionCallbackHeartbeat": _Rule(_owner),
    "ListDurableExecutionsByFunction": _Rule(_function),
    "Invoke": _Rule(_qualified, is_audited=True, action="lambda:InvokeFunction"),
    "InvokeAsync": _Rule(_qualified, is_audited=True, action="lambda:InvokeFunction"),
    "InvokeWithResponseStream": _Rule(_qualified, is_audited=True, action="lambda:InvokeFunction"),
    "CreateFunction": _Rule(_function, is_audited=True),
    "GetFunction": _Rule(_qualified),
    "GetFunctionConfiguration": _Rule(_qualified),
    "UpdateFunctionConfiguration": _Rule(_function, is_audited=True),
    "UpdateFunctionCode": _Rule(_function, is_audited=True),
    "DeleteFunction": _Rule(_qualified, is_audited=True),
    "ListFunctions": _Rule(_everything),
    "PublishVersion": _Rule(_function, is_audited=True),
    "ListVersionsByFunction": _Rule(_function),
    "CreateAlias": _Rule(_function, is_audited=True),
    "GetAlias": _Rule(_function),
    "UpdateAlias": _Rule(_function, is_audited=True),
    "DeleteAlias": _Rule(_function, is_audited=True),
    "ListAliases": _Rule(_function),
    "AddPermission": _Rule(_qualified, is_audited=True),
    "GetPolicy": _Rule(_qualified),
    "RemovePermission": _Rule(_qualified, is_audited=True),
    "PutFunctionConcurrency": _Rule(_function, is_audited=True),
    "GetFunctionConcurrency": _Rule(_function),
    "DeleteFunctionConcurrency": _Rule(_function, is_audited=True),
    "PutFunctionEventInvokeConfig": _Rule(_qualified, is_audited=True),
    "UpdateFunctionEventInvokeConfig": _Rule(_qualified, is_audited=True),
    "GetFunctionEventInvokeConfig": _Rule(_qualified),
    "DeleteFunctionEventInvokeConfig": _Rule(_qualified, is_audited=True),
    "ListFunctionEventInvokeConfigs": _Rule(_function),
    "TagResource": _Rule(_tagged, is_audited=True),
    "UntagResource": _Rule(_tagged, is_audited=True),
    "ListTags": _Rule(_tagged),
    "GetAccountSettings": _Rule(_everything),
    "CreateEventSourceMapping": _Rule(_everything, is_audited=True),
    "GetEventSourceMapping": _Rule(_mapping),
    "ListEventSourceMappings": _Rule(_everything),
    "UpdateEventSourceMapping": _Rule(_mapping, is_audited=True),
    "DeleteEventSourceMapping": _Rule(_mapping, is_audited=True),
}

OPERATIONS: Final = frozenset(_RULES)


def need_of(operation: str, parameters: Parameters, home: Home, *, execution_arn: str | None = None) -> Need:
    """What `operation` of the Lambda API needs. `execution_arn` is that of a callback's execution."""
    rule = _RULES[operation]
    resource = execution_arn if rule.resource is _owner and execution_arn else rule.resource(home, parameters)
    return Need(rule.action or f"lambda:{operation}", resource, rule.is_audited)


def need_of_own(name: str, *, resource: str = ANY, is_audited: bool = False) -> Need:
    """What a route of Perdure's own needs: `ListKeys` is `perdure:ListKeys`."""
    return Need(f"perdure:{name}", resource, is_audited)
