"""The masks of patients whose outcome is one: a file each, opened when a batch needs it.

Letters: R rows of the patients file, N patients, D, H, W sides of a volume.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from remind.data.cohort.contents import OnePerPatient
from remind.data.cohort.examine import Finding, examine_paths
from remind.data.cohort.problems import Problem
from remind.data.cohort.verdicts import Memory
from remind.data.files import Sight
from remind.data.files.mask import Numbers, fit_mask, read_mask
from remind.errors import UserError
from remind.outcomes.base import LabelSection, MaskForm

FOLDER = "masks"  # of a cohort that is written


@dataclass(frozen=True, eq=False)
class Masks(OnePerPatient):
    """One mask per patient: the path of its file, an array (D, H, W), or None.

    Attributes
    ----------
    form
        Size and numbers of the masks.
    resize
        Whether this site's masks are resampled to that size.
    """

    form: MaskForm
    resize: bool = False

    def load(self, patient: int) -> Numbers:
        """Return the numbers of a patient's voxels (D, H, W); zeros for a patient without a mask.

        Raises
        ------
        Unreadable
            The file has changed since it was examined.
        """
        source = self.source_N[patient]
        if source is None:
            return np.zeros(self.form.size, dtype=np.uint8)
        if isinstance(source, Path):
            return read_mask(source, self.form.size, self.form.values, self.resize)
        return fit_mask(source, self.form.size, self.form.values, self.resize)

    @override
    def converted(self) -> str:
        return f"mask {self.form} {self.resize}"

    def examine(self, memory: Memory | None = None) -> Mapping[int, Finding]:
        """Open every file once, and return what is wrong with it, by the patient's position."""
        at = {i: source for i, source in enumerate(self.source_N) if isinstance(source, Path)}
        return examine_paths(at, self.converted(), self._look, memory).findings

    def _look(self, path: Path) -> Sight:
        numbers = read_mask(path, self.form.size, self.form.values, self.resize)
        depth, rows, columns = numbers.shape
        return Sight((depth, rows, columns), flat=not numbers.any())

    def problems(self, who_N: NDArray[np.str_], column: str, memory: Memory | None = None) -> list[Problem]:
        """Return a problem for each file that cannot be used, with its patient."""
        found = []
        for i, finding in sorted(self.examine(memory).items()):
            path = self.source_N[i]
            who = f"mask of patient {who_N[i]}: {finding.what}"
            found.append(Problem(path.name, who, finding.remedy, column=column, value=str(path)))
        return found

    def copied(self, folder: Path) -> list[str | None]:
        """Copy or write the masks into a cohort's folder, and return their paths relative to it."""
        (folder / FOLDER).mkdir()
        return [
            None
            if source is None
            else self._written(source, folder / FOLDER / f"{i:06d}").relative_to(folder).as_posix()
            for i, source in enumerate(self.source_N)
        ]

    @staticmethod
    def _written(source: Any, stem: Path) -> Path:
        if not isinstance(source, Path):
            path = stem.with_suffix(".npy")
            np.save(path, source, allow_pickle=False)
            return path
        if not source.exists():
            raise UserError(f"{source}: no such file; it was there when the cohort was read, put it back")
        path = stem.with_name(stem.name + "".join(source.suffixes[-2:]))
        shutil.copyfile(source, path)
        return path


def masks_of(label: LabelSection, source_R: NDArray[np.object_] | None) -> Masks | None:
    """Return the masks that a cohort declares; None for an outcome that is no mask."""
    form = label.outcome.mask
    if form is None or source_R is None:
        return None
    return Masks(source_R, form, bool(getattr(label, "resize", False)))
