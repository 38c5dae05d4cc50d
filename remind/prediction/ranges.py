"""What a site's training patients showed, column by column, and which values of new patients lie far outside of it.

It stays at the site: a range is made of patients' values.
Letters: N patients, F columns, O observations.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.series import Series, SeriesSchema
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.encoders.standardise import TRIM, moments

FAR = 3.0  # standard deviations from the mean; a value must also lie outside of what the training patients showed
ENOUGH = 5  # values of a column before a unit is suspected
Floats = NDArray[np.float64]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Kept):
    """The values of one numeric column, or of one item of a series, among a site's training patients.

    Attributes
    ----------
    n
        Values.
    mean, std
        As the encoder standardises with (`remind.encoders.standardise.moments`), in the unit of the column.
    low, high
        Lowest and highest value without the outermost hundredth on either side, which may hold typing errors.
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
        Modality → column or item → its range; a column that no training patient has is absent.
    levels
        Modality → categorical column → levels that some training patient has.
    """

    numbers: dict[str, dict[str, Range]] = {}
    levels: dict[str, dict[str, tuple[str, ...]]] = {}

    @classmethod
    def of(cls, training: Cohort) -> "Ranges":
        """Measure the training patients of one site."""
        numbers: dict[str, dict[str, Range]] = {}
        levels: dict[str, dict[str, tuple[str, ...]]] = {}
        for schema in training.schema.modalities:
            contents = training.modalities[schema.name]
            if isinstance(schema, TableSchema) and isinstance(contents, Table):
                for f, column in enumerate(schema.columns):
                    value_N = contents.values_NF[:, f].astype(np.float64)
                    value_N = value_N[~np.isnan(value_N)]
                    if names := schema.categories.get(column):
                        seen = tuple(names[int(i)] for i in np.unique(value_N))
                        levels.setdefault(schema.name, {})[column] = seen
                    elif (found := Range.of(value_N)) is not None:
                        numbers.setdefault(schema.name, {})[column] = found
            elif isinstance(schema, SeriesSchema) and isinstance(contents, Series):
                for i, item in enumerate(schema.items):
                    value_O = contents.value_O[contents.item_O == i].astype(np.float64)
                    if (found := Range.of(value_O)) is not None:
                        numbers.setdefault(schema.name, {})[item] = found
        return cls(numbers=numbers, levels=levels)


class Units:
    """Counts values far outside of the training patients' by column: of most patients alike, it is the unit."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Range, int, int, float]] = {}

    def add(self, cohort: Cohort, ranges: Ranges) -> None:
        """Count the values of more patients."""
        for where, known, values in _numeric(cohort, ranges):
            _, n, far, total = self._found.get(where, (known, 0, 0, 0.0))
            far_X = known.far(values)
            self._found[where] = known, n + len(values), far + int(far_X.sum()), total + float(values[far_X].sum())

    def suspected(self) -> list[str]:
        """Return a warning for each column of which most values lie far outside."""
        return [
            f"{where}: {far} of {n} values lie far outside {known.low:g} to {known.high:g}, where the training "
            f"patients lie (mean {known.mean:.3g}, here {total / far:.3g}): it seems to be in another unit; convert it"
            for where, (known, n, far, total) in sorted(self._found.items())
            if n >= ENOUGH and far > n / 2
        ]


def _numeric(cohort: Cohort, ranges: Ranges) -> Iterator[tuple[str, Range, Floats]]:
    """Yield the given values of each column and item that has a range."""
    for schema in cohort.schema.modalities:
        contents, known = cohort.modalities[schema.name], ranges.numbers.get(schema.name, {})
        if isinstance(schema, TableSchema) and isinstance(contents, Table):
            for f, column in enumerate(schema.columns):
                value_N = contents.values_NF[:, f].astype(np.float64)
                if column in known:
                    yield f"{schema.name}.{column}", known[column], value_N[~np.isnan(value_N)]
        elif isinstance(schema, SeriesSchema) and isinstance(contents, Series):
            for i, item in enumerate(schema.items):
                if item in known:
                    value_O = contents.value_O[contents.item_O == i].astype(np.float64)
                    yield f"{schema.name}.{item}", known[item], value_O


def remarks(cohort: Cohort, ranges: Ranges) -> dict[int, list[str]]:
    """Return, by position of the patient, what of the patient's values the training patients of the site never showed.

    Patients without such a value are absent.
    """
    found: dict[int, list[str]] = {}
    for position, text in [*_of_tables(cohort, ranges), *_of_series(cohort, ranges)]:
        found.setdefault(position, []).append(text)
    return found


def _of_tables(cohort: Cohort, ranges: Ranges) -> Iterator[tuple[int, str]]:
    for schema in cohort.schema.modalities:
        contents = cohort.modalities[schema.name]
        if not isinstance(schema, TableSchema) or not isinstance(contents, Table):
            continue
        for f, column in enumerate(schema.columns):
            value_N = contents.values_NF[:, f].astype(np.float64)
            where = f"{schema.name}.{column}"
            if levels := schema.categories.get(column):
                seen = ranges.levels.get(schema.name, {}).get(column)
                if seen is None:
                    continue
                unseen = [i for i, level in enumerate(levels) if level not in seen]
                for i in np.flatnonzero(np.isin(value_N, unseen)).tolist():
                    yield i, f"{where} = {levels[int(value_N[i])]}: no training patient of this hospital had this level"
            elif (known := ranges.numbers.get(schema.name, {}).get(column)) is not None:
                for i in np.flatnonzero(known.far(value_N)).tolist():
                    yield i, _outside(where, value_N[i], known)


def _of_series(cohort: Cohort, ranges: Ranges) -> Iterator[tuple[int, str]]:
    for schema in cohort.schema.modalities:
        contents = cohort.modalities[schema.name]
        if not isinstance(schema, SeriesSchema) or not isinstance(contents, Series):
            continue
        patient_O = np.repeat(np.arange(len(cohort)), np.diff(contents.offsets_N1))
        for number, item in enumerate(schema.items):
            known = ranges.numbers.get(schema.name, {}).get(item)
            if known is None:
                continue
            value_O = np.where(contents.item_O == number, contents.value_O.astype(np.float64), np.nan)
            far_O = np.flatnonzero(known.far(value_O))
            patient_X, first_X, count_X = np.unique(patient_O[far_O], return_index=True, return_counts=True)
            for i, first, count in zip(patient_X.tolist(), first_X.tolist(), count_X.tolist(), strict=True):
                more = f" ({count} such values)" if count > 1 else ""
                yield i, _outside(f"{schema.name}.{item}", value_O[far_O[first]], known) + more


def _outside(where: str, value: float, known: Range) -> str:
    return (
        f"{where} = {value:g} lies far outside {known.low:g} to {known.high:g}, where the training patients of this "
        "hospital lie; is it in another unit?"
    )
