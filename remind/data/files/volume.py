"""Volumes and videos: one file, or a folder of DICOM slices → (C, D, H, W)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.decode import decode
from remind.data.files.errors import reading
from remind.data.files.fit import to_volume
from remind.data.files.npy import from_array
from remind.data.files.pixels import Channels, Window
from remind.data.files.sight import Sight, sight_of


def read_volume(
    path: Path, size: tuple[int, int, int], channels: Channels, window: Window | None, resize: bool
) -> NDArray[np.float32]:
    """Read a volume of D slices, or a video of D frames.

    Parameters
    ----------
    path
        DICOM with several frames, a folder with the DICOM slices of one series, NIfTI, .npy (D×H×W, D×H×W×3), TIFF with
        several pages, animated GIF or PNG.
    size
        (D, H, W).
    channels, window, resize
        As for `image.read_image`; D is resampled like H and W. One range holds for the whole volume.

    Returns
    -------
    (C, D, H, W) in [0, 1]. DICOM slices lie along their normal, in the planes in which they were taken. NIfTI is
    brought into the position of an axial DICOM series: D to the head, H to the back, W to the patient's left.

    Raises
    ------
    Unreadable
        In words fit for `remind.data.cohort.problems.Problem`.
    """
    with reading():
        return to_volume(decode(path, window, stack=True), size, channels, resize)


def examine_volume(
    path: Path, size: tuple[int, int, int], channels: Channels, window: Window | None, resize: bool
) -> Sight:
    """Read a volume as `read_volume` does and raise what it raises; else what it is like."""
    with reading():
        pixels = decode(path, window, stack=True)
        to_volume(pixels, size, channels, resize)
        return sight_of(pixels)


def fit_volume(
    array: NDArray[Any], size: tuple[int, int, int], channels: Channels, resize: bool, window: Window | None = None
) -> NDArray[np.float32]:
    """As `read_volume`, for an array (D, H, W) or (D, H, W, 3) in memory."""
    with reading():
        return to_volume(from_array(array, window, stack=True), size, channels, resize)
