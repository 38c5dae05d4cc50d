"""NumPy's .npy files: memory-mapped, never unpickled."""

from pathlib import Path

import numpy as np

from remind.data.files.errors import Unreadable
from remind.data.files.pixels import Pixels, Window, check_shape, plain, shape_text


def decode(path: Path, window: Window | None, stack: bool) -> Pixels:
    """Decode the frames of a .npy file: (D, H, W[, 3]) for a `stack`, else (H, W[, 3])."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # an array of objects, an invalid header, or fewer bytes than the header promises
        raise Unreadable(
            "is truncated, or not an array of numbers", "save it again with numpy.save, for example as uint8"
        ) from None
    return from_array(array, window, stack)


def from_array(array: np.ndarray, window: Window | None, stack: bool) -> Pixels:
    """Return the frames of an array: (D, H, W[, 3]) for a `stack`, else (H, W[, 3]).

    Raises
    ------
    Unreadable
        The dimensions are wrong, the array is too large, or some values are not finite numbers.
    """
    plane = 3 if stack else 2
    colour = array.ndim == plane + 1 and array.shape[-1] == 3
    if array.ndim != plane and not colour:
        shapes = "D×H×W or D×H×W×3" if stack else "H×W or H×W×3"
        kind = "a volume or video" if stack else "an image"
        other = "an image" if stack else "a volume or video"
        raise Unreadable(
            f"is an array of shape {shape_text(array.shape) or 'nothing'}, {kind} is {shapes}",
            f"save it in that shape, or declare it as {other}",
        )
    frames = array if stack else array[None]
    check_shape(frames.shape[:3])
    return plain(frames, window)
