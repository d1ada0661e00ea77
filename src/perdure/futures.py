"""Operations that are not waited for at once: what a call on an asynchronous context, or on `context.start`, gives."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from perdure.exceptions import InvalidStateError, SuspendExecution
from perdure.sdk.journal import Begun
from perdure.sdk.promises import Promise

if TYPE_CHECKING:
    from perdure.sdk.drivers.loop import LoopDriver

T = TypeVar("T")

__all__ = ["AsyncDurableFuture", "DurableFuture", "Settled"]
