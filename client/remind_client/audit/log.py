"""The log on disk: files ``audit-000001.jsonl``, …, with one hash chain through all of them.

Several processes write (the supervisor, the worker). Each one holds a lock, continues the chain from the last line on
disk, and calls fsync before `append` returns.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from remind.errors import UserError
from remind.processes.locks import locked
from remind.processes.private_files import append_private, private_folder, sync, write_private
from remind_client.audit.chain import GENESIS, Entry, Head, head_of, parse, sealed
from remind_client.audit.events import Event, Recovered, Rotated

PATTERN = "audit-*.jsonl"
_BLOCK = 1 << 16


@dataclass(frozen=True)
class AuditLog:
    """A folder of chained log files.

    Attributes
    ----------
    folder
        Where the files are; the first write creates it.
    rotate_bytes
        When a file reaches this size, the next entry goes to a new file.
    """

    folder: Path
    rotate_bytes: int = 16 << 20

    def append(self, event: Event) -> Head:
        """Write an event; returns the new head.

        Raises
        ------
        OSError
            If the entry cannot be written. The caller must then not do what it wanted to log.
        UserError
            If the last line is complete but was changed: the log then accepts no entry until somebody has examined it.
        """
        with locked(private_folder(self.folder) / "lock"):
            path = _newest(self.folder)
            if path is None:
                path, head = self.folder / _file_name(1), Head()
            else:
                head = _recover(path)
                if path.stat().st_size >= self.rotate_bytes:
                    path = self.folder / _file_name(int(path.stem.partition("-")[2]) + 1)
                    head = _write(path, Rotated(file=path.name), head)
            return _write(path, event, head)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in order, without damaged lines (`verify` reports those)."""
        for path in segments(self.folder):
            for line in path.read_bytes().split(b"\n"):
                if (entry := parse(line)) is not None:
                    yield entry

    def last(self, event: str) -> Entry | None:
        """Return the newest entry of a kind."""
        for path in reversed(segments(self.folder)):
            for line in reversed(path.read_bytes().split(b"\n")):
                entry = parse(line)
                if entry is not None and entry.get("event") == event:
                    return entry
        return None


def segments(folder: Path) -> list[Path]:
    """Return the log's files, oldest first."""
    return sorted(folder.glob(PATTERN))


def tail(file: BinaryIO) -> tuple[bytes, bytes]:
    """Return the last complete line of a file, without its newline, and the bytes after it."""
    end = file.seek(0, os.SEEK_END)
    start, held = end, b""
    while start > 0 and held.count(b"\n") < 2:
        start = max(0, start - _BLOCK)
        file.seek(start)
        held = file.read(end - start)
    *before, rest = held.split(b"\n")
    return (before[-1] if before else b""), rest


def _newest(folder: Path) -> Path | None:
    return segments(folder)[-1] if segments(folder) else None


def _file_name(number: int) -> str:
    return f"audit-{number:06d}.jsonl"


def _recover(path: Path) -> Head:
    """Return the head of a file whose last line may be incomplete.

    Move an incomplete line to a separate file and log that.
    """
    with path.open("r+b") as file:
        line, rest = tail(file)
        if rest and parse(rest) is not None:  # complete except for its newline
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
            sync(file)
            line, rest = rest, b""
        head = _head(path, line)
        if not rest:
            return head
        digest = hashlib.sha256(rest).hexdigest()
        write_private(path.parent / f"unfinished-{digest[:16]}", rest)
        file.seek(-len(rest), os.SEEK_END)
        file.truncate()
        sync(file)
    return _write(path, Recovered(bytes=len(rest), sha256=digest), head)


def _head(path: Path, line: bytes) -> Head:
    if not line:  # nothing whole in the file: on from the one before
        earlier = [other for other in segments(path.parent) if other < path]
        if not earlier:
            return Head(-1, GENESIS)
        with earlier[-1].open("rb") as file:
            return _head(earlier[-1], tail(file)[0])
    entry = parse(line)
    if entry is None:
        raise UserError(
            f"{path}: the last line was changed, so nothing is added after it; see what happened with: remind-site "
            "audit verify; then move the audit folder aside, keep it, and start the site"
        )
    return head_of(entry)


def _write(path: Path, event: Event, head: Head) -> Head:
    line, following = sealed(event.model_dump(mode="json"), head, datetime.now(UTC).isoformat(timespec="milliseconds"))
    append_private(path, line)
    return following
