"""What all operations of one invocation share."""

from typing import TYPE_CHECKING, Any, Final

from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.journal import Journal
from perdure.sdk.misuse import Guard

if TYPE_CHECKING:
    from perdure.config import RetryStrategy
    from perdure.logger import Logger
    from perdure.sdk.observer import Observer
    from perdure.serdes import SerDes

INLINE_BYTES_MAX: Final = 256 * 1024
"""A child's result over this is not stored: a replay makes it again (Lambda Developer Guide)."""


class Session:
    """One invocation, as its handler's side sees it. `start_ms` is when the execution began."""

    __slots__ = (
        "arn",
        "callback_serdes",
        "decisions",
        "default_retry",
        "default_serdes",
        "driver",
        "execution_id",
        "guard",
        "journal",
        "lambda_context",
        "logger",
        "observer",
        "start_ms",
    )

    def __init__(
        self,
        *,
        arn: str,
        execution_id: str,
        journal: Journal,
        driver: Driver,
        logger: "Logger",
        guard: Guard = Guard.ERROR,
        default_retry: "RetryStrategy | None" = None,
        default_serdes: "SerDes[Any] | None" = None,
        lambda_context: Any = None,
        start_ms: int = 0,
    ) -> None:
        self.arn = arn
        self.execution_id = execution_id
        self.journal = journal
        self.driver = driver
        self.logger = logger
        self.guard = guard
        self.default_retry = default_retry
        self.default_serdes = default_serdes
        self.callback_serdes: SerDes[Any] | None = None
        self.lambda_context = lambda_context
        self.start_ms = start_ms
        self.observer: Observer | None = None
        self.decisions: dict[str, int] = {}
