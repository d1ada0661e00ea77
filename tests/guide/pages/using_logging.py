# mypy: ignore-errors
"""Logging: said once, although the code runs again, with where it was said."""

from aws_durable_execution_sdk_python import DurableContext, StepContext, durable_execution, durable_step
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.logger import Logger, LoggerInterface


class Book:
    """A logger of one's own."""

    def __init__(self):
        self.lines = []

    def _say(self, level, msg, args, extra):
        self.lines.append((level, str(msg) % args if args else str(msg), dict(extra or {})))

    def debug(self, msg, *args, extra=None):
        self._say("debug", msg, args, extra)

    def info(self, msg, *args, extra=None):
        self._say("info", msg, args, extra)

    def warning(self, msg, *args, extra=None):
        self._say("warning", msg, args, extra)

    def error(self, msg, *args, extra=None):
        self._say("error", msg, args, extra)

    def exception(self, msg, *args, extra=None):
        self._say("exception", msg, args, extra)


book: LoggerInterface = Book()
assert Logger


@durable_step
def pack(step: StepContext, what: str) -> str:
    step.logger.info("packing %s", what)
    return what


@durable_execution
def parcel(event: dict, context: DurableContext) -> str:
    context.set_logger(book)
    context.logger.info("began", extra={"order": 7})
    packed = context.step(pack("tea"))

    def child(inner):
        inner.logger.warning("in the child")
        return inner.step(lambda _: 1, name="count")

    context.run_in_child_context(child, name="shelf")
    context.wait(Duration.from_minutes(1))
    context.logger.info("after the wait")
    context.step(lambda step: step.logger.error("last"), name="last")
    return packed
