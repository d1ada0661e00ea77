"""Names and identifiers: execution ids, ARNs, function references, and the patterns they obey.

Source of the patterns: Lambda API 2025-12-01, shapes DurableExecutionArn, DurableExecutionName, NamespacedFunctionName.
"""

import re
import uuid
from functools import lru_cache
from typing import Final

import msgspec

from perdure.model.error import InvalidParameterValue

EXECUTION_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NAME_RULE: Final = "1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'"
FUNCTION_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
OPERATION_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
OPERATION_NAME: Final = re.compile(r"[\x20-\x7E]{1,256}")
OPERATION_SUB_TYPE: Final = re.compile(r"[a-zA-Z0-9_-]{1,32}")
CLIENT_TOKEN: Final = re.compile(r"[\x21-\x7E]{1,64}")
TENANT_ID: Final = re.compile(r"[a-zA-Z0-9._:/=+\-@ ]{1,256}")

LATEST: Final = "$LATEST"

_EXECUTION_ARN: Final = re.compile(
    r"arn:(?P<partition>[a-zA-Z0-9-]+):lambda:(?P<region>[a-zA-Z0-9-]+):(?P<account>\d{12}):function:"
    r"(?P<function>[a-zA-Z0-9_-]+):(?P<version>\$LATEST(?:\.PUBLISHED)?|[0-9]+)"
    r"/durable-execution/(?P<name>[a-zA-Z0-9_-]+)/(?P<execution_id>[a-zA-Z0-9_-]+)"
)
_FUNCTION_REFERENCE: Final = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):)?(?:(?P<account>\d{12}):)?"
    r"(?:function:)?(?P<name>[a-zA-Z0-9_.-]+?)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_-]+))?"
)


class Home(msgspec.Struct, frozen=True):
    """Where the functions of a store live, as their ARNs say it."""

    partition: str = "aws"
    region: str = "us-east-1"
    account: str = "000000000000"

    def function_arn(self, name: str, qualifier: str | None = None) -> str:
        arn = f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{name}"
        return f"{arn}:{qualifier}" if qualifier else arn

    def execution_arn(self, function: str, version: str, name: str, execution_id: str) -> str:
        return f"{self.function_arn(function, version)}/durable-execution/{name}/{execution_id}"


class ExecutionArn(msgspec.Struct, frozen=True):
    """The parts of a durable execution's ARN; its last part is also the id of the EXECUTION operation."""

    partition: str
    region: str
    account: str
    function: str
    version: str
    name: str
    execution_id: str

    @classmethod
    def parse(cls, text: str) -> "ExecutionArn":
        """Read an ARN; InvalidParameterValue if `text` is none."""
        found = _EXECUTION_ARN.fullmatch(text)
        if found is None:
            raise InvalidParameterValue("Invalid Durable Execution ARN", hint=f"found {text[:200]!r}")
        return cls(**found.groupdict())


class FunctionReference(msgspec.Struct, frozen=True):
    """How a caller points at a function: by name or ARN, with a qualifier (`$LATEST`, version, alias) or without."""

    name: str
    qualifier: str | None = None
    account: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, text: str) -> "FunctionReference":
        """Read `name`, `name:qualifier`, `account:function:name[:qualifier]` or a full ARN."""
        found = _FUNCTION_REFERENCE.fullmatch(text) if len(text) <= 256 else None
        if found is None:
            raise InvalidParameterValue(f"Invalid function ARN '{text[:200]}'")
        parts = found.groupdict()
        return cls(parts["name"], parts["qualifier"], parts["account"], parts["region"])


def new_execution_id(now_ms: int, entropy: bytes) -> str:
    """A UUIDv7 text: 48 bits of `now_ms`, then 74 bits of the ten bytes of `entropy`.

    Ids made later sort later, so that rows of one moment lie beside each other in the store.
    """
    rand_a = int.from_bytes(entropy[:2], "big") & 0x0FFF
    rand_b = int.from_bytes(entropy[2:10], "big") & ((1 << 62) - 1)
    return str(uuid.UUID(int=(now_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | rand_a << 64 | 2 << 62 | rand_b))


def request_id(execution_id: str, epoch: int) -> str:
    """The request id of an invocation: the execution's id, its last digits moved by the invocation's number."""
    return f"{execution_id[:-8]}{(int(execution_id[-8:], 16) + epoch) & 0xFFFFFFFF:08x}"


@lru_cache(maxsize=4096)
def execution_key(execution_id: str) -> bytes:
    """The sixteen bytes under which a store keeps the execution; InvalidParameterValue if `execution_id` is no UUID."""
    try:
        key = bytes.fromhex(execution_id.replace("-", ""))
    except ValueError:
        key = b""
    if len(key) != 16 or execution_id != execution_text(key):
        raise InvalidParameterValue("Invalid Durable Execution ARN", hint=f"{execution_id[:80]!r} is no execution id")
    return key


def execution_text(key: bytes) -> str:
    """The execution id of a store's sixteen-byte key."""
    text = key.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check(pattern: re.Pattern[str], text: str, what: str, rule: str) -> str:
    """Return `text` if it fits; otherwise InvalidParameterValue that names the thing and the rule."""
    if not pattern.fullmatch(text):
        raise InvalidParameterValue(f"{what} must be {rule}, not {text[:200]!r}")
    return text
