"""callback: something that others complete."""

from perdure.sdk.operations.callback import callback_result, create_callback, wait_for_callback

__all__ = ["callback_result", "create_callback", "wait_for_callback"]
