"""A cohort in memory: plain arrays with one entry per patient.

Letters: N patients (rows of the patients file; if rows are visits, N counts visits), m modalities, F columns,
O observations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.data.cohort.contents import Contents, OnePerPatient, join, positions
from remind.data.cohort.schema import CohortSchema

Text = NDArray[np.str_]
TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients who share a schema.

    Attributes
    ----------
    patient_id_N
        The key that joins the rows of the files.
    person_N
        Identifies the person; differs from `patient_id_N` if rows are visits. Splits never divide a person.
    label_N
        int64, the stratum (`schema.strata`): of an outcome by class the class 0 … C − 1, and the target itself.
    site_N
        Hospital of each patient, or None.
    split_N
        int8: 0 train, 1 validation, 2 test; None: not split yet.
    presence_Nm
        bool: which modalities each patient has, in the order of ``schema.names``.
    modalities
        `Contents` per modality name; every one covers all N patients.
    unlabelled
        Patients without a label (−1) who belong here: only what learns without labels uses them. They are no patients
        of this cohort in any other sense. None: there are none.
    target_NT
        Targets that strata do not tell (`remind.outcomes`), in the units of the patients file; None: strata tell all.
    masks
        Files of the targets, if these are masks (`remind.data.cohort.masks`); None: they are not.
    """

    schema: CohortSchema
    patient_id_N: Text
    person_N: Text
    label_N: NDArray[np.int64]
    site_N: Text | None
    split_N: NDArray[np.int8] | None
    presence_Nm: NDArray[np.bool_]
    modalities: dict[str, Contents]
    unlabelled: "Cohort | None" = None
    target_NT: NDArray[np.float64] | None = None
    masks: OnePerPatient | None = None

    def __len__(self) -> int:
        return len(self.patient_id_N)

    @cached_property
    def groups_N(self) -> NDArray[np.int64]:
        """Return the group of each patient (`remind.groups`); 0 for a patient without any modality."""
        return groups.masks(self.presence_Nm)

    def take(self, index: NDArray[Any] | Sequence[int]) -> "Cohort":
        """Select the patients at the positions (or under the mask) `index`, in that order; none without a label."""
        index = positions(np.asarray(index))
        return replace(
            self,
            patient_id_N=self.patient_id_N[index],
            person_N=self.person_N[index],
            label_N=self.label_N[index],
            site_N=None if self.site_N is None else self.site_N[index],
            split_N=None if self.split_N is None else self.split_N[index],
            presence_Nm=self.presence_Nm[index],
            modalities={name: modality.take(index) for name, modality in self.modalities.items()},
            unlabelled=None,
            target_NT=None if self.target_NT is None else self.target_NT[index],
            masks=None if self.masks is None else self.masks.take(index),
        )

    def without(self, *names: str, where_N: NDArray[np.bool_] | None = None) -> "Cohort":
        """Hide the modalities `names` from all patients, or only from those in `where_N` (then none is unlabelled).

        The schema stays the same, so that models still fit. Patients who lose their last modality stay in group 0; the
        caller drops them.

        Raises
        ------
        KeyError
            A name is not a modality of the cohort.
        """
        hidden_N = np.ones(len(self), dtype=bool) if where_N is None else where_N
        modalities = {**self.modalities, **{name: self.modalities[name].hide(hidden_N) for name in names}}
        others = None if self.unlabelled is None or where_N is not None else self.unlabelled.without(*names)
        return replace(self, modalities=modalities, presence_Nm=presence(self.schema, modalities), unlabelled=others)

    def __eq__(self, other: object) -> bool:
        fields = self.__dataclass_fields__
        return isinstance(other, Cohort) and all(_same(getattr(self, f), getattr(other, f)) for f in fields)

    __hash__ = None  # type: ignore[assignment]


def presence(schema: CohortSchema, modalities: dict[str, Contents]) -> NDArray[np.bool_]:
    """Return which patient has which modality, (N, m), in the order of the schema."""
    return np.stack([modalities[name].present() for name in schema.names], axis=1)


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return type(a) is type(b) and a == b


def concatenate(parts: Sequence[Cohort]) -> Cohort:
    """Concatenate cohorts that share one schema.

    The result has sites and splits only if all of the cohorts have them.
    """
    first = parts[0]
    unlabelled = [part.unlabelled for part in parts if part.unlabelled is not None]
    return replace(
        first,
        patient_id_N=np.concatenate([part.patient_id_N for part in parts]),
        person_N=np.concatenate([part.person_N for part in parts]),
        label_N=np.concatenate([part.label_N for part in parts]),
        site_N=_joined([part.site_N for part in parts]),
        split_N=_joined([part.split_N for part in parts]),
        presence_Nm=np.concatenate([part.presence_Nm for part in parts]),
        modalities={name: join([part.modalities[name] for part in parts]) for name in first.schema.names},
        unlabelled=concatenate(unlabelled) if unlabelled else None,
        target_NT=_joined([part.target_NT for part in parts]),
        masks=None if first.masks is None else first.masks.joined([p.masks for p in parts[1:] if p.masks is not None]),
    )


def _joined(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if len(present) == len(arrays) else None
