"""Converts one file of a hospital to one array: images, volumes, videos and notes.

    path → `decode` (by content: `picture`, `dicom` with `series`, `nifti`, `npy`) → `Pixels` → `fit` → [0, 1]

Everything here is a pure function of a file. Pillow, pydicom and nibabel are imported where a file first needs them,
and torch never is, so that checking a cohort starts quickly and worker processes stay small. Every
problem with a file raises `Unreadable`. Its message shows only shapes, counts and technical attributes of the content.

Letters: D slices of a volume or frames of a video, H rows, W columns, C channels.
"""

from remind.data.files.decode import is_dicom
from remind.data.files.dicom import decoders
from remind.data.files.errors import Unreadable
from remind.data.files.image import examine_image, fit_image, read_image
from remind.data.files.note import read_note
from remind.data.files.sight import Sight
from remind.data.files.volume import examine_volume, fit_volume, read_volume

__all__ = [
    "Sight",
    "Unreadable",
    "decoders",
    "examine_image",
    "examine_volume",
    "fit_image",
    "fit_volume",
    "is_dicom",
    "read_image",
    "read_note",
    "read_volume",
]
