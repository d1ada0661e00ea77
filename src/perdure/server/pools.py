"""Where the invocations of a node run: to each version the pool of its host."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, ServiceError
from perdure.model.function import FunctionVersion, Host, target_of
from perdure.service.invocation import Call, Dispatcher, Invocation
from perdure.service.service import Service

log: Final = logging.getLogger("perdure.server")


class Pools:
    """A dispatcher over the pools of the hosts. `find` gives the version of a target, None if it is gone.

    An execution whose version is gone has failed: it is given a place to be told so.
    """

    def __init__(self, find: Callable[[str, str], FunctionVersion | None], pools: Mapping[Host, Dispatcher]) -> None:
        self._find = find
        self._pools = dict(pools)
        self._service: Service | None = None
        self._undertaker = ThreadPoolExecutor(1, thread_name_prefix="perdure-gone")

    def bind(self, service: Service) -> None:
        self._service = service

    def pool_of(self, target: str) -> Dispatcher | None:
        """The pool that runs a target; None if its version is gone."""
        function, _, version = target.rpartition(":")
        found = self._find(function, version)
        return self._pools.get(found.host) if found is not None else None

    def _is_gone(self, target: str) -> bool:
        function, _, version = target.rpartition(":")
        return self._find(function, version) is None

    def reserve(self, target: str) -> bool:
        pool = self.pool_of(target)
        return pool.reserve(target) if pool is not None else self._is_gone(target)

    @property
    def has_backlog(self) -> bool:
        return any(pool.has_backlog for pool in self._pools.values())

    def release(self, target: str) -> None:
        pool = self.pool_of(target)
        if pool is not None:
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
