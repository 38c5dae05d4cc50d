"""A folder of DICOM slices: checks that they belong together, and sorts them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from remind.data.files.attributes import numbers
from remind.data.files.errors import Unreadable, inside
from remind.data.files.geometry import along_normal, common_normal

if TYPE_CHECKING:
    from pydicom import Dataset

KEEP_ONE = "keep the slices of one series alone in the folder"
ALIKE = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "PixelRepresentation")


def in_order(folder: Path, read: Callable[[Path], "Dataset"]) -> tuple[list["Dataset"], list[str]]:
    """Return the slices of the one series in a folder, in order, and the names of their files.

    They are sorted by ImagePositionPatient along the normal of ImageOrientationPatient (DICOM PS3.3 C.7.6.2.1.1). If
    these are missing, or all slices are at one position as in a film of the heart, they are sorted by InstanceNumber.
    Hidden files and a DICOMDIR are ignored. A single file may hold several frames.

    Raises
    ------
    Unreadable
        There are no files, files other than DICOM, several series, sizes or directions, slices without an order, or
        several slices at one position.
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
    """Require one series of single slices with one size, kind and direction."""
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
    if None not in axes and common_normal(axes) is None:
        raise Unreadable("its slices are not parallel", f"{KEEP_ONE}, without localisers")
