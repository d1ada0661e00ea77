"""The numbers that decisions depend on: limits, the policy for failed invocations, and where new ids come from."""

from typing import Final, Protocol

import msgspec

KIB: Final = 1024
MIB: Final = 1024 * KIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution may use. `Limits.aws()` has the published numbers of AWS Lambda.

    The defaults are the AWS numbers wherever a client could depend on one, and wider where they only bound a bill:
    an execution on one's own disk may have a million operations.
    """

    operations_max: int = 1_000_000
    written_bytes_max: int = 4 * KIB * MIB
    payload_bytes_max: int = MIB
    input_bytes_max: int = 6 * MIB
    result_bytes_max: int = 16 * MIB
    chained_result_bytes_max: int = MIB
    error_bytes_max: int = MIB
    updates_max: int = 10_000
    timers_per_commit: int = 1_000

    @classmethod
    def aws(cls) -> "Limits":
        """The profile `aws`: 3,000 operations and 100 MB written an execution (Lambda Developer Guide, quotas)."""
        return cls(operations_max=3_000, written_bytes_max=100 * MIB, result_bytes_max=6 * MIB)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What happens when an invocation fails: it raised, its process died, or its time ran out.

    It is tried again after `first_delay_ms`, doubled each time up to `delay_max_ms`, less a random part of up to half.
    An invocation whose process died, which is most often an honest restart, is tried again at once the first time.
    An execution that has failed `quarantine_after` times in a row without any progress is paused with a diagnosis. With
    `give_up_after` it is ended FAILED instead after that many failures in a row, as AWS's local emulator does.
    """

    first_delay_ms: int = 1_000
    delay_max_ms: int = 300_000
    quarantine_after: int = 10
    give_up_after: int | None = None

    @classmethod
    def emulator(cls) -> "RetryPolicy":
        """The profile of the official local emulator: five failures in a row, five seconds apart, then FAILED."""
        return cls(first_delay_ms=5_000, delay_max_ms=5_000, give_up_after=5)

    def delay_ms(self, *, failures: int, same_point: int, is_lost: bool, jitter: float) -> int:
        """How long to wait after the `failures`-th failure in a row, the `same_point`-th without progress."""
        if is_lost and same_point == 1:
            return 0
        exponent = min((same_point if is_lost else failures) - (2 if is_lost else 1), 30)
        base = min(self.first_delay_ms << exponent, self.delay_max_ms)
        return base - int(base / 2 * jitter)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The constants of one service."""

    limits: Limits = Limits()
    retries: RetryPolicy = RetryPolicy()


class Ids(Protocol):
    """Where new identifiers and chance come from: random in production, a seed in the simulation."""

    def execution_id(self, now_ms: int) -> str:
        """A new execution id, later than all that were made before."""
        ...

    def callback_id(self, execution_id: str) -> str:
        """A new callback id that tells which execution it belongs to and that nobody can guess."""
        ...

    def jitter(self) -> float:
        """A number from 0 to 1."""
        ...
