"""For commands that run the author's code here: load it, and keep what it prints off stdout."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from perdure.cli.exits import CliError, Exit
from perdure.worker.loading import NotLoaded, load_functions


@contextlib.contextmanager
def quiet_stdout() -> Iterator[TextIO]:
    """What handlers print goes to stderr: stdout is for the result alone."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield stdout


def loaded_functions(reference: str) -> dict[str, Callable[..., Any]]:
    """The functions of `MODULE_OR_FILE[:HANDLER]`, by name. Raises CliError if they can't be had."""
    try:
        return load_functions(reference).functions
    except NotLoaded as error:
        raise CliError(str(error), Exit.USAGE, hint=error.hint, kind="HandlerNotLoaded") from error
