"""What the test kit raises: the official names of its errors, and more precise ones of its own beneath them."""

import builtins
import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from perdure.exceptions import DurableOperationError
from perdure.lambda_service import ErrorObject
from perdure.model import error as model

__all__ = [
    "AmbiguousOperation",
    "AwsApiException",
    "CallbackTimeoutException",
    "DurableFunctionsLocalRunnerError",
    "DurableFunctionsTestError",
    "ExecutionAlreadyStartedException",
    "ExecutionConflictException",
    "InvalidParameterValueException",
    "OperationNotFound",
    "RecordedError",
    "ResourceNotFoundException",
    "ServiceException",
    "TooManyRequestsException",
    "UnknownRouteError",
    "UnknownValue",
    "WrongOperationType",
]

# What the service raises reaches tests as it is; these are the official names of it.
DurableFunctionsLocalRunnerError = AwsApiException = ServiceException = model.ServiceError
InvalidParameterValueException = model.InvalidParameterValue
ResourceNotFoundException = model.ResourceNotFound
ExecutionAlreadyStartedException = model.ExecutionAlreadyStarted
ExecutionConflictException = model.ResourceConflict
CallbackTimeoutException = model.CallbackTimeout
TooManyRequestsException = model.TooManyRequests
UnknownRouteError = model.UnknownOperation


class DurableFunctionsTestError(Exception):
    """The root of what the test kit raises."""


class OperationNotFound(DurableFunctionsTestError, LookupError):
    """No operation has the name or path that was asked for; the text says which there are, the nearest first."""


class AmbiguousOperation(DurableFunctionsTestError, LookupError):
    """A path that should name one operation names several; the text has their paths."""


class WrongOperationType(DurableFunctionsTestError, TypeError):
    """The operation is there, and is of another type than the accessor is for."""


class UnknownValue(DurableFunctionsTestError, ValueError):
    """An operation's result has no value here: it was not recorded, or nothing says how to read it."""


_SHOWN_MAX: Final = 12


def not_found(what: str, wanted: str, names: Iterable[str], *, paths: Sequence[str] = ()) -> OperationNotFound:
    """The error for a name that is not there. `paths` are those of operations that bear the name elsewhere."""
    from difflib import get_close_matches

    known = list(dict.fromkeys(names))
    near = get_close_matches(wanted, known, n=3, cutoff=0.5)
    if paths:
        hint = f"that name is at {_listed(paths)}"
    elif near:
        hint = f"did you mean {' or '.join(map(repr, near))}? There are: {_listed(known)}"
    else:
        hint = f"there are: {_listed(known)}" if known else "there are none"
    return OperationNotFound(f"{what} {wanted!r} not found; {hint}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_MAX
    return ", ".join(names[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


class RecordedError(ErrorObject):
    """An error as it is recorded, with a way back: `message`, `type`, `data`, `stack_trace` (outermost frame first)."""

    __hash__ = None  # type: ignore[assignment]  # as of a dataclass with a list in it

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ErrorObject):
            return NotImplemented
        mine = (self.message, self.type, self.data, self.stack_trace)
        return mine == (other.message, other.type, other.data, other.stack_trace)

    def __str__(self) -> str:
        return f"{self.type or 'Error'}: {self.message}" if self.message else (self.type or "an error without a text")

    def exception(self) -> Exception:
        """The exception that this records, of its own class if that can be imported and made from a text.

        Errors of the SDK have their fields. What can't be made is a `DurableOperationError` with the recorded type.
        The recorded stack is its note.
        """
        made = self._made()
        if self.stack_trace:
            made.add_note("recorded at:\n" + "\n".join(self.stack_trace))
        return made

    def _made(self) -> Exception:
        rebuilt = self.to_durable_operation_error()
        if type(rebuilt) is not DurableOperationError:
            return rebuilt
        kind = class_named(self.type or "")
        if kind is not None and issubclass(kind, Exception):
            try:
                made = kind(self.message) if self.message is not None else kind()
            except Exception:  # noqa: BLE001 - a class with a constructor of its own can't be made from a text
                return rebuilt
            return made if str(made) == (self.message or "") else rebuilt
        return rebuilt


def class_named(name: str) -> type | None:
    """The class with this qualified name; None if there is none. Modules that are not loaded are imported."""
    module, _, attribute = name.rpartition(".")
    if not module:
        found = getattr(builtins, name, None)
        return found if isinstance(found, type) else None
    try:
        home = sys.modules.get(module) or importlib.import_module(module)
    except Exception:  # noqa: BLE001 - whatever a module raises when it is imported, it has no class for us
        return None
    found = getattr(home, attribute, None)
    return found if isinstance(found, type) else None


def recorded(error: model.ErrorObject | None) -> RecordedError | None:
    """A model's error as tests see it."""
    if error is None:
        return None
    stack = list(error.stack_trace) if error.stack_trace else None
    return RecordedError(error.message, error.type, error.data, stack)
