"""What a DICOM file says should be black and white: its window, or its lookup table.

Applied here and not by pydicom 3.0, whose `apply_voi` wraps around at 256 where a table of more entries holds 8-bit
values, and whose `apply_windowing` turns black and white around under a negative rescale slope.
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

STEP = 1e-3  # width that stands for 0: a LINEAR window of width 1 is a step
LEAST = {"LINEAR": 1, "LINEAR_EXACT": 0, "SIGMOID": 0}  # width


@dataclass(frozen=True)
class View:
    """A window with its function (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    centre: float
    width: float
    function: str

    @property
    def ends(self) -> Window | None:
        """Values shown black and white by the two linear functions; None for SIGMOID.

        LINEAR: y = (x − (c − 0.5)) / (w − 1) + 0.5; LINEAR_EXACT: y = (x − c) / w + 0.5.
        """
        if self.function == "LINEAR":
            return ends((self.centre - 0.5, max(self.width - 1, STEP)))
        return ends((self.centre, self.width)) if self.function == "LINEAR_EXACT" else None

    def curve(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """SIGMOID: y = 1 / (1 + exp(−4 (x − c) / w))."""
        with np.errstate(over="ignore"):  # exp is infinite and y = 0
            return np.asarray(1 / (1 + np.exp(-4 * (x - self.centre) / self.width)), dtype=np.float32)


@dataclass(frozen=True)
class Table:
    """A lookup table (DICOM PS3.3 C.11.1.1 and C.11.2.1.1) of little-endian uint16 `entries`.

    Attributes
    ----------
    first
        Value that gets the first entry.
    bits
        Of an entry.
    entries
        As bytes, so that tables can be compared.
    """

    first: int
    bits: int
    entries: bytes

    def look_up(self, x: NDArray[Any]) -> NDArray[np.uint16]:
        """Entry of every value; one beyond the table gets its first or last entry."""
        table_E = np.frombuffer(self.entries, dtype="<u2")
        index = np.rint(x).astype(np.int64) - self.first
        return np.asarray(table_E[np.clip(index, 0, len(table_E) - 1)])

    def curve(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Entry of every value, over the range of its bits."""
        return (self.look_up(x) / np.float32(2**self.bits - 1)).astype(np.float32, copy=False)


def view(dataset: "Dataset", frame: int) -> View | Table | None:
    """What is to be seen of a frame: the VOI LUT, else the window, the first where there are several.

    None where there is neither, or a window without a width.
    """
    if dataset.get("VOILUTSequence"):
        rescaled = not dataset.get("ModalityLUTSequence")  # to what may be negative; a modality LUT's entries are not
        intercept = float(attribute(dataset, frame, "RescaleIntercept") or 0)
        return table(dataset, "VOILUTSequence", rescaled and (dataset.get("PixelRepresentation") == 1 or intercept < 0))
    centre, width = (numbers(dataset, frame, keyword, 1) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(attribute(dataset, frame, "VOILUTFunction") or "LINEAR").strip().upper()
    if centre is None or width is None or function not in LEAST:
        return None
    usable = width[0] >= LEAST[function] and width[0] > 0 and np.isfinite(centre[0]) and np.isfinite(width[0])
    return View(centre[0], width[0], function) if usable else None


def table(dataset: "Dataset", sequence: str, signed: bool) -> Table:
    """The first lookup table of a sequence; `signed`: whether the values to be looked up are.

    Raises
    ------
    Unreadable
        Entries of no possible size.
    """
    item = dataset[sequence][0]
    count, first, bits = (int(v) for v in item.LUTDescriptor)
    count = count % 2**16 or 2**16  # 16 bits hold no 65536, and may have been taken for signed
    first = (first + 2**15) % 2**16 - 2**15 if signed else first % 2**16  # as may have been the other way round
    if not 1 <= bits <= 16:
        raise Unreadable(f"a lookup table has entries of {bits} bits", DAMAGED)
    data: Any = item.LUTData
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) < 2 * count
        order = "<" if dataset.original_encoding[1] else ">"
        data = np.frombuffer(data, dtype="u1" if packed else f"{order}u2")
    entries_E = np.atleast_1d(np.asarray(data)).astype("<u2")[:count]
    return Table(first, bits, entries_E.tobytes())
