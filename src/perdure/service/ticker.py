"""The thread that looks at what is due, when it is due."""

import logging
import threading
from typing import Final

from perdure.model.error import ServiceError
from perdure.service.service import Service

log: Final = logging.getLogger("perdure.service")

RETRY_S: Final = 1.0


class Ticker:
    """Calls `tick` of a service whenever something has come due, or could run and there may be a place for it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._is_stopped = False
        self._has_to_fill = False
        self._thread = threading.Thread(target=self._run, name="perdure-ticker", daemon=True)

    def start(self) -> None:
        self._service.fill_elsewhere(self._ask_to_fill)
        self._thread.start()

    def look(self) -> None:
        """Ask the service again when something is due, now."""
        with self._service.agenda.earlier:
            self._service.agenda.earlier.notify_all()

    def stop(self, timeout_s: float) -> None:
        """End the thread; it is waited for, unless it is the one that asks."""
        self._is_stopped = True
        self.look()
        if threading.current_thread() is not self._thread and self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        service = self._service
        earlier = service.agenda.earlier
        while not self._is_stopped:
            delay_s: float | None = None
            self._has_to_fill = False
            try:
                service.tick()
            except ServiceError as error:
                log.warning("the store can't be read now", extra={"error": str(error)})
                delay_s = RETRY_S
            except Exception:
                log.exception("the ticker met an error of its own")
                delay_s = RETRY_S
            with earlier:
                if self._is_stopped:
                    return
                if self._has_to_fill:
                    continue
                if delay_s is None:
                    delay_s = (service.next_tick_ms() - service.clock.now_ms()) / 1000
                if delay_s > 0:
                    earlier.wait(delay_s)

    def _ask_to_fill(self) -> None:
        """Have this thread fill free places."""
        if not self._has_to_fill:
            with self._service.agenda.earlier:
                self._has_to_fill = True
                self._service.agenda.earlier.notify_all()
