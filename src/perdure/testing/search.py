"""Finding operations: by name at one level, by path beneath it, by what they are."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from perdure.exceptions import qualified_name
from perdure.lambda_service import OperationStatus, OperationType
from perdure.testing import paths
from perdure.testing.exceptions import AmbiguousOperation, WrongOperationType, not_found

if TYPE_CHECKING:
    from perdure.testing.operations import (
        CallbackOperation,
        ContextOperation,
        ExecutionOperation,
        InvokeOperation,
        Operation,
        StepOperation,
        WaitOperation,
    )

_KINDS: Final = {
    OperationType.EXECUTION: ("an execution", "get_execution"),
    OperationType.CONTEXT: ("a context", "get_context"),
    OperationType.STEP: ("a step", "get_step"),
    OperationType.WAIT: ("a wait", "get_wait"),
    OperationType.CALLBACK: ("a callback", "get_callback"),
    OperationType.CHAINED_INVOKE: ("an invoke", "get_invoke"),
}


def _children(operation: "Operation") -> "Sequence[Operation]":
    return operation.children


def _name(operation: "Operation") -> str:
    return operation.display_name


class Search:
    """The accessors of results and contexts."""

    def _roots(self) -> "list[Operation]":
        raise NotImplementedError

    def _walk(self) -> "list[Operation]":
        return list(paths.walk(self._roots(), _children))

    # --- by path -------------------------------------------------------------------------------------------------

    def op(self, path: str) -> "Operation":
        """The one operation that a path means: `"order/charge[1]"`, `"**/refund"`.

        Raises OperationNotFound, which names near ones, and AmbiguousOperation if there are several.
        """
        found = self.ops(path)
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(each.path for each in found[:8]) + (", …" if len(found) > 8 else "")
            raise AmbiguousOperation(f"{len(found)} operations are at {path!r}: {listed}; say which, or use ops()")
        return self._refuse(path)

    def ops(self, glob: str) -> "list[Operation]":
        """All operations that a path means, in document order: `"orders/*[2]/**"`. [] if there are none."""
        return paths.select(self._roots(), glob, name=_name, children=_children)

    def _refuse(self, path: str) -> NoReturn:
        everything = self._walk()
        last = path.rpartition("/")[2].partition("[")[0]
        elsewhere = [each.path for each in everything if each.display_name == last]
        relative = [each.path for each in everything]
        raise not_found("Operation at", path, relative, paths=elsewhere)

    # --- by what they are ----------------------------------------------------------------------------------------

    def find(self, **filters: Any) -> "list[Operation]":
        """The operations, at any depth and in document order, of which all filters hold.

        `name`, `type`, `sub_type`, `status` (of one value or of a set, list or tuple of them), `path` (a glob),
        `error` (an error's type, as a class or a name), `where` (a function of the operation). TypeError for others.
        """
        unknown = [each for each in filters if each not in _FILTERS and each != "path"]
        if unknown:
            raise TypeError(f"find() has no filter {unknown[0]!r}; there are: {', '.join([*_FILTERS, 'path'])}")
        among = self.ops(filters.pop("path")) if "path" in filters else self._walk()
        return [each for each in among if all(_FILTERS[key](each, wanted) for key, wanted in filters.items())]

    def by_status(self, *statuses: "OperationStatus | str") -> "list[Operation]":
        """The operations, at any depth, that have one of these statuses."""
        return self.find(status=[OperationStatus(status) for status in statuses])

    # --- as officially: by name, at this level ---------------------------------------------------------------------

    def get_operation_by_name(self, name: str) -> "Operation":
        """The first operation with this name at this level. OperationNotFound names near ones and other levels."""
        roots = self._roots()
        for found in roots:
            if found.name == name:
                return found
        deeper = [found.path for found in self._walk() if found.name == name]
        raise not_found("Operation with name", name, (root.display_name for root in roots), paths=deeper)

    def get_step(self, name: str) -> "StepOperation":
        return cast("StepOperation", self._get(OperationType.STEP, name))

    def get_wait(self, name: str) -> "WaitOperation":
        return cast("WaitOperation", self._get(OperationType.WAIT, name))

    def get_context(self, name: str) -> "ContextOperation":
        return cast("ContextOperation", self._get(OperationType.CONTEXT, name))

    def get_callback(self, name: str) -> "CallbackOperation":
        return cast("CallbackOperation", self._get(OperationType.CALLBACK, name))

    def get_invoke(self, name: str) -> "InvokeOperation":
        return cast("InvokeOperation", self._get(OperationType.CHAINED_INVOKE, name))

    def get_execution(self, name: str) -> "ExecutionOperation":
        return cast("ExecutionOperation", self._get(OperationType.EXECUTION, name))

    def _get(self, wanted: OperationType, name: str) -> "Operation":
        found = self.get_operation_by_name(name)
        if found.operation_type is not wanted:
            what, getter = _KINDS[found.operation_type]
            raise WrongOperationType(f"{name!r} is {what}, not {_KINDS[wanted][0]}: use {getter}({name!r})")
        return found


def _is_or_in(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, (set, frozenset, list, tuple)):
        return found in wanted
    return bool(found == wanted)


def _has_error(operation: "Operation", wanted: Any) -> bool:
    error = getattr(operation, "error", None)
    if error is None or error.type is None:
        return False
    name = wanted if isinstance(wanted, str) else qualified_name(wanted)
    return name in (error.type, error.type.rpartition(".")[2])


_FILTERS: Final[dict[str, "Callable[[Operation, Any], bool]"]] = {
    "name": lambda operation, wanted: _is_or_in(operation.name, wanted),
    "type": lambda operation, wanted: _is_or_in(operation.operation_type, wanted),
    "sub_type": lambda operation, wanted: _is_or_in(operation.sub_type, wanted),
    "status": lambda operation, wanted: _is_or_in(operation.status, wanted),
    "error": _has_error,
    "where": lambda operation, wanted: bool(wanted(operation)),
}
