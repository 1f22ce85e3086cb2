"""Becomes another program that the kernel stops when its supervisor dies, even by SIGKILL.

Runs as a script, before the program: `python -I tether.py <supervisor pid> <command> ...`. A hook between fork and exec
would do the same, but is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGTERM at the supervisor's death, so that a service still drains, then become the command."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it died before we asked
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
