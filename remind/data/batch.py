"""Batches: a site's patients as tensors, gathered without a loop over patients.

Letters: B patients in the batch, m modalities, F columns, O observations.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.cohort import Cohort, Table


@dataclass(frozen=True)
class SeriesBatch:
    """The observations of B patients, one after the other; who lacks the modality has none.

    Attributes
    ----------
    time_O
        Hours.
    item_O
        int64, index into the schema's items.
    value_O
        As in the file, not standardised.
    patient_O
        int64, position in the batch, ascending.
    patients
        B.
    """

    time_O: Tensor
    item_O: Tensor
    value_O: Tensor
    patient_O: Tensor
    patients: int

    def to(self, device: torch.device | str) -> "SeriesBatch":
        """The same on `device`."""
        return SeriesBatch(
            self.time_O.to(device),
            self.item_O.to(device),
            self.value_O.to(device),
            self.patient_O.to(device),
            self.patients,
        )


@dataclass(frozen=True)
class Batch:
    """B patients.

    Attributes
    ----------
    index_B
        int64, positions in the cohort.
    group_B, label_B
        int64.
    presence_Bm
        bool.
    inputs
        Per modality: values (B, F), NaN = missing, of a table; a `SeriesBatch` of a series.
    """

    index_B: Tensor
    group_B: Tensor
    presence_Bm: Tensor
    label_B: Tensor
    inputs: dict[str, Tensor | SeriesBatch]

    def to(self, device: torch.device | str) -> "Batch":
        """The same on `device`."""
        return replace(
            self,
            index_B=self.index_B.to(device),
            group_B=self.group_B.to(device),
            presence_Bm=self.presence_Bm.to(device),
            label_B=self.label_B.to(device),
            inputs={name: tensors.to(device) for name, tensors in self.inputs.items()},
        )


class SiteData:
    """A cohort's arrays as tensors, made once and shared by every batch.

    Parameters
    ----------
    cohort
        The N patients.
    dtype
        Of the values and times.
    device
        Where the tensors lie and batches come from.
    """

    def __init__(self, cohort: Cohort, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        self.cohort = cohort
        self.device = torch.device(device)
        self._group_N = self._tensor(cohort.groups_N)
        self._presence_Nm = self._tensor(cohort.presence_Nm)
        self._label_N = self._tensor(cohort.label_N)
        self._tables: dict[str, Tensor] = {}
        self._series: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        for name, data in cohort.modalities.items():
            if isinstance(data, Table):
                self._tables[name] = self._tensor(data.values_NF).to(dtype)
            else:
                time_O, value_O = self._tensor(data.time_O).to(dtype), self._tensor(data.value_O).to(dtype)
                self._series[name] = (self._tensor(data.offsets_N1), time_O, self._tensor(data.item_O), value_O)

    def __len__(self) -> int:
        return len(self.cohort)

    def batch(self, index_B: Tensor | NDArray[Any]) -> Batch:
        """The patients at positions `index_B`, in that order; a position may come more than once."""
        index_B = torch.as_tensor(index_B, dtype=torch.int64, device=self.device)
        return Batch(
            index_B=index_B,
            group_B=self._group_N[index_B],
            presence_Bm=self._presence_Nm[index_B],
            label_B=self._label_N[index_B],
            inputs={
                name: self._tables[name][index_B] if name in self._tables else self._gather(name, index_B)
                for name in self.cohort.schema.names
            },
        )

    def _gather(self, name: str, index_B: Tensor) -> SeriesBatch:
        """Ragged gather: observation o of batch position b lies at start_b + (o − the observations before b)."""
        offsets_N1, time_O, item_O, value_O = self._series[name]
        start_B = offsets_N1[index_B]
        count_B = offsets_N1[index_B + 1] - start_B
        end_B = count_B.cumsum(0)
        total = int(end_B[-1]) if len(index_B) else 0
        patient_O = torch.repeat_interleave(count_B, output_size=total)
        shift_B = start_B - (end_B - count_B)
        source_O = shift_B[patient_O] + torch.arange(total, device=self.device)
        return SeriesBatch(time_O[source_O], item_O[source_O], value_O[source_O], patient_O, len(index_B))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, device=self.device)
