"""Images: one file → (C, H, W)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.decode import decode
from remind.data.files.errors import reading
from remind.data.files.fit import to_image
from remind.data.files.npy import from_array
from remind.data.files.pixels import Channels, Window
from remind.data.files.sight import Sight, sight_of


def read_image(
    path: Path, size: tuple[int, int], channels: Channels, window: Window | None, resize: bool
) -> NDArray[np.float32]:
    """Read an image.

    Parameters
    ----------
    path
        PNG, JPEG, TIFF, GIF, BMP, DICOM, NIfTI or .npy (H×W, H×W×3) with one frame.
    size
        (H, W).
    channels
        1: colours are converted to luminance; 3: grey is repeated.
    window
        (centre, width > 0) of the values that are mapped to 0 … 1, in physical units such as Hounsfield units if the
        file defines them. None: the window of the file, if it is DICOM; else the range of the type, for 8- and 16-bit
        unsigned integers; else the percentiles 0.5 and 99.5 of the file (`pixels.own_range`).
    resize
        Whether another size is resampled (antialiased, proportions not kept) or refused.

    Returns
    -------
    (C, H, W) in [0, 1], rotated as EXIF requires.

    Raises
    ------
    Unreadable
        With texts for `remind.data.cohort.problems.Problem`.
    """
    with reading():
        return to_image(decode(path, window, stack=False), size, channels, resize)


def examine_image(path: Path, size: tuple[int, int], channels: Channels, window: Window | None, resize: bool) -> Sight:
    """Examine an image: raise the errors of `read_image`, or return the image's properties."""
    with reading():
        pixels = decode(path, window, stack=False)
        to_image(pixels, size, channels, resize)
        return sight_of(pixels)


def fit_image(
    array: NDArray[Any], size: tuple[int, int], channels: Channels, resize: bool, window: Window | None = None
) -> NDArray[np.float32]:
    """Convert an array (H, W) or (H, W, 3) in memory as `read_image` converts a file."""
    with reading():
        return to_image(from_array(array, window, stack=False), size, channels, resize)
