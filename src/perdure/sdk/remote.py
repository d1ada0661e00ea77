"""The SDK's client over a service that is reached by calls: AWS, Perdure's server, a test runner.

Source of the limits: the official SDK's checkpoints, which AWS takes.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from perdure.exceptions import CheckpointError, DurableApiErrorCategory, DurableExecutionsError, GetExecutionStateError
from perdure.model.error import InvalidParameterValue
from perdure.model.operation import Operation, OperationType, OperationUpdate
from perdure.sdk.boto3_client import WireClient
from perdure.sdk.client import Answer
from perdure.wire.forms import ANY
from perdure.wire.operations import UPDATE, read_operation
from perdure.wire.table import expect_object

if TYPE_CHECKING:
    from perdure.lambda_service import DurableServiceClient

BATCH_BYTES_MAX: Final = 750 * 1024
BATCH_UPDATES_MAX: Final = 250

Json = dict[str, Any]


class Page(msgspec.Struct, frozen=True):
    """Operations as the wire has them. `marker` leads to more of them; `token` is the next right to write, if any."""

    operations: Sequence[Json]
    marker: str | None = None
    token: str | None = None


class Link(Protocol):
    """How the service is reached. Raises CheckpointError and GetExecutionStateError."""

    def checkpoint(self, arn: str, token: str, updates: Sequence[Json]) -> Page: ...

    def state(self, arn: str, token: str, marker: str) -> Page: ...


class WireLink:
    """Through boto3 or plain HTTP, whose objects are those of the wire already."""

    def __init__(self, client: WireClient) -> None:
        self._client = client

    def checkpoint(self, arn: str, token: str, updates: Sequence[Json]) -> Page:
        answer = self._client.checkpoint_wire(arn, token, updates)
        state = answer.get("NewExecutionState") or {}
        return Page(state.get("Operations") or (), state.get("NextMarker"), answer.get("CheckpointToken"))

    def state(self, arn: str, token: str, marker: str) -> Page:
        answer = self._client.state_wire(arn, token, marker)
        return Page(answer.get("Operations") or (), answer.get("NextMarker"))


class ObjectLink:
    """Through a client that takes and gives the public dataclasses."""

    def __init__(self, client: "DurableServiceClient") -> None:
        self._client = client

    def checkpoint(self, arn: str, token: str, updates: Sequence[Json]) -> Page:
        from perdure.lambda_service import OperationUpdate as PublicUpdate

        objects = [PublicUpdate.from_dict(update) for update in updates]
        try:
            answer = self._client.checkpoint(arn, token, objects, os.urandom(16).hex())
        except DurableExecutionsError:
            raise
        except Exception as error:
            raise CheckpointError.from_exception(error) from error
        state = answer.new_execution_state
        return Page([one.to_dict() for one in state.operations], state.next_marker, answer.checkpoint_token)

    def state(self, arn: str, token: str, marker: str) -> Page:
        try:
            answer = self._client.get_execution_state(arn, token, marker)
        except DurableExecutionsError:
            raise
        except Exception as error:
            raise GetExecutionStateError.from_exception(error) from error
        return Page([one.to_dict() for one in answer.operations], answer.next_marker)


def link_to(client: "DurableServiceClient") -> Link:
    """The shortest way through a client: past the dataclasses, unless somebody has put something in their way."""
    kind = type(client)
    if isinstance(client, WireClient) and kind.checkpoint is WireClient.checkpoint:
        return WireLink(client)
    return ObjectLink(client)


class RemoteClient:
    """Keeps the token of one invocation. `link` is asked for when there is something to send, and not before."""

    def __init__(self, link: Callable[[], Link], arn: str, token: str) -> None:
        self._link = link
        self._arn = arn
        self._token: str | None = token
        self._numbers: dict[str, int] = {}

    @property
    def answers_waits(self) -> bool:
        """Yes: an answer carries all that has changed, a wait that was over at once among it."""
        return True

    @property
    def token(self) -> str | None:
        """The right to write once more; None if there is none any more."""
        return self._token

    def know(self, operations: Sequence[Operation]) -> None:
        """Take operations for known that have come by another way than `load`, before any others."""
        for operation in operations:
            self._numbers.setdefault(operation.id, len(self._numbers) + 1)

    def load(self, operations: Sequence[Json], marker: str | None) -> list[Operation]:
        """Read the operations of an invocation's event, and fetch those that were left out of it."""
        found = self._read(operations)
        for page in self._pages(marker, self._token or ""):
            found += self._read(page)
        return found

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        changed: list[Operation] = []
        for batch in batches(updates):
            if not self._token:
                raise CheckpointError("can't checkpoint without a checkpoint token")
            page = self._link().checkpoint(self._arn, self._token, batch)
            self._token = page.token
            changed += self._understood(page.operations)
            if not page.token:
                return Answer(changed, may_go_on=False)
            for operations in self._pages(page.marker, page.token):
                changed += self._understood(operations)
        return Answer(changed)

    def _pages(self, marker: str | None, token: str) -> Iterator[Sequence[Json]]:
        while marker:
            if not token:
                raise GetExecutionStateError("can't get the state of an execution without a checkpoint token")
            page = self._link().state(self._arn, token, marker)
            yield page.operations
            if page.marker == marker:
                raise GetExecutionStateError(f"the service answered with the marker {marker!r} that it was asked with")
            marker = page.marker

    def _understood(self, operations: Sequence[Json]) -> list[Operation]:
        try:
            return self._read(operations)
        except InvalidParameterValue as error:
            text = f"the service's answer to a checkpoint can't be read: {error.message}"
            raise CheckpointError(text, DurableApiErrorCategory.EXECUTION) from error

    def _read(self, operations: Sequence[Json]) -> list[Operation]:
        """InvalidParameterValue names the member that can't be."""
        return [self._read_one(one) for one in operations]

    def _read_one(self, given: Json) -> Operation:
        """An operation, which test runners make without the times that nobody here looks at.

        Its number is its place in what the service has told, which is in the order of starting.
        """
        numbers, number = self._numbers, 0
        if expect_object(given, "Operation").get("Type") != OperationType.EXECUTION:
            number = numbers.setdefault(given.get("Id", ""), len(numbers) + 1)
        return read_operation(given, ANY, number, start_ms=0)


def batches(updates: Sequence[OperationUpdate]) -> Iterator[list[Json]]:
    """Updates in their order, in batches that a checkpoint may hold. None at all is one empty batch.

    At most 250, and 750 KiB of JSON; an update that is larger than that travels alone.
    """
    batch = [UPDATE.write(update, ANY) for update in updates]
    if len(batch) <= 1 or (len(batch) <= BATCH_UPDATES_MAX and _bytes_at_most(updates) <= BATCH_BYTES_MAX):
        yield batch
        return
    begin, size = 0, 0
    for at, written in enumerate(batch):
        more = len(json.dumps(written))
        if at > begin and (size + more > BATCH_BYTES_MAX or at - begin == BATCH_UPDATES_MAX):
            yield batch[begin:at]
            begin, size = at, 0
        size += more
    yield batch[begin:]


ENVELOPE_BYTES_MAX: Final = 2_000
"""More than all that an update has beside its payload and its error."""
ESCAPE_BYTES_MAX: Final = 12
"""What JSON in ASCII makes of one character, at most."""


def _bytes_at_most(updates: Sequence[OperationUpdate]) -> int:
    """An upper bound that costs less than writing: nearly all batches are far below the limit."""
    characters = 0
    for update in updates:
        if update.payload is not None:
            characters += len(update.payload)
        if update.error is not None:
            characters += update.error.size_bytes()
    return len(updates) * ENVELOPE_BYTES_MAX + characters * ESCAPE_BYTES_MAX
