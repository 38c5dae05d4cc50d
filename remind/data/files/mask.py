"""Masks: a whole number per voxel, in the same layout as the volumes (`remind.data.files.volume`).

Letters: D, H, W sides of the volume.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.decode import decode
from remind.data.files.errors import Unreadable, reading
from remind.data.files.pixels import shape_text

Numbers = NDArray[np.uint8]


def read_mask(path: Path, size: tuple[int, int, int], values: Collection[int], resize: bool) -> Numbers:
    """Read a mask (D, H, W) from NIfTI, .npy or another file that holds a volume.

    Parameters
    ----------
    size
        (D, H, W).
    values
        The numbers that a voxel may have besides 0.
    resize
        Whether a mask of another size is resampled: each voxel takes the number of the nearest one. Otherwise it is an
        error.

    Raises
    ------
    Unreadable
        With texts for `remind.data.cohort.problems.Problem`.
    """
    with reading():
        return fit_mask(decode(path, None, stack=True).array, size, values, resize)


def fit_mask(array: NDArray[Any], size: tuple[int, int, int], values: Collection[int], resize: bool) -> Numbers:
    """Convert an array in memory as `read_mask` converts a file."""
    if array.ndim != 3:
        raise Unreadable("has colours, and a mask has one number per voxel", "save it with one number per voxel")
    if not resize and array.shape != tuple(size):
        remedy = "set label.resize = true, or declare in label.size the size that the masks have"
        raise Unreadable(f"is {shape_text(array.shape)}, not {shape_text(size)}", remedy)
    found = np.unique(array)
    if not np.isfinite(found).all() or (found != np.rint(found)).any():
        remedy = "save the mask itself, with whole numbers, and not one that was interpolated"
        raise Unreadable("holds numbers that are not whole", remedy)
    if unknown := [int(n) for n in found.tolist() if n != 0 and n not in values]:
        several = f"{len(unknown)} numbers" if len(unknown) > 1 else "a number"
        what = f"holds {several} that no region has: {', '.join(map(str, unknown[:5]))}"
        known = ", ".join(map(str, sorted(values)))
        raise Unreadable(what, f"add it to a region in label.regions (they have {known}), or correct the mask")
    whole: Numbers = array.astype(np.uint8)
    for axis, (side, wanted) in enumerate(zip(array.shape, size, strict=True)):
        if side != wanted:
            nearest = ((np.arange(wanted) + 0.5) * side / wanted).astype(np.int64)
            whole = np.take(whole, nearest, axis=axis)
    return np.ascontiguousarray(whole)
