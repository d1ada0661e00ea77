"""Functions as they are deployed: versions, aliases, and where their code runs.

Source of names and defaults: Lambda API 2015-03-31, shapes FunctionConfiguration and AliasConfiguration.
"""

import base64
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from perdure.model.error import InvalidParameterValue
from perdure.model.execution import DurableConfig
from perdure.model.ids import LATEST
from perdure.model.word import Word

DRAINING: Final = "DrainingDurableExecutions"
"""The reason code of a version that is deleted as soon as its open executions have ended."""


ENDPOINT_MAX: Final = 2000


class Host(Word):
    """Where a version's code runs."""

    PROCESS = "process"
    """In the process of the service: threads and one loop."""
    WORKER = "worker"
    """In workers that poll the service; the version's code is what they have loaded."""
    MANAGED = "managed"
    """In processes that the service makes from a deployment package, behind the Runtime API."""
    ENDPOINT = "endpoint"
    """Behind an HTTP endpoint that takes Invoke."""


class FunctionState(Word):
    """Whether a version can be invoked (the words of the Lambda API)."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    FAILED = "Failed"
    DELETING = "Deleting"


class FunctionVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of a function, as it can be invoked: `$LATEST`, which may change, or a number, which may not.

    `durable` None means a plain function. `timeout_s` bounds one invocation. `code_sha256` is the base64 of the
    deployment package's hash; `more` holds members of the configuration that are kept and shown, and mean nothing here
    (VpcConfig, Layers, …), under their names on the wire.
    """

    function: str
    version: str = LATEST
    host: Host = Host.MANAGED
    durable: DurableConfig | None = None
    runtime: str | None = None
    handler: str | None = None
    code_sha256: str = ""
    code_bytes: int = 0
    timeout_s: int = 3
    memory_mb: int = 128
    environment: dict[str, str] = {}
    role: str = ""
    description: str = ""
    endpoint: str | None = None
    log_format: str = "Text"
    is_tenant_isolated: bool = False
    modified_ms: int = 0
    revision_id: str = ""
    state: FunctionState = FunctionState.ACTIVE
    state_reason: str | None = None
    state_reason_code: str | None = None
    more: dict[str, Any] = {}

    @property
    def target(self) -> str:
        return target_of(self.function, self.version)

    def runs_like(self, other: "FunctionVersion") -> bool:
        """Whether both are the same but for what is said of their state."""
        if self is other:
            return True
        said = (other.state, other.state_reason, other.state_reason_code)
        return self.with_state(*said) == other

    def with_state(self, state: FunctionState, reason: str | None = None, code: str | None = None) -> "FunctionVersion":
        return msgspec.structs.replace(self, state=state, state_reason=reason, state_reason_code=code)

    @property
    def code_key(self) -> str | None:
        """The key of its deployment package among the records of code: the hash in hex digits; None without one."""
        return base64.b64decode(self.code_sha256).hex() if self.code_sha256 else None

    @property
    def is_deleting(self) -> bool:
        return self.state is FunctionState.DELETING


class EventInvokeConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How asynchronous invokes of a function are tried again, and where their outcomes go.

    None stands for what holds without a setting.
    """

    retries_max: int | None = None
    age_max_s: int | None = None
    destinations: dict[str, Any] | None = None
    modified_ms: int = 0


class Function(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What belongs to a function and not to one of its versions. `last_version` is the highest number published.

    `concurrency` is what is reserved for it: as many invocations at once, at most; None for no bound of its own.
    `event_invokes` and `policies` are by qualifier, `$LATEST` standing for none; a policy has its statements, in the
    words of IAM, by their ids. `worker_began_ms` is when the worker began whose code `$LATEST` is, if it is a worker's.
    """

    name: str
    last_version: int = 0
    tags: dict[str, str] = {}
    concurrency: int | None = None
    created_ms: int = 0
    event_invokes: dict[str, EventInvokeConfig] = {}
    policies: dict[str, dict[str, dict[str, Any]]] = {}
    worker_began_ms: int = 0
    more: dict[str, Any] = {}


class Alias(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A name for a version. `weights` are the shares, from 0 to 1, of other versions of what is started through it."""

    function: str
    name: str
    version: str
    weights: dict[str, float] = {}
    description: str = ""
    revision_id: str = ""


def target_of(function: str, version: str) -> str:
    """The qualified name `function:version`, which is what a place for an invocation is for."""
    return f"{function}:{version}"


def endpoint_url(text: str) -> str:
    """The URL of an endpoint that takes Invoke; InvalidParameterValue unless it is one of HTTP."""
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or "@" in text or len(text) > ENDPOINT_MAX:
        raise InvalidParameterValue(f"the endpoint must be a URL such as http://127.0.0.1:3001, not {text[:200]!r}")
    return text.rstrip("/")
