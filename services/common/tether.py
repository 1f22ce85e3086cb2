"""Becomes another program that the kernel signals when the one who started it dies, even by SIGKILL.

Run as a script before the program, see `tethered`. A hook between fork and exec would do the same, but forks: that is
unsafe in a process with threads, and gRPC's fork handlers crash the child now and then.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tethered(signum: signal.Signals, *command: str) -> tuple[str, ...]:
    """Return `command` so that it gets `signum` when this process, whose main thread starts it, has died."""
    return (sys.executable, "-I", "-S", __file__, str(int(signum)), str(os.getpid()), *command)


def main() -> None:
    """Ask the kernel (prctl PR_SET_PDEATHSIG), then become the command."""
    signum, parent, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
