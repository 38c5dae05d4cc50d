"""A cohort for notebooks: the library's cohort, with methods to read and to inspect it."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from remind import groups
from remind.data.cohort.cohort import SPLITS
from remind.data.cohort.cohort import Cohort as Patients
from remind.data.cohort.read import read_cohort

if TYPE_CHECKING:
    import pandas as pd


class Cohort(Patients):
    """Patients who share a schema (`remind.data.cohort.cohort.Cohort`); N patients, m modalities."""

    @classmethod
    def read(cls, path: str | Path, root: str = "") -> Self:
        """Read a cohort folder with labels, for training and evaluation.

        Parameters
        ----------
        path
            A folder with a cohort.toml, or the cohort.toml itself (docs/cohorts.md).
        root
            Folder of the data files, if it is not the one that cohort.toml names.

        Raises
        ------
        UserError
            The cohort is not valid; the error lists every problem with file, row, column, value and remedy.
        """
        return cls.of(read_cohort(path, root))

    @classmethod
    def of(cls, patients: Patients) -> Self:
        """Return the same patients as this class."""
        return cls(**{field.name: getattr(patients, field.name) for field in fields(patients)})

    def frame(self) -> "pd.DataFrame":
        """Return a row per patient: patient_id, label, group, and site and split where they are known."""
        import pandas as pd

        columns = {
            "patient_id": self.patient_id_N,
            **self._labels(),
            "group": [groups.name(k, self.schema.names) for k in self.groups_N.tolist()],
        }
        if self.site_N is not None:
            columns["site"] = self.site_N
        if self.split_N is not None:
            columns["split"] = [SPLITS[part] for part in self.split_N.tolist()]
        return pd.DataFrame(columns)

    def _labels(self) -> dict[str, list[Any]]:
        """Return the columns of the label: the class, or those that a cohort of another outcome is written with."""
        if not self.schema.predicts.by_class:
            return self.schema.predicts.decode(self.label_N, self.target_NT)
        return {"label": [self.schema.classes[c] if c >= 0 else None for c in self.label_N.tolist()]}

    def counts(self) -> "pd.DataFrame":
        """Return a row per group: its name, patients n, share of all patients 0 … 1, and whether it is a tail group."""
        import pandas as pd

        counts = groups.counts(self.groups_N)
        tail, shares = groups.tail(counts), groups.shares(counts)
        rows = [
            {"group": groups.name(k, self.schema.names), "n": n, "share": shares[k], "tail": k in tail}
            for k, n in sorted(counts.items(), key=lambda pair: -pair[1])
        ]
        return pd.DataFrame(rows, columns=["group", "n", "share", "tail"])
