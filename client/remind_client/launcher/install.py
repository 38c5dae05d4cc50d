"""Install the site's own ``flwr-clientapp`` first on PATH, and scripts that refuse in place of Flower's other programs.

The coordinator decides which kind of task a message becomes: a SuperNode also starts ``flwr-agentapp``, which unpacks
the bundle and imports its code. A hospital needs none of the other programs.
"""

import os
import shlex
import sys
from pathlib import Path

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
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    words = [sys.executable, "-I", "-S", str(Path(submit.__file__)), str(socket or NO_WORKER), sys.executable]
    _script(folder / CLIENT_APP, f'exec {shlex.join(words)} "$@"')
    for name in OTHERS:
        _script(folder / name, f"echo '{name}: not at a hospital; the task is refused' >&2\nexit 1")


def _script(path: Path, body: str) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(f"#!/bin/sh\n{body}\n")
    partial.chmod(0o700)
    os.replace(partial, path)
