"""Series: one row per observation. Letters: R rows, N patients, O observations with a value."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import override

from remind.data.cohort.contents import Contents, Integers, Mask, ragged_hide, ragged_join, ragged_rows, ragged_take
from remind.data.cohort.kind import Columns, Floats, Kind, Measured, Text, ToTensor, register
from remind.data.cohort.kinds.series_features import features_of_items
from remind.data.cohort.kinds.series_schema import SeriesSchema, SeriesSection, check_scales, schema_of
from remind.data.cohort.kinds.series_times import CLOSE, check_times
from remind.data.cohort.problems import Problem, listed
from remind.data.cohort.suspicious_texts import warn_of_spellings
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text
from remind.data.cohort.wanted import Wanted, patient_rows

if TYPE_CHECKING:
    from torch import Tensor

HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0, "day": 24.0}


@dataclass(frozen=True, eq=False)
class Series(Contents):
    """Observations: patient i has ``offsets_N1[i] : offsets_N1[i + 1]``, sorted by time, then item.

    Attributes
    ----------
    offsets_N1
        int64, N + 1 entries from 0 to O.
    time_O
        float32, hours.
    item_O
        int64, index into the schema's items.
    value_O
        float32, never NaN.
    """

    offsets_N1: Integers
    time_O: NDArray[np.float32]
    item_O: Integers
    value_O: NDArray[np.float32]

    @override
    def take(self, index: NDArray[Any]) -> "Series":
        offsets_N1, source_O = ragged_take(self.offsets_N1, index)
        return Series(offsets_N1, self.time_O[source_O], self.item_O[source_O], self.value_O[source_O])

    @override
    def hide(self, hidden_N: Mask) -> "Series":
        offsets_N1, keep_O = ragged_hide(self.offsets_N1, hidden_N)
        return Series(offsets_N1, self.time_O[keep_O], self.item_O[keep_O], self.value_O[keep_O])

    def present(self) -> Mask:
        """Return which patients have an observation, (N,)."""
        return np.diff(self.offsets_N1) > 0

    @override
    def joined(self, others: Sequence["Series"]) -> "Series":
        parts = (self, *others)
        return Series(
            ragged_join([part.offsets_N1 for part in parts]),
            np.concatenate([part.time_O for part in parts]),
            np.concatenate([part.item_O for part in parts]),
            np.concatenate([part.value_O for part in parts]),
        )

    @override
    def feed(self, sha: Any) -> None:
        for array in vars(self).values():
            sha.update(np.ascontiguousarray(array))


@dataclass(frozen=True)
class SeriesBatch:
    """The observations of P patients, concatenated.

    Attributes
    ----------
    time_O
        Hours.
    item_O
        int64, index into the schema's items.
    value_O
        As in the file, not standardised.
    patient_O
        int64, position of the patient among the P, ascending.
    patients
        The number P.
    """

    time_O: "Tensor"
    item_O: "Tensor"
    value_O: "Tensor"
    patient_O: "Tensor"
    patients: int

    def taken(self, keep_O: "Tensor") -> "SeriesBatch":
        """Return the batch with the observations of this mask alone; the patients stay."""
        kept = keep_O.nonzero().squeeze(1)
        return SeriesBatch(
            self.time_O[kept], self.item_O[kept], self.value_O[kept], self.patient_O[kept], self.patients
        )


@register
class SeriesKind(Kind[SeriesSection, SeriesSchema, Series]):
    """Series."""

    section, schema, contents = SeriesSection, SeriesSchema, Series

    @override
    def read(self, source: Source, wanted: Wanted[SeriesSection]) -> tuple[SeriesSchema, Series] | None:
        return read_series(source, wanted)

    @override
    def absent(self, name: str, section: SeriesSection, n: int, problems: list[Problem]) -> tuple[SeriesSchema, Series]:
        items = tuple(declared_text(item) for item in section.items or ())
        nothing_O = np.empty(0, dtype=np.float32)
        data = Series(np.zeros(n + 1, dtype=np.int64), nothing_O, np.empty(0, dtype=np.int64), nothing_O)
        schema = schema_of(name, section, items, section.horizon or 1.0)
        check_scales(problems, f"modalities.{name}", schema)
        return schema, data

    @override
    def start(self, section: SeriesSection) -> str | None:
        return section.start

    @override
    def describe(self, schema: SeriesSchema) -> str:
        return f"series, {len(schema.items)} items over {schema.horizon_hours:g} hours"

    @override
    def inferred(self, section: SeriesSection) -> tuple[str, ...]:
        return tuple(field for field in ("items", "horizon") if getattr(section, field) is None)

    @override
    def features(self, schema: SeriesSchema, contents: Series) -> Iterator[tuple[str, Floats]]:
        yield from features_of_items(schema.items, contents.offsets_N1, contents.item_O, contents.value_O)

    @override
    def measured(self, schema: SeriesSchema, contents: Series) -> Iterator[Measured]:
        patient_O = np.repeat(np.arange(len(contents.offsets_N1) - 1), np.diff(contents.offsets_N1))
        for number, name in enumerate(schema.items):
            own_O = contents.item_O == number
            yield Measured(name, patient_O[own_O], contents.value_O[own_O].astype(np.float64))

    @override
    def columns(self, folder: Path, patient_id_N: Text, schema: SeriesSchema, contents: Series) -> Columns:
        return {
            "patient_id": np.repeat(patient_id_N, np.diff(contents.offsets_N1)).tolist(),
            "time": contents.time_O,
            "item": pa.DictionaryArray.from_arrays(contents.item_O.astype(np.int32), list(schema.items)),
            "value": contents.value_O,
        }

    @override
    def fields(self, schema: SeriesSchema, contents: Series) -> dict[str, Any]:
        given = {"mean": schema.mean, "std": schema.std}
        scales = {"standardise": schema.standardise} if schema.standardise != "train" else {}
        return {
            "time_unit": "hour",
            "items": schema.items,
            "horizon": schema.horizon_hours,
            **scales,
            **{field: value for field, value in given.items() if value},
        }

    @override
    def inputs(self, schema: SeriesSchema, contents: Series, tensor: ToTensor) -> Callable[[Integers], SeriesBatch]:
        def batch(index_P: Integers) -> SeriesBatch:
            patient_O, source_O = ragged_rows(contents.offsets_N1, index_P)
            return SeriesBatch(
                time_O=tensor(contents.time_O[source_O]),
                item_O=tensor(contents.item_O[source_O]),
                value_O=tensor(contents.value_O[source_O]),
                patient_O=tensor(patient_O),
                patients=len(index_P),
            )

        return batch


def read_series(source: Source, wanted: Wanted[SeriesSection]) -> tuple[SeriesSchema, Series] | None:
    """Read a series. Rows with an empty value are not observations. Returns None as `read_table` does."""
    field, section, position = wanted.field, wanted.section, wanted.position
    patient_R = patient_rows(source, wanted)
    needed = {"time": section.time, "item": section.item, "value": section.value}
    lacking = [column for option, column in needed.items() if not source.has(column, f"{field}.{option}")]
    if lacking:
        return None
    value_R = source.numbers(section.value)
    given_R = ~np.isnan(value_R)
    item_R, items, excluded_R = _items(source, field, section, given_R)
    if section.items is None:
        warn_of_spellings(source, wanted.name, items, "item")
    check_scales(source.problems, field, schema_of(wanted.name, section, items, 1.0))
    time_R = _hours(source, wanted, patient_R)
    check_times(source, section.time, None if section.clip else section.horizon, time_R, given_R)
    if patient_R is None or position is None:
        return None
    keep_R = given_R & (patient_R >= 0) & (item_R >= 0) & (time_R >= 0) & ~excluded_R
    if section.horizon is not None:
        keep_R &= time_R <= section.horizon * CLOSE
    patient_O, item_O, time_O = patient_R[keep_R], item_R[keep_R], time_R[keep_R].astype(np.float32)
    order_O = np.lexsort((item_O, time_O, patient_O))  # independent of the order of the rows in the file
    offsets_N1 = np.zeros(len(position) + 1, dtype=np.int64)
    np.cumsum(np.bincount(patient_O, minlength=len(position)), out=offsets_N1[1:])
    horizon = section.horizon or float(time_O.max(initial=0.0)) or 1.0
    schema = schema_of(wanted.name, section, items, horizon)
    value_O = value_R[keep_R].astype(np.float32)
    return schema, Series(offsets_N1, time_O[order_O], item_O[order_O], value_O[order_O])


def _hours(source: Source, wanted: Wanted[SeriesSection], patient_R: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the hours since the patient's start, (R,), NaN = empty."""
    section = wanted.section
    if source.holds_durations(section.time):
        return source.durations(section.time) / 3600
    if section.start is None:
        remedy = (
            f'; or name with start = "…" in [{wanted.field}] the column of the patients file that holds '
            "each patient's start, and dates become hours since then"
        )
        return source.numbers(section.time, dates=remedy) * HOURS[section.time_unit or "hour"]
    seconds_R = source.seconds(section.time)
    start_N = wanted.starts.get(section.start)
    if start_N is None or patient_R is None:
        return np.zeros(len(source))  # the problem has been reported already
    start_R = np.append(start_N, np.nan)[patient_R]
    bad_R = ~np.isnan(seconds_R) & np.isnan(start_R) & (patient_R >= 0)
    if bad_R.any():
        remedy = f"fill in {section.start!r} of the patients file, or remove the rows"
        source.report("the patient has no start to count from", remedy, wanted.key, bad_R)
    return np.where(bad_R, 0.0, (seconds_R - start_R) / 3600)


def _items(
    source: Source, field: str, section: SeriesSection, given_R: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Return the index of each row's item, (R,), −1 = none; the items; and which rows are excluded."""
    codes_R, names = source.texts(section.item, Names((*(section.items or ()), *section.exclude)))
    out = {declared_text(item) for item in section.exclude}
    declared = section.items if section.items is not None else sorted(set(names) - out)
    items = tuple(declared_text(item) for item in declared)
    excluded_R = np.array([*(name in out for name in names), False])[codes_R]
    index = {item: i for i, item in enumerate(items)}
    item_R = np.array([*(index.get(name, -1) for name in names), -1], dtype=np.int64)[codes_R]
    if (empty_R := (codes_R < 0) & given_R).any():
        source.report(
            "no item",
            f"say what was measured (an item of this very name: declare it in {field}.items), or remove the row",
            section.item,
            empty_R,
        )
    unknown_R = (item_R < 0) & (codes_R >= 0) & ~excluded_R
    if unknown_R.any():
        strangers = listed(names[i] for i in np.unique(codes_R[unknown_R]))
        remedy = f"declare it in {field}.items, or leave it out with {field}.exclude"
        source.report(f"undeclared items: {strangers}", remedy, section.item, unknown_R)
    return item_R, items, excluded_R
