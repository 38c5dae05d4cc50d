"""Check the JSON values of one patient against the schema of a modality.

Every function raises `MistakeError` for the first mistake. Letters: F columns.
"""

from typing import Any

import numpy as np

from remind.data.cohort.kinds.codes import CodesSchema
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.text import Names, declared_text, id_text, is_missing
from remind.suggest import did_you_mean

CLOSE = 1 + 1e-6  # as in the reader of series: rounding to float32 may move a time slightly beyond the horizon
Observation = tuple[float, int, float]  # hours, position of the item, value


class MistakeError(ValueError):
    """One patient's values contain a mistake."""


def row(schema: TableSchema, given: Any) -> list[float]:
    """Return one row of the table, F numbers, NaN = missing, the level's index in categorical columns."""
    if not isinstance(given, dict):
        raise MistakeError(f"{schema.name}: {shown_kind(given)}; a table is {{column: value}}")
    for column in given:
        if column not in schema.columns:
            hint = did_you_mean(column, schema.columns)
            raise MistakeError(f"{schema.name}.{column}: the model has no such column{hint}; GET /schema lists them")
    return [_cell(schema, column, given.get(column)) for column in schema.columns]


def _cell(schema: TableSchema, column: str, value: Any) -> float:
    where = f"{schema.name}.{column}"
    levels = schema.categories.get(column)
    if value is None:
        return float("nan")
    if levels is None:
        return _number(where, value)
    if not isinstance(value, str | int | float):
        raise MistakeError(f"{where}: {shown_kind(value)}; give one of {', '.join(levels)}")
    meant = Names(levels).resolve(id_text(value) or "", plain=True)
    if meant is None:
        return float("nan")
    if meant not in levels:
        raise MistakeError(
            f"{where}: {meant!r} is not a level{did_you_mean(meant, levels)}; give one of {', '.join(levels)}"
        )
    return float(levels.index(meant))


def observations(schema: SeriesSchema, given: Any) -> list[Observation]:
    """Return the observations of a series, sorted by time and item; an entry with the value null is left out."""
    if not isinstance(given, list):
        raise MistakeError(f"{schema.name}: {shown_kind(given)}; a series is a list of {{hours, item, value}}")
    found = []
    for k, entry in enumerate(given):
        where = f"{schema.name}[{k}]"
        if not isinstance(entry, dict) or set(entry) != {"hours", "item", "value"}:
            raise MistakeError(f"{where}: give hours, item and value, and nothing else")
        if entry["value"] is None:
            continue
        item = entry["item"] if isinstance(entry["item"], str) else declared_text(entry["item"])
        if item not in schema.items:
            raise MistakeError(f"{where}.item: {item!r} is not an item of the model{did_you_mean(item, schema.items)}")
        hours = _number(f"{where}.hours", entry["hours"])
        if not 0 <= hours <= schema.horizon_hours * CLOSE:
            raise MistakeError(f"{where}.hours: {hours:g} is outside 0 to {schema.horizon_hours:g}; is it in hours?")
        found.append((hours, schema.items.index(item), _number(f"{where}.value", entry["value"])))
    return sorted(found, key=lambda entry: (entry[0], entry[1]))


def codes(schema: CodesSchema, given: Any) -> list[str]:
    """Return the distinct codes, sorted, without words for a missing value."""
    if not isinstance(given, list):
        raise MistakeError(f"{schema.name}: {shown_kind(given)}; codes are a list")
    found = set()
    for k, code in enumerate(given):
        if isinstance(code, bool) or not isinstance(code, str | int):
            raise MistakeError(f"{schema.name}[{k}]: {shown_kind(code)}; a code is a text")
        text = declared_text(code)
        if is_missing(text) and text not in schema.vocabulary:
            continue
        if schema.vocabulary and text not in schema.vocabulary:
            hint = did_you_mean(text, schema.vocabulary)
            raise MistakeError(f"{schema.name}[{k}]: {text!r} is not in the model's vocabulary{hint}")
        found.add(text)
    return sorted(found)


def _number(where: str, value: Any) -> float:
    if isinstance(value, str):
        raise MistakeError(f"{where}: is the text {value[:40]!r}; give a number, null = missing")
    if not isinstance(value, int | float):
        raise MistakeError(f"{where}: {shown_kind(value)}; give a number, null = missing")
    with np.errstate(over="ignore"):
        try:
            number = float(np.float32(value))
        except OverflowError:
            number = float("inf")
    if not np.isfinite(number):
        raise MistakeError(f"{where}: is not a finite number; null = missing")
    return number


def shown_kind(value: Any) -> str:
    """Return what a JSON value is, for an error message."""
    kinds: tuple[tuple[type, str], ...] = ((dict, "is an object"), (list, "is a list"), (str, "is a text"))
    return next((words for kind, words in kinds if isinstance(value, kind)), f"is {value!r}")
