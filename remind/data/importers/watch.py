"""Checks the quotation marks of a .csv while it is read: an unclosed one would take whole rows into its cell."""

from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np

from remind.data.cohort.csv_layout import NEVER_CLOSED, quoted
from remind.errors import UserError

LONGEST = 1 << 27  # bytes of an incomplete line that are kept until its end arrives


class Watch(RawIOBase):
    """A stream of bytes that records the first quotation mark that must be wrong."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self._rest = b""
        self._inside = False
        self._line = self._opened = 1
        self._mistake: tuple[int, str] | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data: bytes = self._stream.read(size) if size >= 0 else self._stream.read()
        if self._mistake is None:
            self._look(data)
        return data

    def check(self, path: Path) -> None:
        """Raise a UserError if a mistake was found."""
        if self._mistake is not None:
            line, what = self._mistake
            remedy = "use the file as it was released; a program that rewrote it must double the marks within a cell"
            raise UserError(f"{path}, line {line}: {what}; {remedy}")

    def _look(self, data: bytes) -> None:
        """Check all complete lines; the incomplete last one waits for its end."""
        block = self._rest + data
        cut = block.rfind(b"\n") + 1 if data else len(block)
        if not cut and len(block) > LONGEST:
            cut = len(block)
        lines, self._rest = block[:cut], block[cut:]
        found = quoted(np.frombuffer(lines, dtype=np.uint8), self._inside)
        if found.inside and len(found.open_C) and found.open_C[-1] >= 0:
            self._opened = self._line + lines.count(b"\n", 0, int(found.open_C[-1]))
        if found.mistake is not None:
            self._mistake = self._opened, found.mistake[1]
        elif not data and found.inside:
            self._mistake = self._opened, NEVER_CLOSED
        self._line += lines.count(b"\n")
        self._inside = found.inside
