"""For commands that run the author's code here: load it, and keep what it prints off stdout."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

from perdure.cli.exits import CliError, Exit
from perdure.worker.loading import Handlers, NotLoaded, load_functions


@contextlib.contextmanager
def quiet_stdout() -> Iterator[TextIO]:
    """What handlers print goes to stderr: stdout is for the result alone."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield stdout


def handlers_of(reference: str) -> Handlers:
    """The functions of `MODULE_OR_FILE[:HANDLER]`, and their module. Raises CliError if they can't be had."""
    try:
        return load_functions(reference)
    except NotLoaded as error:
        raise CliError(str(error), Exit.USAGE, hint=error.hint, kind="HandlerNotLoaded") from error
