"""What the official testing package has, has a home here under the same module and name."""

import dataclasses
import importlib
import inspect

import pytest

OFFICIAL = "aws_durable_execution_sdk_python_testing"
NAMES = {
    "": "DurableChildContextTestRunner DurableFunctionCloudTestRunner DurableFunctionTestResult"
    " DurableFunctionTestRunner WebRunner WebRunnerConfig",
    ".runner": "CallbackOperation ContextOperation DurableChildContextTestRunner DurableFunctionCloudTestRunner"
    " DurableFunctionTestResult DurableFunctionTestRunner ExecutionOperation InvokeOperation Operation StepOperation"
    " WaitOperation WebRunner WebRunnerConfig",
    ".model": "CallbackFailedDetails CallbackStartedDetails CallbackSucceededDetails CallbackTimedOutDetails"
    " ChainedInvokeFailedDetails ChainedInvokeStartedDetails ChainedInvokeStoppedDetails ChainedInvokeSucceededDetails"
    " ChainedInvokeTimedOutDetails ContextFailedDetails ContextStartedDetails ContextSucceededDetails Event EventError"
    " EventInput EventResult ExecutionFailedDetails ExecutionStartedDetails ExecutionStoppedDetails"
    " ExecutionSucceededDetails ExecutionTimedOutDetails GetDurableExecutionHistoryResponse InvocationCompletedDetails"
    " RetryDetails StepFailedDetails StepStartedDetails StepSucceededDetails WaitCancelledDetails WaitStartedDetails"
    " WaitSucceededDetails",
    ".exceptions": "AwsApiException CallbackTimeoutException DurableFunctionsLocalRunnerError DurableFunctionsTestError"
    " ExecutionAlreadyStartedException ExecutionConflictException InvalidParameterValueException"
    " ResourceNotFoundException ServiceException TooManyRequestsException UnknownRouteError",
    ".execution": "ExecutionStatus",
    ".stores.base": "StoreType",
    ".stores.memory": "InMemoryExecutionStore",
    ".stores.sqlite": "SQLiteExecutionStore",
    ".stores.filesystem": "FileSystemExecutionStore",
    ".web.server": "WebServiceConfig",
    ".child_dispatcher": "FunctionConfig FunctionConfigs",
}
INNER = {"from_svc_operation", "lookup", "resolve"}
"""Methods that the official runners call themselves."""

CASES = [(module, name) for module, names in NAMES.items() for name in names.split()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "name"), CASES)
def test_an_official_name_is_here_with_its_fields_and_parameters(module: str, name: str) -> None:
    """[T1]"""
    theirs = getattr(importlib.import_module(OFFICIAL + module), name)
    ours = getattr(importlib.import_module("perdure.testing" + module), name)
    if dataclasses.is_dataclass(theirs):
        assert isinstance(theirs, type)
        fields = {field.name for field in dataclasses.fields(theirs)}
        missing = {field for field in fields if field not in _fields(ours) and not hasattr(ours, field)}
        assert missing == set()
    elif issubclass(theirs, Exception):
        assert issubclass(ours, Exception)
    elif hasattr(theirs, "__members__"):
        assert {str(each.value) for each in theirs} <= {str(each.value) for each in ours}
    for method, function in inspect.getmembers(theirs, inspect.isfunction):
        if not method.startswith("_") and method not in INNER and not name.endswith(("Store", "Exception")):
            assert hasattr(ours, method), method
            takes = set(inspect.signature(function).parameters)
            has = inspect.signature(getattr(ours, method)).parameters
            has_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in has.values())
            assert takes <= set(has) or has_any, (method, takes - set(has))


def _fields(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
