"""Install the site's own ``flwr-clientapp`` first on PATH, and scripts that refuse in place of Flower's other programs.

The coordinator decides which kind of task a message becomes: a SuperNode also starts ``flwr-agentapp``, which unpacks
the bundle and imports its code. A hospital needs none of the other programs.
"""

import shlex
import sys
from pathlib import Path

from remind.files import write_whole
from remind.processes.private_files import OWNER_FOLDER, private_folder
from remind_client.flower_internals import CLIENT_APP, TASK_PROGRAMS
from remind_client.launcher import submit

OTHERS = sorted(TASK_PROGRAMS - {CLIENT_APP})
NO_WORKER = "-"


def install_launchers(folder: Path, socket: Path | None) -> None:
    """Write the launchers into a folder; the caller then puts it first on PATH.

    Parameters
    ----------
    folder
        Created if it is missing; only its owner has access.
    socket
        Where the worker listens; None: every task runs in a separate process.
    """
    private_folder(folder)
    words = [sys.executable, "-I", "-S", str(Path(submit.__file__)), str(socket or NO_WORKER), sys.executable]
    _script(folder / CLIENT_APP, f'exec {shlex.join(words)} "$@"')
    for name in OTHERS:
        _script(folder / name, f"echo '{name}: not at a hospital; the task is refused' >&2\nexit 1")


def _script(path: Path, body: str) -> None:
    def write(partial: Path) -> None:
        partial.write_text(f"#!/bin/sh\n{body}\n")
        partial.chmod(OWNER_FOLDER)  # to be run, by its owner alone

    write_whole(path, write)
