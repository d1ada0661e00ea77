"""What workers and the server say to each other."""

import msgspec
import pytest

from perdure.model import operation as op
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.execution import DurableConfig
from perdure.wire import workers as wire

OPERATIONS: list[op.Operation] = [
    op.Context(id="c", number=1, status=op.OperationStatus.STARTED, start_ms=1, name="é"),
    op.Step(
        id="s",
        number=2,
        status=op.OperationStatus.FAILED,
        start_ms=2,
        end_ms=3,
        attempt=2,
        error=ErrorObject("no", "E", None, ("a", "b")),
    ),
    op.Wait(id="w", number=3, status=op.OperationStatus.STARTED, start_ms=4, scheduled_end_ms=5_000),
    op.Callback(id="b", number=4, status=op.OperationStatus.SUCCEEDED, start_ms=5, callback_id="cb", result="1"),
    op.ChainedInvoke(id="i", number=5, status=op.OperationStatus.TIMED_OUT, start_ms=6, function="f:1"),
]


def test_operations_of_all_types_travel() -> None:
    assert wire.read_operations(wire.write_operations(OPERATIONS, 10**6)) == OPERATIONS


def test_as_many_operations_travel_as_fit_and_at_least_one() -> None:
    whole = wire.write_operations(OPERATIONS, 10**6)
    size = sum(len(bytes(one)) for one in whole[:3])
    assert len(wire.write_operations(OPERATIONS, size)) == 3
    assert len(wire.write_operations(OPERATIONS, size - 1)) == 2
    assert len(wire.write_operations(OPERATIONS, 1)) == 1


@pytest.mark.parametrize(
    "message",
    [
        wire.Join(worker_id="w", code_sha256="0", functions=[wire.Offer(name="f", durable=DurableConfig())], threads=1),
        wire.Joined(versions={"f": "1"}, poll_s=5.0),
        wire.Poll(received=3, is_draining=True),
        wire.Ended(
            token="t",
            end=wire.End.PENDING,
            updates=[op.OperationUpdate("w", op.OperationType.WAIT, op.OperationAction.START, wait_s=5)],
        ),
        wire.CallEnded(error=ErrorObject("no")),
    ],
)
def test_a_message_reads_as_it_was_written(message: wire.Message) -> None:
    assert wire.read(type(message), wire.encode(message)) == message


def test_work_is_told_apart() -> None:
    works = [
        wire.Invoked(
            request_id="r", arn="a", execution_id="e", name="n", function="f", version="1", token="t", epoch=1
        ),
        wire.Called(call_id="c", function="f", version="1"),
    ]
    polled = wire.Polled(number=1, work=[msgspec.Raw(wire.encode(work)) for work in works])
    read = wire.read(wire.Polled, wire.encode(polled))
    assert [wire.read_work(one) for one in read.work] == works


@pytest.mark.parametrize(
    "body", [b"", b"\x80", b"{}", b"\xa3abc", b"\xc1", wire.encode({"token": 7, "end": "PENDING"})]
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidParameterValue, match="the message is no Ended in msgpack: "):
        wire.read(wire.Ended, body)


def test_what_is_no_work_is_refused() -> None:
    with pytest.raises(InvalidParameterValue, match="this is no work for a worker"):
        wire.read_work(msgspec.Raw(wire.encode({"type": "dance"})))
    with pytest.raises(InvalidParameterValue, match="an operation in an invocation can't be read"):
        wire.read_operations([msgspec.Raw(wire.encode(("DANCE", {})))])
