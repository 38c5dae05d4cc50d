"""NIfTI: .nii and .nii.gz, scaled, in one anatomical position."""

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

CANONICAL = "SPL"  # where D, H and W point once laid as an axial DICOM series


def decode(path: Path, window: Window | None) -> Pixels:
    """Frames of a NIfTI file.

    Axes are put into the closest canonical order (right, anterior, superior, as nibabel's `as_closest_canonical`) and
    then laid as an axial DICOM series lies: D to the head, H to the back, W to the patient's left. A file of one slice
    has that slice as its frame, whatever its plane; where it has a time axis too, the times are the frames.

    Raises
    ------
    Unreadable
        Volumes over time; vectors or colours; an affine that does not span space.
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
    frames_DHW, lies = _laid(nibabel, values_XYZT, image.affine)
    check_values(frames_DHW)
    remarks: tuple[Remark, ...] = ()
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        remarks, lies = (Remark(NOWHERE, "sform_code and qform_code are 0"),), ""
    black, white = own_range(frames_DHW) if window is None else ends(window)
    return Pixels(frames_DHW, black, white, "own" if window is None else "window", lies, remarks)


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """At least three axes; more only where they hold more than one entry."""
    shape = (*shape, 1, 1, 1)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _laid(nibabel: Any, values_XYZT: NDArray[np.float32], affine: NDArray[Any]) -> tuple[NDArray[np.float32], str]:
    """Frames, and where their axes point."""
    orientation = nibabel.io_orientation(affine)
    if np.isnan(orientation).any():
        raise Unreadable("has an affine that does not span space", "correct its sform or qform")
    canonical = nibabel.apply_orientation(values_XYZT, orientation)
    frames = np.swapaxes(canonical[::-1, ::-1], 0, 2)  # superior, posterior, left[, time]
    lies = CANONICAL
    if 1 in frames.shape[:3]:
        single = frames.shape[:3].index(1)
        frames = np.moveaxis(frames, single, 0)
        lies = lies[single] + lies[:single] + lies[single + 1 :]
    return np.moveaxis(frames[0], -1, 0) if frames.ndim == 4 else frames, lies


@cache
def _nibabel() -> Any:
    import logging

    import nibabel

    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it cannot mend it raises all the same
    return nibabel
