"""Numbers of the service that the SDK keeps to, under their official names."""

from perdure.sdk.session import INLINE_BYTES_MAX

__all__ = ["CHECKPOINT_SIZE_LIMIT_BYTES"]

CHECKPOINT_SIZE_LIMIT_BYTES = INLINE_BYTES_MAX
"""A child context's result over this many bytes is not recorded: a replay makes it again."""
