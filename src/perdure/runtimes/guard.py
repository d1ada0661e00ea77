"""Outlive the server by a moment: end the processes of its sandboxes when it is gone, however it went.

A process of its own, started by the pool and run as a script with nothing but the standard library. It reads from a
pipe whose other end only the server holds: `+PID` for a process group that is there now, `-PID` for one that has ended.
At the pipe's end, which even SIGKILL brings about, it kills what is left and removes the folder in its first argument.

The alternatives: PR_SET_PDEATHSIG is Linux only, can't be set without code between fork and exec, and reaches only
the process itself; a Runtime API that does not answer any more is noticed only by a process that asks it.
"""

import os
import shutil
import signal
import sys


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        if line.startswith(b"+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    if len(sys.argv) > 1:
        shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
