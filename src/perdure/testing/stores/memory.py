"""The official home of the store in memory."""

from perdure.testing.functions import NamesAgain

__all__ = ["InMemoryExecutionStore"]


class InMemoryExecutionStore(NamesAgain):
    """The store that a runner has without `store=`."""
