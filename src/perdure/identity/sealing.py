"""What is made of the secret of a store for access keys, so that none of it has to be kept."""

import base64
import hmac
from typing import Final

KEY_ID_DIGITS: Final = 16
SECRET_CHARS: Final = 40


def digest(store_secret: bytes, purpose: str, body: bytes) -> bytes:
    """32 bytes that only who has the store can make. A `purpose` never shares them with another."""
    return hmac.digest(store_secret, b"perdure " + purpose.encode() + b"\0" + body, "sha256")


def secret_text(store_secret: bytes, purpose: str, body: bytes) -> str:
    """A secret access key: 40 characters, 240 bits."""
    return base64.b64encode(digest(store_secret, purpose, body))[:SECRET_CHARS].decode()


def key_id(prefix: str, entropy: bytes) -> str:
    """`AKIA` or `ASIA` and sixteen characters of ten bytes."""
    return prefix + base64.b32encode(entropy[:10]).decode()
