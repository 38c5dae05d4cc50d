"""The hash chain: each entry's hash covers its content and the hash before it.

    hash_i = SHA-256(hash_{i−1} ‖ canonical JSON of entry i without its hash),   hash_{−1} = 64 zeros

A line in the log must be, byte for byte, the canonical form of its entry, so that every changed byte is detected, even
a space. The chain alone cannot detect a removed tail, or a log that was forged as a whole by someone with write access.
To detect these, note the head (`remind-site audit head`) and keep it where the site's administrator has no access.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
Entry = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """Position and hash of the last entry of a chain; sequence −1 before the first entry."""

    sequence: int = -1
    hash: str = GENESIS

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


def canonical(value: Entry) -> bytes:
    """Return JSON with sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def sealed(content: Entry, head: Head, time: str) -> tuple[bytes, Head]:
    """Return the line of an entry that follows `head`, with its newline, and the new head."""
    entry = {**content, "sequence": head.sequence + 1, "time": time, "previous": head.hash}
    digest = _digest(entry)
    return canonical({**entry, "hash": digest}) + b"\n", Head(head.sequence + 1, digest)


def parse(line: bytes) -> Entry | None:
    """Parse the entry of a line without its newline; None unless it is a complete entry with the right hash."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("sequence"), int):
        return None
    try:
        if canonical(entry) != line:
            return None
    except (ValueError, RecursionError):
        return None
    content = {name: value for name, value in entry.items() if name != "hash"}
    return entry if entry.get("hash") == _digest(content) else None


def head_of(entry: Entry) -> Head:
    """Return the head of the chain that ends with this entry."""
    return Head(entry["sequence"], entry["hash"])


def problems(lines: Iterable[bytes], head: Head | None) -> tuple[list[str], Head | None]:
    """Return the problems of lines (without newlines) that should follow `head`, and the head after them.

    Parameters
    ----------
    head
        None: the predecessor that the first line names is accepted.
    """
    found = []
    for number, line in enumerate(lines, 1):
        entry = parse(line)
        if entry is None:
            found.append(f"line {number}: changed: its content does not match its hash")
            head = None
            continue
        if head is not None and (entry["sequence"] != head.sequence + 1 or entry.get("previous") != head.hash):
            found.append(
                f"line {number}: entry {entry['sequence']} does not follow entry {head.sequence}: lines are missing, "
                "swapped or put in"
            )
        head = head_of(entry)
    return found, head


def _digest(content: Entry) -> str:
    return hashlib.sha256(str(content.get("previous")).encode() + canonical(content)).hexdigest()
