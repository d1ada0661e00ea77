"""Events as the bytes of a journal row.

A row is one byte of form, four bytes of CRC-32 over the rest, and a msgpack array of events, deflated if that helps.
SQLite checks no checksums of its own; a flipped bit is found here, when the row is read.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from perdure.model.error import StoreCorrupt, StoreTooNew
from perdure.model.event import AnyEvent, Event

_HEAD: Final = struct.Struct(">BI")
_PLAIN: Final = 0
_DEFLATED: Final = 1
_DEFLATE_FROM_BYTES: Final = 4096
"""Below this, deflating costs more than the disk it saves (40 µs for 4 KiB, against 4 µs for writing them)."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[Any] = msgspec.msgpack.Decoder(list[AnyEvent])


def pack(events: Sequence[Event]) -> bytes:
    """The journal row that holds `events`."""
    body = _encoder.encode(events)
    form = _PLAIN
    if len(body) >= _DEFLATE_FROM_BYTES:
        deflated = zlib.compress(body, 1)
        if len(deflated) < len(body) * 0.9:
            body, form = deflated, _DEFLATED
    return _HEAD.pack(form, zlib.crc32(body)) + body


def unpack(data: bytes, *, execution_id: str, seq: int) -> list[Event]:
    """The events of a journal row; StoreCorrupt, naming the row, if it is not as it was written."""
    try:
        form, checksum = _HEAD.unpack_from(data)
        body = data[_HEAD.size :]
        if zlib.crc32(body) != checksum:
            raise StoreCorrupt(_where(execution_id, seq) + " does not match its checksum", hint=_HINT)
        if form not in (_PLAIN, _DEFLATED):
            raise StoreTooNew(f"{_where(execution_id, seq)} has form {form}", hint="upgrade perdure")
        events: list[Event] = _decoder.decode(zlib.decompress(body) if form == _DEFLATED else body)
    except (struct.error, zlib.error, msgspec.DecodeError) as error:
        raise StoreCorrupt(f"{_where(execution_id, seq)} can't be read: {error}", hint=_HINT) from error
    return events


_HINT: Final = "restore the store from a backup, or delete this execution; the others are not affected"


def _where(execution_id: str, seq: int) -> str:
    return f"row {seq} of the journal of execution {execution_id}"
