"""Volumes and videos: converts one file, or a folder of DICOM slices, to (C, D, H, W)."""

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
        As for `image.read_image`; D is resampled like H and W. One range is used for the whole volume.

    Returns
    -------
    (C, D, H, W) in [0, 1]. DICOM slices are sorted along their normal and keep their acquisition planes. NIfTI is
    converted to the orientation of an axial DICOM series: D to the head, H to the back, W to the patient's left.

    Raises
    ------
    Unreadable
        With texts for `remind.data.cohort.problems.Problem`.
    """
    with reading():
        return to_volume(decode(path, window, stack=True), size, channels, resize)


def examine_volume(
    path: Path, size: tuple[int, int, int], channels: Channels, window: Window | None, resize: bool
) -> Sight:
    """Examine a volume: raise the errors of `read_volume`, or return the volume's properties."""
    with reading():
        pixels = decode(path, window, stack=True)
        to_volume(pixels, size, channels, resize)
        return sight_of(pixels)


def fit_volume(
    array: NDArray[Any], size: tuple[int, int, int], channels: Channels, resize: bool, window: Window | None = None
) -> NDArray[np.float32]:
    """Convert an array (D, H, W) or (D, H, W, 3) in memory as `read_volume` converts a file."""
    with reading():
        return to_volume(from_array(array, window, stack=True), size, channels, resize)
