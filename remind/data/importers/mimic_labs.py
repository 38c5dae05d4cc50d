"""Labs and vitals of MIMIC-IV: filters two files of 120 and 300 million rows by item and by hour.

Letters: R rows of a block, O observations that are kept, N examples, I items, T blocks of hours.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from remind.data.importers.mimic_items import CHART, LAB, Item, Lookup, lookup
from remind.data.importers.mimic_stays import HOUR, Stays
from remind.data.importers.mimic_units import Units
from remind.data.importers.release import NUMBER, TEXT, TIME, WHOLE, ReleaseFile

EVENTS = {
    "subject_id": WHOLE,
    "itemid": WHOLE,
    "charttime": TIME,
    "storetime": TIME,
    "valuenum": NUMBER,
    "valueuom": TEXT,
}
DICTIONARIES = {CHART: "d_items", LAB: "d_labitems"}  # these tables explain the item ids of a table
DICTIONARY = {"itemid": WHOLE}
TEXTS_AT_ONCE = 5000


@dataclass(frozen=True)
class Observations:
    """Observations: positions of stay and item, hours since the stay's start, value in the item's unit."""

    stay_O: NDArray[np.int64]
    item_O: NDArray[np.int64]
    hours_O: NDArray[np.float32]
    value_O: NDArray[np.float32]


@dataclass
class Tally:
    """Counts, by reason, of rows of chosen items within a stay's hours that give no observation."""

    empty: int = 0
    outside: int = 0
    late: int = 0
    unit: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def left_out(self) -> list[tuple[str, int]]:
        """Describe the counts in words."""
        return [
            ("labs and vitals without a number", self.empty),
            ("labs and vitals outside the bounds of their item", self.outside),
            ("labs and vitals that were stored after the index time", self.late),
            *((f"values of {what}, which cannot be converted", n) for what, n in sorted(self.unit.items())),
        ]


def observations(
    file: ReleaseFile, found: Lookup, stays: Stays, tally: Tally, units: Units
) -> Iterator[tuple[Observations, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the observations of one file, block by block, with their sources, and their units as codes of `units`.

    A row counts if it was charted between the stay's start and its end, and stored by the index time: a result that
    arrived after the index time was not known, even if the blood was drawn before.
    """
    wanted = pa.array(found.itemid_K)
    for block in file.batches():
        rows = block.filter(pc.is_in(block["itemid"], value_set=wanted))
        if not rows.num_rows:
            continue
        source_R = np.searchsorted(found.itemid_K, rows["itemid"].to_numpy(zero_copy_only=False))
        time_R = whole_seconds(rows["charttime"])
        subject_R = pc.fill_null(rows["subject_id"], -1).to_numpy(zero_copy_only=False)
        stay_R = stays.at(subject_R, time_R)
        inside_R = stay_R >= 0
        value_R = pc.fill_null(rows["valuenum"], float("nan")).to_numpy(zero_copy_only=False)
        texts = rows["valueuom"].dictionary_encode()
        code_U = units.codes([*texts.dictionary.to_pylist(), None])
        unit_R = code_U[texts.indices.cast(pa.int64()).fill_null(len(code_U) - 1).to_numpy(zero_copy_only=False)]
        value_R, _ = units.convert(value_R, source_R, unit_R)
        given_R = np.isfinite(value_R)
        likely_R = (value_R >= found.low_K[source_R]) & (value_R <= found.high_K[source_R])
        known_R = whole_seconds(rows["storetime"]) <= stays.index_N[stay_R]
        tally.empty += int((inside_R & ~given_R).sum())
        tally.outside += int((inside_R & given_R & ~likely_R).sum())
        tally.late += int((inside_R & given_R & likely_R & ~known_R).sum())
        keep_R = inside_R & given_R & likely_R & known_R
        if not keep_R.any():
            continue
        stay_O = stay_R[keep_R]
        hours_O = (time_R[keep_R] - stays.start_N[stay_O]) / HOUR
        values = value_R[keep_R].astype(np.float32)
        part = Observations(stay_O, found.item_K[source_R[keep_R]], hours_O.astype(np.float32), values)
        yield part, source_R[keep_R], unit_R[keep_R]


def all_observations(
    files: Mapping[str, ReleaseFile], items: Sequence[Item], stays: Stays, tally: Tally, folder: Path
) -> Iterator[Observations]:
    """Yield the observations of all files, by table.

    The unit of a source is known only after its whole file was read. Until then its observations are stored in a file
    in `folder`.
    """
    for table, file in files.items():
        found = lookup(items, table)
        if not len(found.itemid_K):
            continue
        units = Units(items, found.item_K, found.factor_K, found.shift_K)
        waiting = folder / f"{table}.waiting"
        _put_aside(waiting, observations(file, found, stays, tally, units), units)
        tally.remarks += units.remarks()
        taken = units.taken()
        for (source, unit), kept in taken.items():
            if not kept:
                what = f"{items[found.item_K[source]].name} in {units.names[unit]!r}"
                tally.unit[what] += units.count[source, unit]
        yield from _without(waiting, {pair for pair, kept in taken.items() if not kept}, len(units.names))
        waiting.unlink()


_WAITING = pa.schema(
    {
        "stay": pa.int64(),
        "item": pa.int64(),
        "hours": pa.float32(),
        "value": pa.float32(),
        "source": pa.int64(),
        "unit": pa.int64(),
    }
)


def _put_aside(
    path: Path, parts: Iterator[tuple[Observations, NDArray[np.int64], NDArray[np.int64]]], units: Units
) -> None:
    """Write observations with their source and unit to a file, and count them."""
    with pa.parquet.ParquetWriter(path, _WAITING, compression="zstd") as writer:
        for part, source_O, unit_O in parts:
            pairs, counts = np.unique(np.stack([source_O, unit_O], axis=1), axis=0, return_counts=True)
            for (source, unit), n in zip(pairs.tolist(), counts.tolist(), strict=True):
                units.count[source, unit] += n
            columns = [part.stay_O, part.item_O, part.hours_O, part.value_O, source_O, unit_O]
            writer.write_table(pa.table(columns, schema=_WAITING))


def _without(path: Path, unknown: set[tuple[int, int]], units: int) -> Iterator[Observations]:
    """Read the stored observations, without the sources and units in `unknown`."""
    left_out = np.array([source * units + unit for source, unit in unknown], dtype=np.int64)
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            stay_O, item_O, hours_O, value_O, source_O, unit_O = (
                column.to_numpy(zero_copy_only=False) for column in batch.columns
            )
            keep_O = ~np.isin(source_O * units + unit_O, left_out)
            if keep_O.any():
                yield Observations(stay_O[keep_O], item_O[keep_O], hours_O[keep_O], value_O[keep_O])


def whole_seconds(times: Any) -> NDArray[np.int64]:
    """Convert Arrow times to seconds, (R,); a missing time is earlier than every other."""
    found: NDArray[np.int64] = times.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
    return found


def write_series(path: Path, parts: Iterator[Observations], items: Sequence[Item], stays: Stays) -> NDArray[np.bool_]:
    """Write a series modality block by block; return which examples have it, (N,)."""
    item = pa.dictionary(pa.int16(), pa.string())
    columns = {"patient_id": pa.int64(), "time": pa.float32(), "item": item, "value": pa.float32()}
    schema = pa.schema(list(columns.items()))
    names = pa.array([item.name for item in items])
    has_N = np.zeros(len(stays), dtype=bool)
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            has_N[part.stay_O] = True
            item_O = pa.DictionaryArray.from_arrays(part.item_O.astype(np.int16), names)
            table = pa.table([stays.id_N[part.stay_O], part.hours_O, item_O, part.value_O], schema=schema)
            writer.write_table(table)
    return has_N


@dataclass
class Latest:
    """The last value of each item in each block of hours, for the text form."""

    hours: float
    every: float
    stays: int
    items: int
    value_NIT: NDArray[np.float32] = field(init=False)
    hours_NIT: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.stays, self.items, max(1, ceil(self.hours / self.every)))
        self.value_NIT = np.full(shape, np.nan, dtype=np.float32)
        self.hours_NIT = np.full(shape, -1, dtype=np.float32)

    def add(self, part: Observations) -> None:
        """Add observations; a later value replaces an earlier one."""
        order_O = np.argsort(part.hours_O, kind="stable")  # the sort is stable: the last value that is assigned stays
        stay_O, item_O, hours_O = part.stay_O[order_O], part.item_O[order_O], part.hours_O[order_O]
        last = self.value_NIT.shape[2] - 1
        block_O = np.minimum((hours_O / self.every).astype(np.int64), last)
        later_O = hours_O >= self.hours_NIT[stay_O, item_O, block_O]
        where = stay_O[later_O], item_O[later_O], block_O[later_O]
        self.value_NIT[where] = part.value_O[order_O][later_O]
        self.hours_NIT[where] = hours_O[later_O]

    def text(self, stay: int, items: Sequence[Item]) -> str | None:
        """Return the sentences of one stay, the newest block first, because encoders cut off the end of a long text."""
        value_TI, hours_TI = self.value_NIT[stay].T, self.hours_NIT[stay].T
        sentences = [
            f"{items[i].name}: {value_TI[t, i]:.6g} {items[i].unit} at {hours_TI[t, i]:.0f} h."
            for t in reversed(range(len(value_TI)))
            for i in np.flatnonzero(hours_TI[t] >= 0).tolist()
        ]
        return " ".join(sentences) or None


def write_sentences(
    path: Path, parts: Iterator[Observations], items: Sequence[Item], stays: Stays, hours: float, every: float
) -> NDArray[np.bool_]:
    """Write labs and vitals as notes, one per stay ("Heart rate: 88 bpm at 3 h."), and return who has one, (N,)."""
    latest = Latest(hours, every, len(stays), len(items))
    for part in parts:
        latest.add(part)
    has_N = np.asarray((latest.hours_NIT >= 0).any(axis=(1, 2)))
    schema = pa.schema([("patient_id", pa.int64()), ("text", pa.string())])
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        positions = np.flatnonzero(has_N)
        for start in range(0, len(positions), TEXTS_AT_ONCE):
            some = positions[start : start + TEXTS_AT_ONCE]
            texts = [latest.text(int(stay), items) for stay in some]
            writer.write_table(pa.table([stays.id_N[some], pa.array(texts, pa.string())], schema=schema))
    return has_N


def unknown_items(items: Sequence[Item], table: str, dictionary: ReleaseFile) -> list[tuple[Item, int]]:
    """Return the item ids of `table` that the release does not list, with their item."""
    listed = set(dictionary.frame()["itemid"].dropna().astype(int))
    return [(i, s.itemid) for i in items for s in i.sources if s.table == table and s.itemid not in listed]
