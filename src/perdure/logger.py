"""The logger of a context: silent while what it would say has been said before, and saying where it is.

Records go to the root logger of the standard library unless `set_logger` gave another. They carry `executionArn`, in a
child context `parentId`, in steps and checks `operationId`, `operationName` and `attempt`; what the caller gives in
`extra` wins.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from perdure.types import LoggerInterface

__all__ = ["Logger", "LoggerInterface"]  # pyright: ignore[reportUnsupportedDunderAll]

_FRAMES: Final = 3
"""From the caller of `info` to the logger's own `_log`: the record names the line of the author."""


class Logger:
    """A logger of a context or a body. `is_replaying` says whether records are dropped now.

    What a record carries is put together when there is one: most bodies never log.
    """

    __slots__ = ("_extra", "_is_replaying", "_logger", "_outer")

    def __init__(
        self,
        logger: "LoggerInterface | None",
        extra: Mapping[str, object],
        is_replaying: Callable[[], bool] | None = None,
        outer: "Logger | None" = None,
    ) -> None:
        self._logger = logger
        self._extra = extra
        self._is_replaying = is_replaying
        self._outer = outer

    def get_logger(self) -> "LoggerInterface":
        """The logger that the records go to."""
        return self._logger if self._logger is not None else logging.getLogger()

    def with_extra(self, extra: Mapping[str, object], is_replaying: Callable[[], bool] | None = None) -> "Logger":
        """The same logger with more to say of where it is."""
        return Logger(self._logger, extra, is_replaying, self)

    def with_logger(self, logger: "LoggerInterface") -> "Logger":
        """Another logger that says the same of where it is."""
        return Logger(logger, self._extra, self._is_replaying, self._outer)

    def _all_extra(self) -> dict[str, object]:
        return {**self._outer._all_extra(), **self._extra} if self._outer is not None else dict(self._extra)

    def debug(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.DEBUG, "debug", msg, args, extra)

    def info(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.INFO, "info", msg, args, extra)

    def warning(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.WARNING, "warning", msg, args, extra)

    def error(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.ERROR, "error", msg, args, extra)

    def exception(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.ERROR, "exception", msg, args, extra)

    def log(self, level: int, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(level, logging.getLevelName(level).lower(), msg, args, extra)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name it has in the standard library
        """Whether a record of this level would go anywhere now."""
        if self._is_replaying is not None and self._is_replaying():
            return False
        logger = self.get_logger()
        return logger.isEnabledFor(level) if isinstance(logger, logging.Logger) else True

    def _log(
        self, level: int, method: str, msg: object, args: tuple[object, ...], extra: Mapping[str, object] | None
    ) -> None:
        if not self.isEnabledFor(level):
            return
        merged = {**self._all_extra(), **(extra or {})}
        logger = self.get_logger()
        if isinstance(logger, logging.Logger):
            logger.log(level, msg, *args, extra=merged, exc_info=method == "exception", stacklevel=_FRAMES)
            return
        say: Any = getattr(logger, method, logger.info)
        say(msg, *args, extra=merged)


def __getattr__(name: str) -> Any:
    """`LoggerInterface`, which lives in `perdure.types`, under the name that it has here."""
    if name == "LoggerInterface":
        from perdure.types import LoggerInterface

        return LoggerInterface
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
