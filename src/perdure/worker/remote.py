"""A worker of a server in another process: it asks for work, runs it in threads and on a loop, and says how it ended.

It opens connections and is never connected to. When it loses touch with the server it keeps asking, and joins again if
it is not known any more; what it was running then belongs to others, and ends here at its next checkpoint.
"""

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from perdure.__about__ import __version__
from perdure.engine import commands as cmd
from perdure.exceptions import BotoClientError, CheckpointError, DurableApiErrorCategory
from perdure.execution import definition_of
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.execution import DurableConfig
from perdure.model.function import target_of
from perdure.model.operation import OperationUpdate
from perdure.sdk.client import Answer
from perdure.sdk.connection import Endpoint
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.pool import CALLS
from perdure.sdk.errors import error_object
from perdure.sdk.http_client import HttpClient
from perdure.sdk.invocation import DriverOf, LoopDriverOf
from perdure.sdk.remote import RemoteClient, WireLink
from perdure.service.invocation import Call, Invocation
from perdure.wire.workers import Called, CallEnded, End, Ended, Invoked, Join, Offer, Poll, read_operations, read_work
from perdure.worker.code import Code
from perdure.worker.requests import Refusal, Requests
from perdure.worker.threads import THREADS, ThreadWorker

log: Final = logging.getLogger("perdure.worker")

TASKS: Final = 1_000
"""So many invocations of `async def` handlers at once: each holds its journal in memory."""
TIMEOUT_S: Final = 900
PAUSE_S: Final = 0.05
PAUSE_S_MAX: Final = 3.0

Handler = Callable[..., Any]


class Received(Invocation, frozen=True):
    """An invocation as it has come: the checkpoint token as a text, and the marker of the operations that are left."""

    token_text: str = ""
    marker: str = ""


class RemoteWorker:
    """Runs the handlers of one code for a server. To be started, and stopped.

    At most `threads` invocations of blocking handlers and calls of plain functions at once. `config` is that of its
    durable functions, `timeout_s` bounds each invocation. `driver_of` and `loop_driver_of` are as for a ThreadWorker.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        handlers: Mapping[str, Handler],
        code: Code,
        *,
        name: str = "",
        threads: int = THREADS,
        config: DurableConfig | None = None,
        timeout_s: int = TIMEOUT_S,
        driver_of: DriverOf = BlockingDriver,
        loop_driver_of: "LoopDriverOf | None" = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = name or f"{socket.gethostname()[:40]}-{os.getpid()}"
        self._endpoint = endpoint
        self._requests = Requests(endpoint)
        self._link = WireLink(HttpClient(endpoint))
        self._worker = ThreadWorker(handlers, threads, driver_of=driver_of, loop_driver_of=loop_driver_of)
        self._worker.bind_to(self._client_of)
        self._handlers = dict(handlers)
        self._code = code
        self._threads = threads
        self._config = config or DurableConfig()
        self._timeout_s = timeout_s
        self._began_s = time.monotonic()
        self._clients: dict[str, RemoteInvocationClient] = {}
        self._received = 0
        self._poll_s = 0.0
        self._is_draining = False
        self._has_left = threading.Event()
        self._thread = threading.Thread(target=self._work, name="perdure-poll", daemon=True)

    def take(self, handlers: Mapping[str, Handler]) -> None:
        """Run these handlers in the place of those of the same names; for the server it is the same code."""
        self._handlers |= handlers
        self._worker.take(self._handlers)

    # --- coming and going ----------------------------------------------------------------------------------------

    def start(self, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Join the server, as soon as it can be reached unless that `is_given_up`, and work.

        Raises Refusal if it does not take this worker.
        """
        failures = 0
        while not is_given_up():
            try:
                self._join()
            except Refusal as refusal:
                if not refusal.may_pass:
                    raise
                failures = self._failed(failures, f"{self._endpoint.url} answers {refusal.status}: {refusal}")
            except OSError as error:
                failures = self._failed(failures, f"{self._endpoint.url} can't be reached: {error}")
            else:
                self._thread.start()
                return

    def stop(self, grace_s: float) -> bool:
        """Take no more work, let what runs come to its next checkpoint and hand it back, and leave.

        What has not ended after `grace_s` seconds is tried again elsewhere; the answer is False then.
        """
        self._is_draining = True
        is_known = self._thread.is_alive()
        if is_known:
            draining = Poll(received=self._received, is_draining=True)
            self._quietly(lambda: self._requests.poll(self.id, draining, self._poll_s))  # is answered at once
        is_idle = self._worker.close(grace_s)
        self._has_left.set()
        if is_known:
            self._quietly(lambda: self._requests.leave(self.id))
            self._thread.join(1)
        self._endpoint.close()
        return is_idle

    def _quietly(self, act: Callable[[], object]) -> None:
        """Say goodbye, if anybody hears it."""
        try:
            act()
        except (Refusal, OSError) as error:
            log.info("the server does not hear the worker leave", extra={"error": str(error)})

    def _join(self) -> None:
        joined = self._requests.join(
            Join(
                worker_id=self.id,
                code_sha256=self._code.sha256,
                code_bytes=self._code.size_bytes,
                functions=[self._offer(name, handler) for name, handler in self._handlers.items()],
                threads=self._threads,
                tasks=TASKS,
                age_s=time.monotonic() - self._began_s,
                name=_shown(self.name),
                host=_shown(socket.gethostname()),
                pid=os.getpid(),
                release=__version__,
            )
        )
        self._received, self._poll_s = 0, joined.poll_s
        log.info("joined", extra={"server": self._endpoint.url, "worker": self.name, "versions": joined.versions})

    def _offer(self, name: str, handler: Handler) -> Offer:
        definition = definition_of(handler)
        return Offer(
            name=name,
            durable=self._config if definition is not None else None,
            timeout_s=self._timeout_s,
            is_async=definition is not None and definition.is_async,
        )

    # --- asking for work -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        failures = 0
        while not self._has_left.is_set():
            try:
                is_closing = self._poll_once()
                failures = self._failed(failures, "the server is closing") if is_closing else 0
            except Refusal as refusal:
                if refusal.status != 404:
                    failures = self._failed(failures, f"the server answers {refusal.status}: {refusal}")
                elif self._is_draining:
                    self._lose_all()
                    return
                else:
                    failures = self._join_again(failures)
            except OSError as error:
                failures = self._failed(failures, f"the server can't be reached: {error}")
            except Exception:
                log.exception("the worker met an error of its own")
                failures = self._failed(failures, "an error of the worker's own")

    def _poll_once(self) -> bool:
        """Ask for work and begin with it; whether the server is closing."""
        poll = Poll(received=self._received, is_draining=self._is_draining)
        polled = self._requests.poll(self.id, poll, self._poll_s)
        self._received = polled.number
        for work in polled.work:
            self._begin(work)
        return polled.is_closing

    def _join_again(self, failures: int) -> int:
        """The server does not know this worker any more: it has been started anew, or has believed the worker gone."""
        self._lose_all()
        try:
            self._join()
        except (Refusal, OSError) as error:
            return self._failed(failures, f"the server does not take the worker back: {error}")
        return 0

    def _lose_all(self) -> None:
        """What runs here runs elsewhere, too."""
        for client in list(self._clients.values()):
            client.is_lost = True

    def _failed(self, failures: int, text: str) -> int:
        """Pause, longer each time; how often in a row it has failed."""
        log.log(logging.WARNING if failures % 10 == 0 else logging.DEBUG, text)
        pause_s = min(PAUSE_S * 2 ** min(failures, 10), PAUSE_S_MAX)
        self._has_left.wait(pause_s * random.uniform(0.5, 1.0))
        return failures + 1

    # --- running it ----------------------------------------------------------------------------------------------

    def _begin(self, raw: msgspec.Raw) -> None:
        try:
            work = read_work(raw)
            received = received_of(work) if isinstance(work, Invoked) else None
        except InvalidParameterValue:
            log.exception("work can't be read; is the server of a newer release?")
            return
        if isinstance(work, Called):
            self._call(work)
        elif received is not None:
            self._run(received)

    def _run(self, invocation: Received) -> None:
        if not self._worker.enter():
            client = self._client_of(invocation)
            client.has_place = False
            CALLS.submit(lambda: client.end(cmd.Released(), ()))
        elif invocation.marker:
            CALLS.submit(lambda: self._run_whole(invocation))
        else:
            self._worker.run(invocation)

    def _run_whole(self, invocation: Received) -> None:
        """Run an invocation whose operations have to be fetched first."""
        remote = RemoteClient(lambda: self._link, invocation.arn, invocation.token_text)
        remote.know(invocation.operations)
        try:
            rest = remote.load((), invocation.marker)
        except (BotoClientError, InvalidParameterValue) as error:
            self._client_of(invocation).end(cmd.Crashed(error_object(error)), ())
            return
        self._worker.run(msgspec.structs.replace(invocation, operations=[*invocation.operations, *rest]))

    def _call(self, called: Called) -> None:
        if not self._worker.enter():
            refused = ErrorObject("the worker is stopping", "Runtime.ExitError")
            CALLS.submit(lambda: self._tell_call(called, CallEnded(error=refused)))
            return

        def answer(result: str | None, error: ErrorObject | None) -> None:
            try:
                self._tell_call(called, CallEnded(result=result, error=error))
            finally:
                self._worker.release(target_of(called.function, called.version))

        self._worker.call(Call(called.function, called.version, called.input, answer))

    def _tell_call(self, called: Called, ended: CallEnded) -> None:
        facts = {"function": target_of(called.function, called.version), "call": called.call_id}
        status = End.SUCCEEDED if ended.error is None else End.FAILED
        try:
            self._requests.end_call(self.id, called.call_id, ended)
        except (Refusal, OSError) as error:
            log.warning("nobody was told how a call has ended", extra={**facts, "error": str(error)})
        else:
            log.info("call ended", extra={**facts, "status": status})

    def _client_of(self, invocation: Invocation) -> "RemoteInvocationClient":
        assert isinstance(invocation, Received)
        client = RemoteInvocationClient(invocation, self._link, self._ended)
        self._clients[invocation.request_id] = client
        return client

    def _ended(self, client: "RemoteInvocationClient", ended: Ended) -> None:
        """An invocation has ended here: say so, and free its place."""
        invocation = client.invocation
        try:
            self._tell(client, ended)
        finally:
            self._clients.pop(invocation.request_id, None)
            if client.has_place:
                self._worker.release(target_of(invocation.function, invocation.version))

    def _tell(self, client: "RemoteInvocationClient", ended: Ended) -> None:
        """Say how an invocation has ended, for as long as the server believes that it runs here."""
        failures = 0
        while not client.is_lost:
            try:
                self._requests.end(self.id, client.invocation.request_id, ended)
            except (Refusal, OSError) as error:
                may_pass = error.may_pass if isinstance(error, Refusal) else True
                if may_pass and not self._has_left.is_set():
                    failures = self._failed(failures, f"the server does not hear how an invocation has ended: {error}")
                    continue
                self._not_told(client, ended, error)
            else:
                _report(client, str(ended.end))
            return
        _report(client, "dropped", "others go on with it")

    def _not_told(self, client: "RemoteInvocationClient", ended: Ended, error: Exception) -> None:
        if isinstance(error, Refusal) and error.status == 409:
            # One that was said twice, its first answer lost, has ended after all; there is no telling.
            _report(client, "dropped" if error.attempts == 1 else str(ended.end), error.message)
        elif isinstance(error, Refusal) and error.status == 400 and ended.end is not End.FAILED:
            refused = ErrorObject(error.message, error.code)
            self._tell(client, Ended(token=ended.token, end=End.FAILED, error=refused))
        else:
            _report(client, "not recorded", str(error))


class RemoteInvocationClient:
    """The client of one invocation whose service is a server. If it `is_lost`, others run the invocation by now."""

    def __init__(
        self, invocation: Received, link: WireLink, ended: "Callable[[RemoteInvocationClient, Ended], None]"
    ) -> None:
        self.invocation = invocation
        self.is_closing = False
        self.is_lost = False
        self.has_place = True
        self.began_s = time.monotonic()
        self.updates = 0
        self._remote = RemoteClient(lambda: link, invocation.arn, invocation.token_text)
        self._remote.know(invocation.operations)
        self._token = invocation.token_text
        self._ended = ended

    @property
    def answers_waits(self) -> bool:
        """No: what an invocation can only wait for is recorded together with its end, in one commit."""
        return False

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        if self.is_lost:
            error = {"Code": InvalidParameterValue.code, "Message": "Invalid checkpoint token"}
            raise CheckpointError("another worker goes on with it", DurableApiErrorCategory.INVOCATION, error)
        self.updates += len(updates)
        answer = self._remote.checkpoint(updates)
        self._token = self._remote.token or self._token
        return Answer(answer.operations, may_go_on=answer.may_go_on and not self.is_closing)

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        self.updates += len(updates)
        self._ended(self, ended_of(self._token, outcome, updates))


def received_of(work: Invoked) -> Received:
    """An invocation as the worker runs it; InvalidParameterValue if an operation in it can't be read."""
    return Received(
        execution_id=work.execution_id,
        arn=work.arn,
        name=work.name,
        function=work.function,
        version=work.version,
        epoch=work.epoch,
        request_id=work.request_id,
        token=cmd.Token(work.epoch, 0),
        input=work.input,
        start_ms=work.start_ms,
        execution_start_ms=work.execution_start_ms,
        operations=read_operations(work.operations),
        updated_ids=work.updated_ids,
        tenant_id=work.tenant_id,
        trace_header=work.trace_header,
        timeout_s=work.timeout_s,
        token_text=work.token,
        marker=work.marker,
    )


def ended_of(token: str, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> Ended:
    """The message that says how an invocation has ended."""
    sent = list(updates)
    match outcome:
        case cmd.Succeeded(result):
            return Ended(token=token, end=End.SUCCEEDED, result=result, updates=sent)
        case cmd.Failed(error):
            return Ended(token=token, end=End.FAILED, error=error, updates=sent)
        case cmd.Pending():
            return Ended(token=token, end=End.PENDING, updates=sent)
        case cmd.Crashed(error):
            return Ended(token=token, end=End.CRASHED, error=error, updates=sent)
        case cmd.Released():
            return Ended(token=token, end=End.RELEASED, updates=sent)


def _report(client: RemoteInvocationClient, status: str, reason: str | None = None) -> None:
    """One line for each invocation."""
    invocation = client.invocation
    facts = {
        "execution": invocation.arn,
        "invocation": invocation.request_id,
        "status": status,
        "replayed_operations": len(invocation.operations),
        "updates": client.updates,
        "duration_ms": round((time.monotonic() - client.began_s) * 1000, 1),
    }
    if reason is not None:
        facts["reason"] = reason
    log.log(logging.WARNING if status == "not recorded" else logging.INFO, "invocation ended", extra=facts)


def _shown(text: str) -> str:
    """A text as a name may be: printable ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)[:100]
