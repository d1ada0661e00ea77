"""What an invocation knows of its execution. Not a contract: the names of the inside, where others look for them."""

from perdure.model.word import Word
from perdure.sdk.journal import Journal
from perdure.sdk.session import Session

__all__ = ["ExecutionState", "Journal", "ReplayStatus"]

ExecutionState = Session


class ReplayStatus(Word):
    """Whether a context goes over what is recorded already."""

    REPLAY = "REPLAY"
    NEW = "NEW"
