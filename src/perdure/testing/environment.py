"""Which environment variables Perdure reads: one that it does not read is most often misspelt, and is to be noticed."""

import warnings
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "PERDURE_"
KNOWN: Final = frozenset(
    {
        "PERDURE_ACCESS_KEY_ID",
        "PERDURE_ENDPOINT",
        "PERDURE_PLUGINS",
        "PERDURE_PROFILE",
        "PERDURE_REGION",
        "PERDURE_SANDBOX",
        "PERDURE_SECRET_ACCESS_KEY",
        "PERDURE_SESSION_TOKEN",
        "PERDURE_STORE",
        "PERDURE_STRICT",
        "PERDURE_UPDATE",
    }
)
UNREAD: Final = {"DURABLE_EXECUTION_TIME_SCALE": "time is skipped by default; skip_time=False has real time"}
"""Variables of other tools that people set for what is done otherwise here."""


class UnknownVariableWarning(UserWarning):
    """An environment variable that looks like one of Perdure's and is none."""


_warned_of: set[str] = set()


def warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Warn of variables that nobody reads, of each once in a process."""
    for name in environ:
        is_unknown = name.startswith(PREFIX) and name not in KNOWN
        if (is_unknown or name in UNREAD) and name not in _warned_of:
            _warned_of.add(name)
            text = f"the environment variable {name} is not read; {UNREAD.get(name) or _hint(name)}"
            warnings.warn(text, UnknownVariableWarning, stacklevel=4)


def _hint(name: str) -> str:
    import difflib  # for those who have misspelt one

    near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.8)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(KNOWN))}"
