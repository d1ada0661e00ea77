"""What has to be done now and then, and is nobody's request."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from perdure.model.error import ServiceError

log: Final = logging.getLogger("perdure.server")

EVERY_S: Final = 60.0


class Chores:
    """Does each of `chores` once a minute, in a thread of its own."""

    def __init__(self, chores: Sequence[Callable[[], object]], every_s: float = EVERY_S) -> None:
        self._chores = tuple(chores)
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perdure-chores", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            for chore in self._chores:
                try:
                    chore()
                except ServiceError as error:
                    log.warning("a chore could not be done now", extra={"error": str(error)})
                except Exception:
                    log.exception("a chore met an error of its own")
