"""The ranges of a site's training values, by column, and the values of new patients that lie far outside of them.

Ranges stay at the site, since they are computed from patients' values.
Letters: O values of one column or item, over all patients.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kind import Measured, kind_of
from remind.encoders.standardise import TRIM, moments

FAR = 3.0  # standard deviations from the mean; a far value must also lie outside the range of the training values
ENOUGH = 5  # minimum number of values of a column before a wrong unit is suspected
Floats = NDArray[np.float64]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Kept):
    """Range of one numeric column, or of one item of a series, among a site's training patients.

    Attributes
    ----------
    n
        Number of values.
    mean, std
        As the encoder uses them (`remind.encoders.standardise.moments`), in the unit of the column.
    low, high
        Lowest and highest value without the outermost 1 % on either side, which may contain typing errors.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> "Range | None":
        """Return the range of these values; None if there are none."""
        if not len(values):
            return None
        cut = len(values) // TRIM
        ordered = np.sort(values)[cut : len(values) - cut]
        mean, std = moments(values)
        return cls(n=len(values), mean=mean, std=std, low=float(ordered[0]), high=float(ordered[-1]))

    def far(self, values: Floats) -> NDArray[np.bool_]:
        """Return which values lie outside low … high and more than `FAR` standard deviations from the mean."""
        with np.errstate(invalid="ignore"):
            outside = (values < self.low) | (values > self.high)
            return np.asarray(outside & (np.abs(values - self.mean) > FAR * self.std))


class Ranges(_Kept):
    """Ranges by modality and column (of a table) or item (of a series).

    Attributes
    ----------
    numbers
        Modality → column or item → its range. A column without a training value is absent.
    levels
        Modality → categorical column → the levels that occur among the training patients.
    """

    numbers: dict[str, dict[str, Range]] = {}
    levels: dict[str, dict[str, tuple[str, ...]]] = {}

    @classmethod
    def of(cls, training: Cohort) -> "Ranges":
        """Return the ranges of one site's training patients."""
        numbers: dict[str, dict[str, Range]] = {}
        levels: dict[str, dict[str, tuple[str, ...]]] = {}
        for modality, measured in _measured(training):
            if measured.levels:
                seen = tuple(measured.levels[int(i)] for i in np.unique(measured.value_O))
                levels.setdefault(modality, {})[measured.name] = seen
            elif (found := Range.of(measured.value_O)) is not None:
                numbers.setdefault(modality, {})[measured.name] = found
        return cls(numbers=numbers, levels=levels)


class Units:
    """Counts values far outside the training range, by column. If most are, the column's unit is probably wrong."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Range, int, int, float]] = {}

    def add(self, cohort: Cohort, ranges: Ranges) -> None:
        """Count the values of more patients."""
        for modality, measured in _measured(cohort):
            known, values = ranges.numbers.get(modality, {}).get(measured.name), measured.value_O
            if known is None or measured.levels:
                continue
            where = f"{modality}.{measured.name}"
            _, n, far, total = self._found.get(where, (known, 0, 0, 0.0))
            far_X = known.far(values)
            self._found[where] = known, n + len(values), far + int(far_X.sum()), total + float(values[far_X].sum())

    def suspected(self) -> list[str]:
        """Return a warning for each column with most values far outside the training range."""
        return [
            f"{where}: {far} of {n} values lie far outside {known.low:g} to {known.high:g}, the range of the training "
            f"patients (mean {known.mean:.3g}, here {total / far:.3g}): the unit seems to be another one; convert it"
            for where, (known, n, far, total) in sorted(self._found.items())
            if n >= ENOUGH and far > n / 2
        ]


def _measured(cohort: Cohort) -> Iterator[tuple[str, Measured]]:
    """Yield the modality and the values of each column and item."""
    for schema in cohort.schema.modalities:
        for measured in kind_of(schema).measured(schema, cohort.modalities[schema.name]):
            yield schema.name, measured


def remarks(cohort: Cohort, ranges: Ranges) -> dict[int, list[str]]:
    """Return position of the patient → texts about values that the site's training patients do not have.

    A patient without such a value is absent.
    """
    found: dict[int, list[str]] = {}
    for modality, measured in _measured(cohort):
        for position, text in _of_one(modality, measured, ranges):
            found.setdefault(position, []).append(text)
    return found


def _of_one(modality: str, measured: Measured, ranges: Ranges) -> Iterator[tuple[int, str]]:
    where, patient_O, value_O = f"{modality}.{measured.name}", measured.patient_O, measured.value_O
    if levels := measured.levels:
        seen = ranges.levels.get(modality, {}).get(measured.name)
        unseen = [] if seen is None else [i for i, level in enumerate(levels) if level not in seen]
        for o in np.flatnonzero(np.isin(value_O, unseen)).tolist():
            level = levels[int(value_O[o])]
            yield int(patient_O[o]), f"{where} = {level}: no training patient of this hospital had this level"
    elif (known := ranges.numbers.get(modality, {}).get(measured.name)) is not None:
        far_O = np.flatnonzero(known.far(value_O))
        patient_X, first_X, count_X = np.unique(patient_O[far_O], return_index=True, return_counts=True)
        for patient, first, count in zip(patient_X.tolist(), first_X.tolist(), count_X.tolist(), strict=True):
            more = f" ({count} such values)" if count > 1 else ""
            yield patient, _outside(where, value_O[far_O[first]], known) + more


def _outside(where: str, value: float, known: Range) -> str:
    return (
        f"{where} = {value:g} lies far outside {known.low:g} to {known.high:g}, the range of this hospital's training "
        "patients; is it in another unit?"
    )
