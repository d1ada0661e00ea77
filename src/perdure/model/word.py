"""The base of every enumeration whose members travel as text."""

from enum import StrEnum


class Word(StrEnum):
    """A member is its text: it compares, hashes and prints as the string that travels.

    `Enum` hashes through a Python method, which doubles the cost of a look-up in a transition table; a string does not.
    """

    __hash__ = str.__hash__
