"""Communication between SuperNode and supervisor: a JSON line per event on standard output, and a variable."""

import json
from typing import Any

MARK = "remind-note "
WORKER = "REMIND_WORKER_SOCKET"  # passes the path of the warm worker's socket, if any, to the SuperNode


def tell(what: str, **more: Any) -> None:
    """Write an event."""
    print(MARK + json.dumps({"what": what, **more}), flush=True)


def read_note(line: str) -> dict[str, Any] | None:
    """Parse an event from a line of output; None for other lines."""
    if not line.startswith(MARK):
        return None
    try:
        note = json.loads(line.removeprefix(MARK))
    except ValueError:
        return None
    return note if isinstance(note, dict) and "what" in note else None
