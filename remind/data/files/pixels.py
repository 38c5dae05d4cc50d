"""Decoded pixels, the values that are black and white, and the conversion to [0, 1].

Letters: D slices or frames, H rows, W columns, C channels.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from remind.data.files.errors import Unreadable

Channels = Literal[1, 3]
Window = tuple[float, float]  # centre, width > 0
Scale = Literal["window", "file", "type", "own"]
PERCENTILES = (0.5, 99.5)
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in Pillow
LARGEST = 1e37  # float32 can hold the difference of two such numbers
MOST_PIXELS = 2**26  # per frame: 8192 × 8192, several times a mammogram
MOST_VOXELS = 2**30  # of all frames together: 4 GiB as float32


HOLE, RANGE, NOWHERE, TILT = "hole", "range", "nowhere", "tilt"  # kinds of remarks


class Remark(NamedTuple):
    """A property of a readable file that is probably a mistake: its kind, and what was found."""

    kind: str
    seen: str


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded frames.

    Attributes
    ----------
    array
        (D, H, W), or (D, H, W, 3) with colours red, green, blue; any type of real numbers.
    black, white
        Values that become 0 and 1, linear in between and clipped beyond; black may be the larger one.
    scale
        The source of black and white: the cohort's window, the file, the range of the type, or the range of the values
        in the file.
    lies
        Directions of D, H and W in the patient: three of the letters R, L, A, P, S, I; empty if the file does not say.
    remarks
        Warnings that only the reader of this format can give.
    """

    array: NDArray[Any]
    black: float
    white: float
    scale: Scale
    orientation: str = ""
    remarks: tuple[Remark, ...] = ()


def plain(array: NDArray[Any], window: Window | None) -> Pixels:
    """Return frames (D, H, W[, 3]) of a format that does not define black and white.

    They are the ends of the `window`; else the ends of the type, for booleans and unsigned integers of 8 and 16 bits;
    else `own_range`.

    Raises
    ------
    Unreadable
        As `check_values`.
    """
    check_values(array)
    if window is not None:
        return Pixels(array, *ends(window), "window")
    if array.dtype == np.bool_:
        return Pixels(array, 0, 1, "type")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return Pixels(array, 0, int(np.iinfo(array.dtype).max), "type")
    return Pixels(array, *own_range(array), "own")


def ends(window: Window) -> tuple[float, float]:
    """Return the lowest and the highest value of a window: centre ± width/2, for every file format.

    This is the function LINEAR_EXACT of DICOM PS3.3 C.11.2.1.3.2.
    """
    centre, width = window
    return centre - width / 2, centre + width / 2


def own_range(values: NDArray[Any]) -> tuple[float, float]:
    """Return the values to show as black and white if nothing else defines them.

    They are the values at the percentiles 0.5 and 99.5, so that a few hot pixels do not darken all others. If these are
    equal, as in a mask with a small lesion, they are the minimum and the maximum.

    Raises
    ------
    Unreadable
        A number is larger than `LARGEST`.
    """
    if not values.size:
        return 0, 0
    values = values.astype(np.float32) if values.dtype.itemsize <= 2 else values
    least, most = float(values.min()), float(values.max())
    if max(-least, most) > LARGEST:
        raise Unreadable("holds numbers too large to compute with", "save it with smaller numbers")
    low, high = (float(v) for v in np.percentile(values, PERCENTILES, method="nearest"))
    return (low, high) if low < high else (least, most)


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse empty D, H, W, or more pixels than a machine should decode. Call it before decoding.

    Raises
    ------
    Unreadable
        One of them is 0, a frame has more than `MOST_PIXELS`, or all frames together have more than `MOST_VOXELS`.
    """
    frames, rows, columns = (int(n) for n in shape)
    if min(frames, rows, columns) < 1:
        raise Unreadable(f"holds no pixels: {shape_text(shape)}", "leave it out, or export it again")
    if rows * columns > MOST_PIXELS or frames * rows * columns > MOST_VOXELS:
        raise Unreadable(f"is too large: {shape_text(shape)} pixels", "crop it or make it smaller")


def check_values(array: NDArray[Any]) -> None:
    """Refuse an array that does not hold finite real numbers.

    Raises
    ------
    Unreadable
        The array holds text, complex numbers, records, NaN or infinite numbers.
    """
    if array.dtype.kind not in "buif":
        raise Unreadable(f"holds {array.dtype.name}, not numbers", "save it as uint8, uint16 or float32")
    if array.dtype.kind == "f":
        bad = sum(int((~np.isfinite(frame)).sum()) for frame in array)  # the file may be memory-mapped
        if bad:
            raise Unreadable(f"{bad} of {array.size} values are NaN or infinite", "replace them, for instance by 0")


def shape_text(shape: tuple[int, ...]) -> str:
    """Format a shape: ``16×224×224``."""
    return "×".join(str(n) for n in shape)
