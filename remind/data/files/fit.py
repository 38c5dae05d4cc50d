"""Converts pixels to an array of the declared shape in [0, 1].

Resampling is separable and linear with a kernel as wide as the step (antialiased), in the plane and along D, so that
shrinking averages and enlarging interpolates. Each side is scaled independently: proportions are not kept.
Letters: D slices or frames, H rows, W columns, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.errors import Unreadable
from remind.data.files.pixels import LARGEST, LUMINANCE, Channels, Pixels, shape_text


def to_image(pixels: Pixels, size: tuple[int, int], channels: Channels, resize: bool) -> NDArray[np.float32]:
    """Convert the only frame to (C, H, W) in [0, 1].

    Raises
    ------
    Unreadable
        There are several frames, or H×W differs and `resize` is off.
    """
    frames = len(pixels.array)
    if frames != 1:
        raise Unreadable(f"holds {frames} frames, an image is one", "declare it as a volume or a video")
    _check_size(pixels.array.shape[1:3], size, resize)
    return _repeated(_fitted(pixels.array[0], pixels, size, channels), channels)


def to_volume(pixels: Pixels, size: tuple[int, int, int], channels: Channels, resize: bool) -> NDArray[np.float32]:
    """Convert the frames to (C, D, H, W) in [0, 1].

    Raises
    ------
    Unreadable
        There is a single frame where `size` requires several, or D×H×W differs and `resize` is off.
    """
    frames = len(pixels.array)
    if frames == 1 and size[0] > 1:
        raise Unreadable("holds a single frame, not a volume or a video", "declare it as an image")
    _check_size(pixels.array.shape[:3], size, resize)
    planes = 3 if pixels.array.ndim == 4 and channels == 3 else 1
    fitted_CDHW = np.empty((planes, frames, *size[1:]), dtype=np.float32)
    for d, frame in enumerate(pixels.array):  # one by one: a full-size video is never held as floats
        fitted_CDHW[:, d] = _fitted(frame, pixels, size[1:], channels)
    if frames != size[0]:
        area = size[1] * size[2]
        fitted_CDHW = np.stack([_resampled(one.reshape(frames, area), size[0], area) for one in fitted_CDHW])
    return _repeated(fitted_CDHW.reshape(-1, *size), channels)


def _check_size(found: tuple[int, ...], size: tuple[int, ...], resize: bool) -> None:
    if not resize and found != tuple(size):
        remedy = "set resize = true, or declare the size that the files have"
        raise Unreadable(f"is {shape_text(found)}, not {shape_text(size)}", remedy)


def _fitted(frame: NDArray[Any], pixels: Pixels, size_HW: tuple[int, int], channels: Channels) -> NDArray[np.float32]:
    """Scale and resample a frame (H, W[, 3]): (3, H, W) if it has colours and they are wanted, else (1, H, W)."""
    scaled = _scaled(frame, pixels.black, pixels.white)
    if scaled.ndim == 2:
        planes_CHW = scaled[None]
    elif channels == 1:
        planes_CHW = (scaled @ LUMINANCE)[None]
    else:
        planes_CHW = scaled.transpose(2, 0, 1)
    if planes_CHW.shape[1:] == size_HW:
        return planes_CHW
    return np.stack([_resampled(plane_HW, *size_HW) for plane_HW in planes_CHW])


def _scaled(frame: NDArray[Any], black: float, white: float) -> NDArray[np.float32]:
    if black == white:  # a frame with a single value
        return np.zeros(frame.shape, dtype=np.float32)
    small = frame.dtype.itemsize <= 2 or frame.dtype == np.float32
    enough = small and 1 / LARGEST < abs(white - black) < LARGEST  # float32 can hold the values and their quotients
    kind = np.float32 if enough else np.float64
    values: NDArray[np.floating] = frame.astype(kind, order="C")  # memory layout affects rounding
    with np.errstate(over="ignore"):  # values far beyond the window become infinite and are clipped
        values -= black
        values /= white - black
    return np.clip(values, 0, 1, out=values).astype(np.float32, copy=False)


def _resampled(plane_HW: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    from PIL import Image

    source = Image.fromarray(np.ascontiguousarray(plane_HW))
    return np.asarray(source.resize((columns, rows), Image.Resampling.BILINEAR), dtype=np.float32)


def _repeated(planes: NDArray[np.float32], channels: Channels) -> NDArray[np.float32]:
    """Repeat grey for every channel and clip rounding errors outside 0 … 1; in C order."""
    planes = np.clip(planes, 0, 1, order="C")
    return np.repeat(planes, channels, axis=0) if len(planes) < channels else planes
