"""Where the invocations of a node run: to each version the pool of its host."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, ResourceNotFound, ServiceError
from perdure.model.function import Host, target_of
from perdure.service.invocation import Call, Dispatcher, Invocation
from perdure.service.registry import Registry
from perdure.service.service import Service

log: Final = logging.getLogger("perdure.server")


class Pools:
    """A dispatcher over the pools of the hosts.

    An execution whose function was never deployed here waits. One whose version was deleted has failed: it is given a
    place to be told so.
    """

    def __init__(self, registry: Registry, pools: Mapping[Host, Dispatcher]) -> None:
        self._registry = registry
        self._pools = dict(pools)
        self._service: Service | None = None
        self._undertaker = ThreadPoolExecutor(1, thread_name_prefix="perdure-gone")
        self._lock = threading.Lock()
        self._givers: dict[str, list[Dispatcher]] = {}
        """The pools that have given places, by target: they get them back, whatever has been deployed since."""
        self._taken: Counter[str] = Counter()
        """The places that are taken, by function."""

    def bind(self, service: Service) -> None:
        self._service = service

    def pool_of(self, target: str) -> Dispatcher | None:
        """The pool that runs a target; None if there is no such version."""
        function, _, version = target.rpartition(":")
        found = self._registry.find(function, version)
        return self._pools.get(found.host) if found is not None else None

    def reserve(self, target: str) -> bool:
        pool = self.pool_of(target)
        function, _, version = target.rpartition(":")
        if pool is None:
            return self._registry.is_gone(function, version)
        try:
            limit = self._registry.function(function).concurrency
        except ResourceNotFound:  # it was deleted at this moment
            return False
        with self._lock:
            if limit is not None and self._taken[function] >= limit:
                return False
            self._taken[function] += 1
        if not pool.reserve(target):
            self._untake(function)
            return False
        with self._lock:
            self._givers.setdefault(target, []).append(pool)
        return True

    def _untake(self, function: str) -> None:
        with self._lock:
            self._taken[function] -= 1
            if not self._taken[function]:
                del self._taken[function]

    @property
    def has_backlog(self) -> bool:
        return any(pool.has_backlog for pool in self._pools.values())

    def release(self, target: str) -> None:
        with self._lock:
            givers = self._givers.get(target)
            pool = givers.pop() if givers else None
            if givers is not None and not givers:
                del self._givers[target]
        if pool is not None:
            self._untake(target.rpartition(":")[0])
            pool.release(target)

    def run(self, invocation: Invocation) -> None:
        pool = self.pool_of(target_of(invocation.function, invocation.version))
        if pool is not None:
            pool.run(invocation)
        else:
            self._undertaker.submit(self._bury, invocation)

    def call(self, call: Call) -> None:
        pool = self.pool_of(target_of(call.function, call.version))
        if pool is not None:
            pool.call(call)
        else:
            self._undertaker.submit(call.answer, None, gone(call.function, call.version))

    def close(self) -> None:
        self._undertaker.shutdown(wait=True)

    def _bury(self, invocation: Invocation) -> None:
        assert self._service is not None
        outcome = cmd.Failed(gone(invocation.function, invocation.version))
        try:
            self._service.end_invocation(invocation, invocation.token, outcome)
        except ServiceError:
            log.exception("the end of an invocation was refused", extra={"execution": invocation.execution_id})


def gone(function: str, version: str) -> ErrorObject:
    """What an execution fails with when its function, or its version, does not exist any more."""
    return ErrorObject(f"Function not found: {function}:{version}", "ResourceNotFoundException")
