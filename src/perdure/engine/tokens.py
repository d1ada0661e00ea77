"""Checkpoint tokens: which execution, which invocation, which checkpoint, and a seal that nobody else can make."""

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Final

from perdure.engine.commands import Token
from perdure.model.error import StaleToken

_FORM: Final = struct.Struct(">B16sII")
_VERSION: Final = 1
_SEAL_BYTES: Final = 14
"""39 bytes in all, which base64 writes without padding."""


def mint(secret: bytes, key: bytes, token: Token) -> str:
    """The text of a token; `key` is the execution's sixteen bytes, `secret` the store's."""
    body = _FORM.pack(_VERSION, key, token.epoch, token.count)
    return base64.b64encode(body + _seal(secret, body)).decode()


def read(secret: bytes, key: bytes, text: str) -> Token:
    """What a token says; StaleToken if it was not made with `secret` for the execution `key`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise StaleToken from None
    body, seal = raw[: _FORM.size], raw[_FORM.size :]
    if len(body) != _FORM.size or not hmac.compare_digest(seal, _seal(secret, body)):
        raise StaleToken
    version, owner, epoch, count = _FORM.unpack(body)
    if version != _VERSION or owner != key:
        raise StaleToken
    return Token(epoch, count)


def _seal(secret: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, key=secret, digest_size=_SEAL_BYTES).digest()


# --- callback ids ------------------------------------------------------------------------------------------------

_CALLBACK_FORM: Final = struct.Struct(">B16s16s")


def callback_id(key: bytes, nonce: bytes) -> str:
    """A callback id: the execution it belongs to, and sixteen bytes of chance that make it unguessable."""
    return base64.b64encode(_CALLBACK_FORM.pack(_VERSION, key, nonce)).decode()


def callback_owner(text: str) -> bytes | None:
    """The key of the execution that a callback id belongs to; None if the text is none of ours."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _CALLBACK_FORM.size or raw[0] != _VERSION:
        return None
    owner: bytes = _CALLBACK_FORM.unpack(raw)[1]
    return owner
