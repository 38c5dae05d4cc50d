"""The geometry of DICOM slices in the patient: their order, their spacing, and warnings about the spacing.

A slice is a dataset and its frame, counted from 0. Letters: D slices, 3 the patient's axes x (to the left), y (to the
back) and z (to the head), DICOM PS3.3 C.7.6.2.1.1.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.attributes import attribute, numbers
from remind.data.files.errors import Unreadable
from remind.data.files.pixels import HOLE, TILT, Remark

if TYPE_CHECKING:
    from pydicom import Dataset

PARALLEL = 0.999  # smallest cosine of the angle between the normals of parallel slices: 2.5 degrees
APART = 1e-3  # mm; slices closer than this are at one position
UNEVEN = 1.5  # largest over smallest distance of neighbours, from which a slice is probably missing
TILTED = 5.0  # degrees between the slices' normal and the line through their corners
Slices = Sequence[tuple["Dataset", int]]


def along_normal(slices: Slices) -> list[int] | None:
    """Return the positions of slices (a dataset and its frame) in ascending order along their common normal.

    Returns None if the geometry does not determine an order: attributes are missing, slices are not parallel, or all
    are at one position.

    Raises
    ------
    Unreadable
        Only some slices share a position: the volume contains several times or echoes.
    """
    found = _positions(slices)
    if found is None:
        return None
    position_D3, normal = found
    place_D = position_D3 @ normal
    order = np.argsort(place_D, kind="stable")
    apart = np.diff(place_D[order]) > APART
    if apart.all():
        return [int(i) for i in order]
    if apart.any():
        raise Unreadable("several slices lie at one place", "keep one time or echo of the volume")
    return None


def orientation_of(slices: Slices) -> str:
    """Return the nearest of R, L, A, P, S, I for the directions of D, H and W in the first slice; empty if unknown."""
    dataset, frame = slices[0]
    axes = numbers(dataset, frame, "ImageOrientationPatient", 6)
    normal = None if axes is None else common_normal([axes])
    if axes is None or normal is None:
        return ""
    return "".join(_letter(np.asarray(axis)) for axis in (normal, axes[3:], axes[:3]))


def remarks_on(slices: Slices) -> list[Remark]:
    """Return warnings about ordered slices: some seem to be missing, or the volume is sheared."""
    if len(slices) < 2:
        return []
    found, remarks = _positions(slices), []
    place_D = None if found is None else found[0] @ found[1]
    gaps_D = np.array([]) if place_D is None else np.diff(place_D)
    if len(gaps_D) and gaps_D.min() > APART and gaps_D.max() > UNEVEN * gaps_D.min():
        remarks.append(Remark(HOLE, f"distances of {gaps_D.min():.3g} to {gaps_D.max():.3g} mm between slices"))
    elif missing := _left_out(slices):
        numbers_ = "In-Stack Position Numbers" if slices[0][0] is slices[-1][0] else "Instance Numbers"
        remarks.append(Remark(HOLE, f"the {numbers_} of {len(slices)} slices leave out {missing}"))
    if found is not None and len(gaps_D) and gaps_D.min() > APART:
        way_3 = found[0][-1] - found[0][0]
        cosine = float(way_3 @ found[1] / np.linalg.norm(way_3))
        if (angle := float(np.degrees(np.arccos(min(cosine, 1.0))))) > TILTED:
            remarks.append(Remark(TILT, f"by {angle:.0f} degrees"))
    return remarks


def _left_out(slices: Slices) -> int:
    """Return how many numbers between the first and the last are missing; for frames, of In-Stack Position Numbers."""
    one_file = slices[0][0] is slices[-1][0]
    found = [
        attribute(dataset, frame, "InStackPositionNumber") if one_file else dataset.get("InstanceNumber")
        for dataset, frame in slices
    ]
    if None in found:
        return 0
    values = {int(number) for number in found}
    return max(values) - min(values) + 1 - len(values)


def _positions(slices: Slices) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the slices' corners (D, 3) in mm and their common normal (3,).

    None if the geometry does not define them.
    """
    position_D3 = [numbers(dataset, frame, "ImagePositionPatient", 3) for dataset, frame in slices]
    axes_D6 = [numbers(dataset, frame, "ImageOrientationPatient", 6) for dataset, frame in slices]
    if any(one is None for one in (*position_D3, *axes_D6)):
        return None
    normal = common_normal(axes_D6)
    return None if normal is None else (np.array(position_D3, dtype=np.float64), normal)


def _letter(axis_3: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(axis_3)))
    return ("LR", "PA", "SI")[axis][int(axis_3[axis] < 0)]


def common_normal(axes_D6: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return the unit vector perpendicular to the rows and columns of all slices, or None."""
    axes = np.array(axes_D6, dtype=np.float64)
    normal_D3 = np.cross(axes[:, :3], axes[:, 3:])
    length_D1 = np.linalg.norm(normal_D3, axis=1, keepdims=True)
    if not (length_D1 > 0).all():
        return None
    normal_D3 /= length_D1
    return np.asarray(normal_D3[0]) if (normal_D3 @ normal_D3[0] > PARALLEL).all() else None
