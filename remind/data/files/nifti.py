"""NIfTI (.nii and .nii.gz): scaled values, in one anatomical orientation."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.errors import Unreadable
from remind.data.files.pixels import (
    NOWHERE,
    Pixels,
    Remark,
    Window,
    check_shape,
    check_values,
    ends,
    own_range,
    shape_text,
)

CANONICAL = "SPL"  # directions of D, H and W after conversion to the layout of an axial DICOM series


def decode(path: Path, window: Window | None) -> Pixels:
    """Decode the frames of a NIfTI file.

    The axes are reordered to the closest canonical order (right, anterior, superior, like nibabel's
    `as_closest_canonical`) and then to the layout of an axial DICOM series: D to the head, H to the back, W to the
    patient's left. A file with one slice gives that slice as its frame, in any plane; if it also has a time axis, the
    times are the frames.

    Raises
    ------
    Unreadable
        The file holds volumes over time, vectors or colours, or its affine does not span space.
    """
    nibabel = _nibabel()
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise Unreadable("is NIfTI without a volume", "save the volume as .nii or .nii.gz")
    shape_XYZT = _spatial(image.shape)
    if len(shape_XYZT) > 4 or (len(shape_XYZT) == 4 and 1 not in shape_XYZT[:3]):
        what = f"is {shape_text(image.shape)}: several volumes in one file"
        raise Unreadable(what, "keep one volume per file; a video is one slice over time (X×Y×1×T)")
    check_shape((math.prod(shape_XYZT[2:]), *shape_XYZT[:2]))
    if image.get_data_dtype().kind not in "buif":
        raise Unreadable("holds colours or complex numbers", "save it with one real number per voxel")
    values_XYZT = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape_XYZT)
    frames_DHW, orientation = _laid(nibabel, values_XYZT, image.affine)
    check_values(frames_DHW)
    remarks: tuple[Remark, ...] = ()
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        remarks, orientation = (Remark(NOWHERE, "sform_code and qform_code are 0"),), ""
    black, white = own_range(frames_DHW) if window is None else ends(window)
    return Pixels(frames_DHW, black, white, "own" if window is None else "window", orientation, remarks)


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an image with at least three axes. Further axes are kept only if they have more than one entry."""
    shape = (*shape, 1, 1, 1)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _laid(nibabel: Any, values_XYZT: NDArray[np.float32], affine: NDArray[Any]) -> tuple[NDArray[np.float32], str]:
    """Return the frames and the directions of their axes."""
    orientation = nibabel.io_orientation(affine)
    if np.isnan(orientation).any():
        raise Unreadable("has an affine that does not span space", "correct its sform or qform")
    canonical = nibabel.apply_orientation(values_XYZT, orientation)
    frames = np.swapaxes(canonical[::-1, ::-1], 0, 2)  # superior, posterior, left[, time]
    axes = CANONICAL
    if 1 in frames.shape[:3]:
        single = frames.shape[:3].index(1)
        frames = np.moveaxis(frames, single, 0)
        axes = axes[single] + axes[:single] + axes[single + 1 :]
    return np.moveaxis(frames[0], -1, 0) if frames.ndim == 4 else frames, axes


@cache
def _nibabel() -> Any:
    import logging

    import nibabel

    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # errors are raised anyway
    return nibabel
