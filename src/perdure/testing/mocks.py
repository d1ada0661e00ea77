"""Bodies that a test puts in the place of a step's own: what they return, and how often they ran."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

UNSET: Final[Any] = object()


class MockCall:
    """One call of a replaced body: of which operation, in which attempt, with what arguments, where they are known."""

    __slots__ = ("args", "attempt", "kwargs", "operation_id")

    def __init__(self, operation_id: str, attempt: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.operation_id = operation_id
        self.attempt = attempt
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return f"<attempt {self.attempt} of {self.operation_id} with {self.args} {self.kwargs}>"


class Mock:
    """What runs in the place of the bodies that `path` means. The operation is recorded as ever."""

    def __init__(self, path: str, *, returns: Any = UNSET, side_effect: Any = None, wraps: Any = None) -> None:
        given = [returns is not UNSET, side_effect is not None, wraps is not None]
        if sum(given) > 1:
            raise ValueError(f"the mock of {path!r} can have one of returns, side_effect and wraps, not several")
        self.path = path
        self.calls: list[MockCall] = []
        self._returns = None if returns is UNSET else returns
        self._side_effect = side_effect
        self._wraps = wraps
        self._lock = threading.Lock()
        self._values: Iterator[Any] | None = None
        if side_effect is not None and not callable(side_effect) and isinstance(side_effect, Iterable):
            self._values = iter(side_effect)

    def __repr__(self) -> str:
        return f"<mock of {self.path!r}, called {self.call_count} times>"

    def again(self) -> "Mock":
        """The same mock, not called yet."""
        returns = UNSET if self._side_effect is not None or self._wraps is not None else self._returns
        return Mock(self.path, returns=returns, side_effect=self._side_effect, wraps=self._wraps)

    @property
    def call_count(self) -> int:
        """How often a replaced body ran."""
        return len(self.calls)

    @property
    def attempts(self) -> int:
        """How many attempts that were: a body that runs again after a crash is in the same attempt."""
        return len({(call.operation_id, call.attempt) for call in self.calls})

    def assert_called(self) -> None:
        if not self.calls:
            raise AssertionError(f"the body of {self.path!r} never ran")

    def assert_not_called(self) -> None:
        if self.calls:
            raise AssertionError(f"the body of {self.path!r} ran {self.call_count} times")

    def assert_called_once(self) -> None:
        if self.call_count != 1:
            raise AssertionError(f"the body of {self.path!r} ran {self.call_count} times, not once")

    def body(
        self, operation_id: str, attempt: int, body: Callable[[], Any], function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], Callable[..., Any]]:
        """What runs in the place of a body, and the function that it is."""
        args, kwargs = getattr(function, "_arguments", ((), {}))
        call = MockCall(operation_id, attempt, args, kwargs)

        def run() -> Any:
            with self._lock:
                self.calls.append(call)
            if self._wraps is None:
                return self._outcome(args, kwargs)
            return body() if self._wraps is True else self._wraps(body)

        return run, function if self._wraps is True else self._function()

    def _function(self) -> Callable[..., Any]:
        for given in (self._side_effect, self._wraps):
            if callable(given) and not isinstance(given, type):
                return cast("Callable[..., Any]", given)
        return _nothing

    def _outcome(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        effect = self._side_effect
        if effect is None:
            return self._returns
        if self._values is not None:
            with self._lock:
                effect = next(self._values, UNSET)
            if effect is UNSET:
                raise AssertionError(f"the mock of {self.path!r} has no value for call {self.call_count}")
            if not _is_error(effect):
                return effect
        if _is_error(effect):
            raise effect
        return effect(*args, **kwargs) if callable(effect) else effect


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def _nothing() -> None:
    """The function of a mock that has none of the author's."""
