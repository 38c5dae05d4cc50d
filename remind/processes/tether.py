"""Starts a program that ends when its starter does, even when the starter is killed and can end nothing any more.

    tether.py STARTER PROGRAM ARGUMENT…       STARTER is its process id

Linux; run as a script, so that it costs next to nothing. Elsewhere it only starts the program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the program."""
    starter, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != int(starter):  # it was gone before the call
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
