"""Grey DICOM pixels: stored values → meaningful values (Hounsfield units, …) → which of them are black and white.

Letters: D frames or slices, H rows, W columns.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.attributes import attribute
from remind.data.files.pixels import Pixels, Scale, Window, check_values, ends, own_range
from remind.data.files.voi import View, table, view

if TYPE_CHECKING:
    from pydicom import Dataset


def pixels(datasets: "list[Dataset]", stored: list[NDArray[Any]], window: Window | None, inverted: bool) -> Pixels:
    """Convert the frames of one or more files to numbers with a common black and white.

    Parameters
    ----------
    datasets, stored
        Files and their stored values, (D, H, W) each.
    window
        (centre, width) in units of the rescaled values; overrides the files' own.
    inverted
        Whether the lowest value is white (MONOCHROME1).

    Raises
    ------
    Unreadable
        Some values are not finite.
    """
    frames = [(dataset, i) for dataset, array in zip(datasets, stored, strict=True) for i in range(len(array))]
    values_DHW = np.empty((len(frames), *stored[0].shape[1:]), dtype=np.float32)
    padded_DHW = np.zeros(values_DHW.shape, dtype=np.bool_)
    d = 0
    for dataset, array in zip(datasets, stored, strict=True):
        for i, stored_HW in enumerate(array):
            values_DHW[d] = _meant(stored_HW, dataset, i)
            padded_DHW[d] = _padding(stored_HW, dataset)
            d += 1
    check_values(values_DHW)
    # Slices with different windows would not be comparable, so one range is used for all of them.
    views = {view(dataset, i) for dataset, i in frames} if window is None else set()
    shared = views.pop() if len(views) == 1 else None
    scale: Scale = "file"
    if window is not None:
        (black, white), scale = ends(window), "window"
    elif isinstance(shared, View) and shared.ends is not None:
        black, white = shared.ends
    elif shared is not None:
        values_DHW, black, white = shared.curve(values_DHW), 0.0, 1.0
    elif all(_eight_bits(dataset, i) for dataset, i in frames) and stored[0].dtype.kind == "u":
        black, white, scale = 0.0, 2.0 ** int(datasets[0].BitsStored) - 1, "type"
    else:
        black, white = own_range(values_DHW[~padded_DHW] if padded_DHW.any() else values_DHW)
        scale = "own"
    if inverted:
        black, white = white, black
    values_DHW[padded_DHW] = black
    return Pixels(values_DHW, black, white, scale)


def _meant(stored_HW: NDArray[Any], dataset: "Dataset", frame: int) -> NDArray[Any]:
    """Apply the modality LUT, or the rescale slope and intercept (DICOM PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return table(dataset, "ModalityLUTSequence", dataset.get("PixelRepresentation") == 1).look_up(stored_HW)
    slope, intercept = _rescale(dataset, frame)
    return stored_HW if (slope, intercept) == (1, 0) else stored_HW * slope + intercept


def _rescale(dataset: "Dataset", frame: int) -> tuple[float, float]:
    slope, intercept = (attribute(dataset, frame, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _eight_bits(dataset: "Dataset", frame: int) -> bool:
    """Return whether the values are stored unscaled in 8 bits or fewer."""
    plain = _rescale(dataset, frame) == (1, 0) and not dataset.get("ModalityLUTSequence")
    return plain and int(dataset.get("BitsStored") or 16) <= 8


def _padding(stored_HW: NDArray[Any], dataset: "Dataset") -> NDArray[np.bool_] | bool:
    """Return the pixels outside the image (DICOM PS3.3 C.7.5.1.1.2): one value, or a range of values."""
    if dataset.get("PixelPaddingValue") is None or stored_HW.dtype.kind not in "ui":
        return False
    limits = [dataset.PixelPaddingValue, dataset.get("PixelPaddingRangeLimit")]
    # Some devices write this value unsigned although the pixels are signed, or the reverse; the bits are the same.
    low, *_, high = sorted(np.array([v for v in limits if v is not None] * 2, dtype=np.int64).astype(stored_HW.dtype))
    return np.asarray((stored_HW >= low) & (stored_HW <= high))
