"""Properties of a readable file that `remind data check` warns about. They are found while the file is decoded anyway.

Letters: D slices or frames, H rows, W columns.
"""

from dataclasses import dataclass

import numpy as np

from remind.data.files.pixels import HOLE, RANGE, Pixels, Remark

# Smallest share of the range from black to white that the values must use; a smaller one makes a picture dark or pale.
# Keys are bytes per value. 14 bits stored as 16 use one quarter. An 8-bit picture may really be dark, so its limit is
# lower.
LITTLE = {1: 1 / 8, 2: 1 / 4}


@dataclass(frozen=True)
class Sight:
    """Properties of one decoded file.

    Attributes
    ----------
    shape
        D, H, W as in the file.
    flat
        Whether the picture shows only one grey value.
    lies
        Directions of D, H and W, as `Pixels.orientation`.
    scale
        Source of black and white, as `Pixels.scale`.
    remarks
        Properties that are probably a mistake.
    """

    shape: tuple[int, int, int]
    flat: bool
    orientation: str = ""
    scale: str = ""
    remarks: tuple[Remark, ...] = ()


def sight_of(pixels: Pixels) -> Sight:
    """Return the properties of decoded pixels in one pass over them."""
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
    return Sight((depth, rows, columns), flat, pixels.orientation, pixels.scale, tuple(remarks))


def _blank(extremes_D2: np.ndarray) -> list[Remark]:
    """Count slices with one value between slices with a picture: some converters fill a gap this way."""
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
    """Check whether the picture uses the range of its type. A window or the file's own range always fits."""
    span, range_ = most - least, abs(pixels.white - pixels.black)
    little = LITTLE.get(pixels.array.dtype.itemsize, LITTLE[1])
    if pixels.scale != "type" or range_ <= 1 or span > little * range_:
        return []
    low, high = sorted((pixels.black, pixels.white))
    return [Remark(RANGE, f"values {least:g} … {most:g} of {low:g} … {high:g}")]
