"""What a worker asks of its server, over HTTP: to join, for work, to record ends, to leave."""

from typing import Final, TypeVar

import msgspec

from perdure.model.error import InvalidParameterValue
from perdure.sdk.connection import AGAIN, Endpoint, Reply
from perdure.sdk.http_client import error_in
from perdure.wire.workers import MEDIA_TYPE, CallEnded, Ended, Join, Joined, Message, Poll, Polled, encode, read

PATH: Final = "/perdure/v1/workers"
POLL_MORE_S: Final = 10.0
"""How much longer than it said may the server take to answer a poll."""
M = TypeVar("M", bound=Message)


class Refusal(Exception):
    """The server has answered with an error. `attempts` is how often it was asked."""

    def __init__(self, reply: Reply) -> None:
        self.code, message = error_in(reply)
        super().__init__(message or self.code)
        self.message = message
        self.status = reply.status
        self.attempts = reply.attempts

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered otherwise later."""
        return self.status in AGAIN


class Requests:
    """Safe to use from any thread. All raise Refusal, and OSError if the server can't be reached."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def join(self, join: Join) -> Joined:
        reply = self._endpoint.request("POST", PATH, encode(join), media_type=MEDIA_TYPE, attempts=1)
        return self._answer(Joined, reply)

    def poll(self, worker_id: str, poll: Poll, poll_s: float) -> Polled:
        """Asked once, as to join is: the worker asks again anyway."""
        reply = self._endpoint.request(
            "POST",
            f"{PATH}/{worker_id}/poll",
            encode(poll),
            media_type=MEDIA_TYPE,
            attempts=1,
            read_s=poll_s + POLL_MORE_S,
        )
        return self._answer(Polled, reply)

    def end(self, worker_id: str, request_id: str, ended: Ended) -> None:
        self._tell(f"{PATH}/{worker_id}/invocations/{request_id}", encode(ended))

    def end_call(self, worker_id: str, call_id: str, ended: CallEnded) -> None:
        self._tell(f"{PATH}/{worker_id}/calls/{call_id}", encode(ended))

    def leave(self, worker_id: str) -> None:
        _check(self._endpoint.request("DELETE", f"{PATH}/{worker_id}", attempts=2))

    def _tell(self, path: str, body: bytes) -> None:
        _check(self._endpoint.request("POST", path, body, media_type=MEDIA_TYPE))

    def _answer(self, kind: type[M], reply: Reply) -> M:
        _check(reply)
        try:
            return read(kind, reply.body)
        except InvalidParameterValue as error:
            raise Refusal(msgspec.structs.replace(reply, status=400, body=_unreadable(error))) from error


def _check(reply: Reply) -> None:
    if reply.status >= 300:
        raise Refusal(reply)


def _unreadable(error: InvalidParameterValue) -> bytes:
    return msgspec.json.encode({"message": f"the server's answer can't be read: {error.message}"})
