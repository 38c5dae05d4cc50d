"""What SuperNode and supervisor tell each other: one line of JSON per event on standard output, and a variable."""

import json
from typing import Any

MARK = "remind-note "
WORKER = "REMIND_WORKER_SOCKET"  # names the warm worker's socket to the SuperNode, where there is one


def tell(what: str, **more: Any) -> None:
    """Say that something happened."""
    print(MARK + json.dumps({"what": what, **more}), flush=True)


def read_note(line: str) -> dict[str, Any] | None:
    """The note in a line of output; None if it is none."""
    if not line.startswith(MARK):
        return None
    try:
        note = json.loads(line.removeprefix(MARK))
    except ValueError:
        return None
    return note if isinstance(note, dict) and "what" in note else None
