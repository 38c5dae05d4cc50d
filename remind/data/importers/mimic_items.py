"""The labs and vitals of MIMIC-IV that are imported: item ids, units and bounds.

Item ids follow the concepts of the public MIMIC code repository (vitalsign, chemistry, complete_blood_count, enzyme,
coagulation, bg, gcs), and so do the bounds that it defines. The other bounds are wide guesses that only catch typing
errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem
from remind.data.cohort.text import number_of
from remind.data.importers.user_list import read_list
from remind.errors import several

CHART, LAB = "chartevents", "labevents"


@dataclass(frozen=True)
class Source:
    """Source of an item's values: value · factor + shift is in the item's unit."""

    table: str
    itemid: int
    factor: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Item:
    """A lab or vital sign. Values outside low … high are discarded as invalid."""

    name: str
    unit: str
    low: float
    high: float
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Lookup:
    """The sources of one table as arrays sorted by item id. Letters: K sources."""

    itemid_K: NDArray[np.int64]
    item_K: NDArray[np.int64]
    factor_K: NDArray[np.float64]
    shift_K: NDArray[np.float64]
    low_K: NDArray[np.float64]
    high_K: NDArray[np.float64]


def _charted(name: str, unit: str, low: float, high: float, *itemids: int) -> Item:
    return Item(name, unit, low, high, tuple(Source(CHART, itemid) for itemid in itemids))


def _lab(name: str, unit: str, low: float, high: float, *itemids: int) -> Item:
    return Item(name, unit, low, high, tuple(Source(LAB, itemid) for itemid in itemids))


_TEMPERATURE = (Source(CHART, 223762), Source(CHART, 223761, 5 / 9, -160 / 9))  # Celsius; Fahrenheit

ITEMS: tuple[Item, ...] = (
    _charted("Heart rate", "bpm", 1, 300, 220045),
    _charted("Systolic blood pressure", "mmHg", 1, 400, 220179, 220050, 225309),
    _charted("Diastolic blood pressure", "mmHg", 1, 300, 220180, 220051, 225310),
    _charted("Mean blood pressure", "mmHg", 1, 300, 220181, 220052, 225312),
    _charted("Respiratory rate", "/min", 1, 70, 220210, 224690),
    Item("Temperature", "°C", 20, 50, _TEMPERATURE),
    _charted("Oxygen saturation", "%", 1, 100, 220277),
    _charted("GCS eye opening", "points", 1, 4, 220739),
    _charted("GCS verbal response", "points", 1, 5, 223900),
    _charted("GCS motor response", "points", 1, 6, 223901),
    _lab("Sodium", "mmol/L", 50, 200, 50983),
    _lab("Potassium", "mmol/L", 0.5, 30, 50971),
    _lab("Chloride", "mmol/L", 30, 200, 50902),
    _lab("Bicarbonate", "mmol/L", 1, 100, 50882),
    _lab("Anion gap", "mmol/L", -30, 100, 50868),
    _lab("Urea nitrogen", "mg/dL", 0.5, 300, 51006),
    _lab("Creatinine", "mg/dL", 0.01, 150, 50912),
    _lab("Glucose", "mg/dL", 1, 10000, 50931),
    _lab("Calcium", "mg/dL", 0.5, 40, 50893),
    _lab("Magnesium", "mg/dL", 0.1, 20, 50960),
    _lab("Phosphate", "mg/dL", 0.1, 40, 50970),
    _lab("Albumin", "g/dL", 0.1, 10, 50862),
    _lab("Bilirubin", "mg/dL", 0.01, 150, 50885),
    _lab("ALT", "U/L", 0.5, 50000, 50861),
    _lab("AST", "U/L", 0.5, 50000, 50878),
    _lab("Alkaline phosphatase", "U/L", 0.5, 10000, 50863),
    _lab("Hemoglobin", "g/dL", 0.5, 30, 51222),
    _lab("Hematocrit", "%", 1, 100, 51221),
    _lab("White blood cells", "K/uL", 0.01, 1000, 51301),
    _lab("Platelets", "K/uL", 0.5, 10000, 51265),
    _lab("INR", "ratio", 0.1, 50, 51237),
    _lab("PT", "s", 1, 200, 51274),
    _lab("PTT", "s", 1, 200, 51275),
    _lab("Troponin T", "ng/mL", 0, 200, 51003),
    _lab("Lactate", "mmol/L", 0.05, 50, 50813),
    _lab("pH", "units", 6.3, 8.4, 50820),
    _lab("PaO2", "mmHg", 1, 800, 50821),
    _lab("PaCO2", "mmHg", 1, 250, 50818),
)


def lookup(items: Sequence[Item], table: str) -> Lookup:
    """Return the sources in `table`."""
    found = sorted((s.itemid, i, s) for i, item in enumerate(items) for s in item.sources if s.table == table)
    return Lookup(
        np.array([itemid for itemid, _, _ in found], dtype=np.int64),
        np.array([i for _, i, _ in found], dtype=np.int64),
        np.array([s.factor for _, _, s in found], dtype=np.float64),
        np.array([s.shift for _, _, s in found], dtype=np.float64),
        np.array([items[i].low for _, i, _ in found], dtype=np.float64),
        np.array([items[i].high for _, i, _ in found], dtype=np.float64),
    )


_NEEDED = ("item", "unit", "table", "itemid")
_COLUMNS = (*_NEEDED, "low", "high", "factor", "shift")


def read_items(path: Path) -> tuple[Item, ...]:
    """Read items from a .csv with one row per item id: item, unit, table, itemid; optional: low, high, factor, shift.

    Raises
    ------
    UserError
        The file has problems; all are listed with line, column, value, remedy.
    """
    problems: list[Problem] = []
    rows = read_list(path, "--items", _COLUMNS, _NEEDED, "item id", problems)
    items = _joined(path.name, [_row(path.name, line, row, problems) for line, row in rows], problems)
    if problems:
        raise several(f"--items {path} is no list of items", map(str, problems))
    return items


Row = tuple[str, str, float, float, Source]


def _row(file: str, line: int, row: dict[str, str | None], problems: list[Problem]) -> Row:
    def number(column: str, otherwise: float) -> float:
        text = (row.get(column) or "").strip()
        value = number_of(text) if text else otherwise
        if value is None or np.isnan(value):
            problems.append(Problem(file, "not a number", "use a decimal point", line, column, text))
            return otherwise
        return value

    table = (row["table"] or "").strip()
    if table not in (CHART, LAB):
        problems.append(Problem(file, "no such table", f"use {CHART} or {LAB}", line, "table", table))
    itemid = number("itemid", -1)
    if itemid < 0 or not float(itemid).is_integer():
        problems.append(Problem(file, "not an item id", "use a whole number", line, "itemid", row["itemid"]))
        itemid = -1
    name = (row["item"] or "").strip()
    if not name:
        problems.append(Problem(file, "empty", "name the item", line, "item"))
    low, high = number("low", -inf), number("high", inf)
    if low > high:
        problems.append(Problem(file, f"low is above high ({high:g})", "swap them", line, "low", f"{low:g}"))
    source = Source(table, int(itemid), number("factor", 1.0), number("shift", 0.0))
    return name, (row["unit"] or "").strip(), low, high, source


def _joined(file: str, rows: list[Row], problems: list[Problem]) -> tuple[Item, ...]:
    """Combine the rows of each item, in the order of first occurrence."""
    items: dict[str, Item] = {}
    seen: set[tuple[str, int]] = set()
    for line, (name, unit, low, high, source) in enumerate(rows, start=2):
        if (source.table, source.itemid) in seen:
            problems.append(
                Problem(file, "stands in an earlier line too", "keep one", line, "itemid", str(source.itemid))
            )
        seen.add((source.table, source.itemid))
        before = items.get(name)
        if before is not None and (before.unit, before.low, before.high) != (unit, low, high):
            what = f"{name} has another unit, low or high in an earlier line"
            problems.append(Problem(file, what, "give all its lines the same; factor and shift convert", line, "item"))
        sources = (*before.sources, source) if before else (source,)
        items[name] = Item(name, unit, low, high, sources)
    return tuple(items.values())
