"""The order of DICOM slices: a folder's files, or a multi-frame file's frames."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.files.attributes import numbers
from remind.data.files.errors import Unreadable, inside

if TYPE_CHECKING:
    from pydicom import Dataset

PARALLEL = 0.999  # cosine of the angle between two slices' normals: 2.5 degrees
APART = 1e-3  # mm between two slices that are not at one place
KEEP_ONE = "keep the slices of one series alone in the folder"
ALIKE = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "PixelRepresentation")


def in_order(folder: Path, read: Callable[[Path], "Dataset"]) -> tuple[list["Dataset"], list[str]]:
    """Slices of the one series in a folder, in order, and the names of their files.

    They are sorted by the place of ImagePositionPatient along the normal of ImageOrientationPatient (DICOM PS3.3
    C.7.6.2.1.1); where these are lacking, or all slices lie at one place as in a film of the heart, by InstanceNumber.
    Hidden files and a DICOMDIR are passed over. A single file may hold several frames.

    Raises
    ------
    Unreadable
        No files, or others than DICOM; several series, sizes or directions; slices without an order, or several
        at one place.
    """
    paths = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name != "DICOMDIR")
    if not paths:
        raise Unreadable("is a folder without files", "put the DICOM slices of one series there, or correct the path")
    datasets = []
    for path in paths:
        with inside(path.name):
            _check_dicom(path)
            datasets.append(read(path))
    if len(paths) > 1:
        _check_alike(datasets, [path.name for path in paths])
    order = _order(datasets)
    return [datasets[i] for i in order], [paths[i].name for i in order]


def along_normal(slices: Sequence[tuple["Dataset", int]]) -> list[int] | None:
    """Positions of slices (a dataset and its frame) in ascending order along their common normal.

    None where geometry does not tell: attributes lacking, slices that are not parallel, or all at one place.

    Raises
    ------
    Unreadable
        Some at one place, others not: several times or echoes in one volume.
    """
    position_D3 = [numbers(dataset, frame, "ImagePositionPatient", 3) for dataset, frame in slices]
    axes_D6 = [numbers(dataset, frame, "ImageOrientationPatient", 6) for dataset, frame in slices]
    if any(one is None for one in (*position_D3, *axes_D6)):
        return None
    normal = _common_normal(axes_D6)
    if normal is None:
        return None
    place_D = np.array(position_D3, dtype=np.float64) @ normal
    order = np.argsort(place_D, kind="stable")
    apart = np.diff(place_D[order]) > APART
    if apart.all():
        return [int(i) for i in order]
    if apart.any():
        raise Unreadable("several slices lie at one place", "keep one time or echo of the volume")
    return None


def _order(datasets: list["Dataset"]) -> list[int]:
    if len(datasets) == 1:
        return [0]
    order = along_normal([(dataset, 0) for dataset in datasets])
    if order is not None:
        return order
    instance = [dataset.get("InstanceNumber") for dataset in datasets]
    if None in instance or len(set(instance)) < len(instance):
        what = "its slices cannot be put in order: neither their positions nor their Instance Numbers (0020,0013) do so"
        raise Unreadable(what, "export the series again with both")
    return sorted(range(len(datasets)), key=lambda i: int(instance[i]))


def _check_dicom(path: Path) -> None:
    from pydicom.misc import is_dicom

    if not path.is_file() or not is_dicom(path):
        raise Unreadable("is no DICOM file", KEEP_ONE)


def _check_alike(datasets: list["Dataset"], names: list[str]) -> None:
    """One series of single slices, of one size and kind, in one direction."""
    series = len({dataset.get("SeriesInstanceUID") for dataset in datasets})
    if series > 1:
        raise Unreadable(f"holds slices of {series} series", KEEP_ONE)
    for dataset, name in zip(datasets, names, strict=True):
        if (dataset.get("NumberOfFrames") or 1) > 1:
            raise Unreadable(f"{name} in it holds several frames, beside other files", "name that file itself")
        for keyword in ALIKE:
            if dataset.get(keyword) != datasets[0].get(keyword):
                raise Unreadable(f"{names[0]} and {name} in it differ in {keyword}", KEEP_ONE)
    axes = [numbers(dataset, 0, "ImageOrientationPatient", 6) for dataset in datasets]
    if None not in axes and _common_normal(axes) is None:
        raise Unreadable("its slices are not parallel", f"{KEEP_ONE}, without localisers")


def _common_normal(axes_D6: Sequence[Any]) -> NDArray[np.float64] | None:
    """Unit vector at right angles to the rows and columns of all slices, or None."""
    axes = np.array(axes_D6, dtype=np.float64)
    normal_D3 = np.cross(axes[:, :3], axes[:, 3:])
    length_D1 = np.linalg.norm(normal_D3, axis=1, keepdims=True)
    if not (length_D1 > 0).all():
        return None
    normal_D3 /= length_D1
    return np.asarray(normal_D3[0]) if (normal_D3 @ normal_D3[0] > PARALLEL).all() else None
