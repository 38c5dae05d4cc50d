"""The window or lookup table by which a DICOM file defines black and white.

It is applied here and not by pydicom 3.0: pydicom's `apply_voi` wraps around at 256 if a table with more entries holds
8-bit values, and its `apply_windowing` swaps black and white under a negative rescale slope.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.attributes import attribute, numbers
from remind.data.files.errors import DAMAGED, Unreadable
from remind.data.files.pixels import Window, ends

if TYPE_CHECKING:
    from pydicom import Dataset

STEP = 1e-3  # replaces a width of 0: a LINEAR window of width 1 is a step
LEAST = {"LINEAR": 1, "LINEAR_EXACT": 0, "SIGMOID": 0}  # smallest width


@dataclass(frozen=True)
class View:
    """A window with its function (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    centre: float
    width: float
    function: str

    @property
    def ends(self) -> Window | None:
        """Return the values shown black and white by the two linear functions; None for SIGMOID.

        LINEAR: y = (x − (c − 0.5)) / (w − 1) + 0.5; LINEAR_EXACT: y = (x − c) / w + 0.5.
        """
        if self.function == "LINEAR":
            return ends((self.centre - 0.5, max(self.width - 1, STEP)))
        return ends((self.centre, self.width)) if self.function == "LINEAR_EXACT" else None

    def curve(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute SIGMOID: y = 1 / (1 + exp(−4 (x − c) / w))."""
        with np.errstate(over="ignore"):  # exp becomes infinite and y = 0
            return np.asarray(1 / (1 + np.exp(-4 * (x - self.centre) / self.width)), dtype=np.float32)


@dataclass(frozen=True)
class Table:
    """A lookup table (DICOM PS3.3 C.11.1.1 and C.11.2.1.1) of little-endian uint16 `entries`.

    Attributes
    ----------
    first
        Value that is mapped to the first entry.
    bits
        Bits per entry.
    entries
        As bytes, so that tables can be compared.
    """

    first: int
    bits: int
    entries: bytes

    def look_up(self, x: NDArray[Any]) -> NDArray[np.uint16]:
        """Return the entry of every value. Values beyond the table get its first or last entry."""
        table_E = np.frombuffer(self.entries, dtype="<u2")
        index = np.rint(x).astype(np.int64) - self.first
        return np.asarray(table_E[np.clip(index, 0, len(table_E) - 1)])

    def curve(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the entry of every value, divided by the range of its bits."""
        return (self.look_up(x) / np.float32(2**self.bits - 1)).astype(np.float32, copy=False)


def view(dataset: "Dataset", frame: int) -> View | Table | None:
    """Return the view of a frame: the VOI LUT, else the window; the first if there are several.

    Returns None if there is neither, or if the window has no width.
    """
    if dataset.get("VOILUTSequence"):
        rescaled = not dataset.get("ModalityLUTSequence")  # LUT entries are not negative
        intercept = float(attribute(dataset, frame, "RescaleIntercept") or 0)
        return table(dataset, "VOILUTSequence", rescaled and (dataset.get("PixelRepresentation") == 1 or intercept < 0))
    centre, width = (numbers(dataset, frame, keyword, 1) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(attribute(dataset, frame, "VOILUTFunction") or "LINEAR").strip().upper()
    if centre is None or width is None or function not in LEAST:
        return None
    usable = width[0] >= LEAST[function] and width[0] > 0 and np.isfinite(centre[0]) and np.isfinite(width[0])
    return View(centre[0], width[0], function) if usable else None


def table(dataset: "Dataset", sequence: str, signed: bool) -> Table:
    """Return the first lookup table of a sequence. `signed` says whether the values to look up are signed.

    Raises
    ------
    Unreadable
        The entries have an impossible size.
    """
    item = dataset[sequence][0]
    count, first, bits = (int(v) for v in item.LUTDescriptor)
    count = count % 2**16 or 2**16  # 16 bits cannot hold 65536, and the count may have been read as signed
    first = (first + 2**15) % 2**16 - 2**15 if signed else first % 2**16  # the reverse may have happened here
    if not 1 <= bits <= 16:
        raise Unreadable(f"a lookup table has entries of {bits} bits", DAMAGED)
    data: Any = item.LUTData
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) < 2 * count
        order = "<" if dataset.original_encoding[1] else ">"
        data = np.frombuffer(data, dtype="u1" if packed else f"{order}u2")
    entries_E = np.atleast_1d(np.asarray(data)).astype("<u2")[:count]
    return Table(first, bits, entries_E.tobytes())
