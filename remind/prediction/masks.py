"""Writes the masks that a model predicts, one NIfTI file per patient, and a table of them.

Letters: D, H, W sides of a volume; W also the outputs of the model for a patient.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError
from remind.files import escape_formula, whole
from remind.outcomes.segmentation import Segmentation
from remind.processes.private_files import private_folder

OPTION = "--masks"
INDEX = "masks.csv"


class MaskFolder:
    """A new folder of predicted masks. Files are named by number, because a patient's id may be no name of a file.

    Parameters
    ----------
    folder
        A new or empty folder; its files can be read by their owner alone.
    schema
        The model's.

    Raises
    ------
    UserError
        The model predicts no mask, or the folder is not empty.
    """

    def __init__(self, folder: Path, schema: CohortSchema) -> None:
        if not isinstance(schema.predicts, Segmentation):
            raise UserError(
                f"{OPTION}: this model predicts no mask but {schema.predicts.describe()}; leave {OPTION} out"
            )
        self.folder, self.outcome = folder, schema.predicts
        self._written: list[tuple[str, str]] = []
        with self._usable("read"):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise UserError(f"{OPTION} {folder}: not a new or empty folder; name one")

    def write(self, patient: str, raw_W: NDArray[np.float64]) -> None:
        """Write a patient's mask, in the numbers of the masks that the model learned from; the first makes the folder.

        Raises
        ------
        UserError
            The file cannot be written.
        """
        import nibabel

        self._make()
        numbers_DHW = self.outcome.numbers(raw_W[None])[0].reshape(self.outcome.size)
        depth, height, width = self.outcome.spacing
        # voxels are counted to the patient's left, back and head, as `remind.data.files.nifti` lays them out
        image = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
            np.swapaxes(numbers_DHW, 0, 2), np.diag([-width, -height, depth, 1.0])
        )
        name = f"{len(self._written):06d}.nii.gz"
        try:
            with whole(self.folder / name, private=True) as partial:
                partial.write_bytes(_compressed(image.to_bytes()))
        except OSError as error:
            raise UserError(f"{OPTION} {self.folder}: cannot be written: {error.strerror}; make room there") from None
        self._written.append((patient, name))

    def _make(self) -> None:
        if not self.folder.is_dir():
            with self._usable("made"):
                private_folder(self.folder)

    @contextmanager
    def _usable(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{OPTION} {self.folder}: cannot be {what}: {error.strerror}; name another folder"
            ) from None

    def finish(self) -> None:
        """Write the table of patients and files."""
        self._make()
        with (
            whole(self.folder / INDEX, private=True) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("patient_id", "path"))
            writer.writerows((escape_formula(patient), name) for patient, name in self._written)


def _compressed(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)
