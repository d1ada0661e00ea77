"""What durable functions say while they are tested: every record, by execution."""

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.execution import definition_of

Logs = defaultdict[str, list[logging.LogRecord]]
"""By ARN."""


class Capturing(logging.Logger):
    """Keeps every record, whatever its level, and passes it on to the logger in whose place it stands."""

    def __init__(self, target: Any, logs: Logs) -> None:
        super().__init__(getattr(target, "name", "root"), logging.DEBUG)
        self._target = target
        self._logs = logs

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name it has in the standard library
        return True

    def handle(self, record: logging.LogRecord) -> None:
        self._logs[getattr(record, "executionArn", "")].append(record)
        target = self._target if self._target is not None else logging.getLogger()
        if isinstance(target, logging.Logger):
            if target.isEnabledFor(record.levelno):
                target.handle(record)
            return
        say = getattr(target, record.levelname.lower(), target.info)
        known = vars(logging.makeLogRecord({}))
        extra = {name: value for name, value in vars(record).items() if name not in known}
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        say(record.msg, *args, extra=extra)


class _Listened:
    """A durable function whose records are kept."""

    def __init__(self, handler: Callable[..., Any], definition: Any) -> None:
        self._handler = handler
        self.__perdure__ = definition

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler(*args, **kwargs)


def listened(handler: Callable[..., Any], logs: Logs) -> Callable[..., Any]:
    """The same durable function; what it says to its contexts' loggers is kept in `logs`."""
    definition = definition_of(handler)
    if definition is None:
        return handler
    heard: Any = Capturing(definition.logger, logs)
    return _Listened(handler, msgspec.structs.replace(definition, logger=heard))
