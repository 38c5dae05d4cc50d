"""Detects the type of a file by its content and selects the reader for it."""

from pathlib import Path

from remind.data.files import dicom, nifti, npy, picture
from remind.data.files.errors import Unreadable
from remind.data.files.pixels import Pixels, Window

NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", ".ima")
DICM = b"DICM"  # at byte 128
FILMS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


def decode(path: Path, window: Window | None, stack: bool) -> Pixels:
    """Decode the frames of a file, or of a folder with a DICOM series.

    Parameters
    ----------
    path
        PNG, JPEG, TIFF, GIF, BMP, DICOM or .npy, detected by content, or NIfTI, detected by name.
    window
        (centre, width) that overrides the window of the file.
    stack
        True if frames are expected (a volume or a video), False for one image. It decides how a 3-D .npy array is read,
        and whether a folder is accepted.

    Raises
    ------
    Unreadable
        The file cannot be decoded.
    """
    if path.is_dir():
        if not stack:
            raise Unreadable("is a folder, an image is one file", "name a file, or declare it as a volume")
        return dicom.decode(path, window)
    head = _head(path)
    name = path.name.lower()
    if not head:
        raise Unreadable("is empty", "export it again, or remove its row")
    if head[128:] == DICM:
        return dicom.decode(path, window)
    if head.startswith(b"\x93NUMPY"):
        return npy.decode(path, window, stack)
    if name.endswith(NIFTI):
        return nifti.decode(path, window)
    if name.endswith(FILMS):
        raise Unreadable("is a film file, which is not decoded", "convert it to multi-frame DICOM or to .npy (D×H×W)")
    if name.endswith(DICOM):
        raise Unreadable("is no DICOM file: DICM is missing at byte 128", "export it again as a DICOM file (Part 10)")
    return picture.decode(path, window)


def is_dicom(path: Path) -> bool:
    """Return whether the DICOM reader handles a readable file. Its result then depends on the decoders installed."""
    return path.is_dir() or _head(path)[128:] == DICM


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)
