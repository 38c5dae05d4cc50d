"""Client of the worker's socket: find it, ask for its status, stop its task. Imports no torch, so it starts fast."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

LONGEST = 1 << 16  # bytes of a request or an answer
PATIENCE = 5.0  # seconds for one


def ask_status(path: Path) -> dict[str, object] | None:
    """Return the status of the worker that listens at `path`; None if none answers."""
    return _ask(path, "status")


def ask_to_stop(path: Path) -> None:
    """Ask the worker at `path` to stop its current task; `ask_status` shows when it has stopped."""
    _ask(path, "stop")


def _ask(path: Path, what: str) -> dict[str, object] | None:
    try:
        with address_of(path) as address, socket.socket(socket.AF_UNIX) as worker:
            worker.settimeout(PATIENCE)
            worker.connect(address)
            worker.sendall(json.dumps({"do": what}).encode() + b"\n")
            status = json.loads(worker.makefile("rb").readline(LONGEST))
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Return an address for a socket; the path may exceed the 107 bytes that an address can hold."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
