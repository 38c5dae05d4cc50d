"""Checks that a TIFF has all its pages: Pillow reads a truncated chain of pages as a shorter file without an error."""

import struct
from pathlib import Path

from remind.data.files.errors import DAMAGED, Unreadable

BIG = 43
STARTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # byte order and version


def check_pages(path: Path) -> None:
    """Follow the chain of a TIFF's image file directories to its end. Other files pass.

    TIFF 6.0, section 2: the header holds the offset of the first directory. A directory holds a count, that many
    entries, and the offset of the next directory, 0 after the last. BigTIFF has the same structure with wider fields.

    Raises
    ------
    Unreadable
        The chain points outside the file, or contains a cycle.
    """
    with path.open("rb") as file:
        order = STARTS.get(file.read(4))
        if order is None:
            return

        def number(at: int, code: str) -> int:
            file.seek(at)
            value = file.read(struct.calcsize(code))
            if len(value) < struct.calcsize(code):
                raise Unreadable("is truncated", DAMAGED)
            return int(struct.unpack(f"{order}{code}", value)[0])

        big = number(2, "H") == BIG
        count, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
        seen: set[int] = set()
        place = number(8, link) if big else number(4, link)
        while place:
            if place in seen:
                raise Unreadable("is damaged: its pages follow each other in a circle", DAMAGED)
            seen.add(place)
            place = number(place + struct.calcsize(count) + entry * number(place, count), link)
