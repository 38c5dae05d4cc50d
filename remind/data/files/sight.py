"""What a readable file is like: what `remind data check` warns of, found while the file is decoded anyway.

Letters: D slices or frames, H rows, W columns.
"""

from dataclasses import dataclass

import numpy as np

from remind.data.files.pixels import HOLE, RANGE, Pixels, Remark

# Share of the values from black to white below which a picture is dark or pale, by bytes of a value. 14 bits stored as
# 16 are one quarter. Of 8 bits, a picture may be dark by itself: there it must be less.
LITTLE = {1: 1 / 8, 2: 1 / 4}


@dataclass(frozen=True)
class Sight:
    """One file as it was decoded.

    Attributes
    ----------
    shape
        D, H, W as in the file.
    flat
        Whether one grey value is shown all over.
    lies
        Where D, H and W point, as `Pixels.lies`.
    scale
        What decides on black and white, as `Pixels.scale`.
    remarks
        What is seldom meant.
    """

    shape: tuple[int, int, int]
    flat: bool
    lies: str = ""
    scale: str = ""
    remarks: tuple[Remark, ...] = ()


def sight_of(pixels: Pixels) -> Sight:
    """What decoded pixels are like; one pass over them."""
    extremes_D2 = np.array([(frame.min(), frame.max()) for frame in pixels.array], dtype=np.float64)
    least, most = float(extremes_D2[:, 0].min()), float(extremes_D2[:, 1].max())
    low, high = sorted((pixels.black, pixels.white))
    shown = np.clip((least, most), low, high)
    flat = bool(shown[0] == shown[1])
    remarks = list(pixels.remarks)
    if not flat:
        remarks += _blank(extremes_D2)
        remarks += _range(pixels, least, most)
    depth, rows, columns = pixels.array.shape[:3]
    return Sight((depth, rows, columns), flat, pixels.lies, pixels.scale, tuple(remarks))


def _blank(extremes_D2: np.ndarray) -> list[Remark]:
    """Slices of one value between slices with a picture: some converters fill a hole in this way."""
    blank_D = extremes_D2[:, 0] == extremes_D2[:, 1]
    pictures = np.flatnonzero(~blank_D)
    inner = np.flatnonzero(blank_D[: pictures[-1]]) if len(pictures) else np.array([], dtype=np.int64)
    inner = inner[inner > pictures[0]] if len(inner) else inner
    if not len(inner):
        return []
    which = ", ".join(str(d + 1) for d in inner[:5]) + (" …" if len(inner) > 5 else "")
    one, hold = ("slice", "holds") if len(inner) == 1 else ("slices", "hold")
    return [Remark(HOLE, f"{one} {which} of {len(blank_D)} {hold} one value all over")]


def _range(pixels: Pixels, least: float, most: float) -> list[Remark]:
    """Whether the range of the type is the range of the picture; a window or the file's own range was chosen to fit."""
    span, range_ = most - least, abs(pixels.white - pixels.black)
    little = LITTLE.get(pixels.array.dtype.itemsize, LITTLE[1])
    if pixels.scale != "type" or range_ <= 1 or span > little * range_:
        return []
    low, high = sorted((pixels.black, pixels.white))
    return [Remark(RANGE, f"values {least:g} … {most:g} of {low:g} … {high:g}")]
