"""Who runs the functions of a store file: one process at a time, and the next one is told who.

The owner holds an operating system lock on a file beside the store for as long as it lives; a crash gives it back.
Other processes may read, and may append as operators do (stop, answer a callback). They ring the owner's doorbell
afterwards: a datagram to a loopback port that the owner has written beside its name. A ring that gets lost only delays:
the owner looks at the store once a minute anyway.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from perdure.model.error import StoreHeld, StoreReadOnly
from perdure.model.ids import execution_text

_RING: Final = b"perdure-ring\x01"
_KEY_BYTES: Final = 16

if sys.platform == "win32":  # pragma: no cover - the lock of the other family of systems
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _beside(store: Path) -> Path:
    return store.with_name(store.name + "-owner")


LISTENER_S: Final = 1.0
"""So long is the thread waited for that hears the doorbell: it may be telling of one more ring."""


class Ownership:
    """The right to run functions, from `take` to `give_back`."""

    def __init__(self, descriptor: int, doorbell: socket.socket) -> None:
        self._descriptor = descriptor
        self._doorbell = doorbell
        self._is_over = False
        self._listener: threading.Thread | None = None

    @classmethod
    def take(cls, store: Path) -> "Ownership":
        """Become the owner of the file; StoreHeld, naming the other process, if there is one."""
        path = _beside(store)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreReadOnly(f"{path} can't be written: {error.strerror}", hint=f"check {path.parent}") from error
        if not _try_lock(descriptor):
            os.close(descriptor)
            holder = _read_holder(path)
            who = f"process {holder.get('pid', '?')} ({holder.get('command', 'unknown')})"
            raise StoreHeld(
                f"{store} is in use by {who} since {holder.get('since', '?')}",
                holder=holder,
                hint="one process at a time runs functions on a store file; stop the other one, or use another file",
            )
        doorbell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        doorbell.bind(("127.0.0.1", 0))
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200] or "python",
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "port": doorbell.getsockname()[1],
        }
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder).encode())
        return cls(descriptor, doorbell)

    def listen(self, changed: Callable[[str], None]) -> None:
        """Call `changed` for every ring, in a thread of its own, until the ownership is given back."""
        self._listener = threading.Thread(target=self._answer, args=(changed,), name="perdure-doorbell", daemon=True)
        self._listener.start()

    def _answer(self, changed: Callable[[str], None]) -> None:
        while True:
            try:
                ring = self._doorbell.recv(64)
            except OSError:
                return
            if self._is_over:
                return
            if ring.startswith(_RING) and len(ring) == len(_RING) + _KEY_BYTES:
                changed(execution_text(ring[len(_RING) :]))

    def give_back(self) -> None:
        self._is_over = True
        with contextlib.suppress(OSError):
            self._doorbell.sendto(_RING, self._doorbell.getsockname())
        if self._listener is not None and self._listener is not threading.current_thread():
            self._listener.join(LISTENER_S)
        self._doorbell.close()
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


class Doorbell:
    """How a process that does not own the store tells the owner that something has changed."""

    def __init__(self, store: Path) -> None:
        self._path = _beside(store)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def ring(self, key: bytes) -> None:
        """Tell the owner, if there is one, to look at this execution."""
        port = _read_holder(self._path).get("port")
        if isinstance(port, int) and 0 < port < 65536:
            with contextlib.suppress(OSError):
                self._socket.sendto(_RING + key, ("127.0.0.1", port))

    def close(self) -> None:
        self._socket.close()


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
