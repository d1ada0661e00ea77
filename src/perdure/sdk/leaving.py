"""The end of a context's function: nothing may be left that nobody has asked for."""

import logging
from typing import TYPE_CHECKING

from perdure.exceptions import ContextUsageError
from perdure.sdk.misuse import Guard

if TYPE_CHECKING:
    from perdure.sdk.scope import Scope
    from perdure.sdk.session import Session


def check_nothing_unused(session: "Session", scope: "Scope") -> None:
    """ContextUsageError if an operation was started, or called on an asynchronous context, and never asked for."""
    for promise in list(scope.unused or ()):
        file, line = promise.where
        text = (
            f"{promise.call}, called at {file}:{line}, was never awaited: {scope} ended without its outcome. Await it, "
            "ask for its result(), or cancel() it"
        )
        if session.guard is Guard.ERROR:
            raise ContextUsageError(text)
        if session.guard is Guard.WARN:
            logging.getLogger("perdure").warning(text)
