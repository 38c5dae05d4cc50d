"""Units of the values in MIMIC-IV (`valueuom`), and their conversion to the unit of an item.

A value without a unit is in the unit of its source. A value in the item's unit, under any of its names, or in a unit
with a known conversion, is converted. Among the other units of a source, the one with most values is assumed to be the
source's own unit. Values in the remaining units are left out and reported, because their unit is unknown.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remind.data.importers.mimic_items import Item

# One name for each unit, after `_plain`.
_NAMES = {
    **dict.fromkeys(("bpm", "beats/min", "insp/min", "breaths/min", "permin"), "/min"),
    **dict.fromkeys(("sec", "sec.", "seconds"), "s"),
    **dict.fromkeys(("iu/l", "units/l"), "u/l"),
    **dict.fromkeys(("10^9/l", "x10^9/l", "10*9/l", "10^3/ul", "10*3/ul", "thousand/ul"), "k/ul"),
    **dict.fromkeys(("/ul", "#/cmm", "cells/ul"), "#/ul"),
    **dict.fromkeys(("f", "degf", "deg.f", "?f", "fahrenheit"), "°f"),
    **dict.fromkeys(("c", "degc", "deg.c", "?c", "celsius"), "°c"),
    **dict.fromkeys(("percent",), "%"),
    **dict.fromkeys(("unit", "ph"), "units"),
    **dict.fromkeys(("inr",), "ratio"),
    "ug/l": "ng/ml",
}
# (from, to): value · factor + shift.
_ANY_ITEM = {
    ("°f", "°c"): (5 / 9, -160 / 9),
    ("kpa", "mmhg"): (7.50062, 0.0),
    ("g/l", "g/dl"): (0.1, 0.0),
    ("mg/l", "mg/dl"): (0.1, 0.0),
    ("ng/l", "ng/ml"): (0.001, 0.0),
    ("pg/ml", "ng/ml"): (0.001, 0.0),
    ("#/ul", "k/ul"): (0.001, 0.0),
    ("l/l", "%"): (100.0, 0.0),
}
# The factor from mmol/L to mg/dL is a tenth of the molar mass in g/mol.
_MOLAR_MASS = {
    "Urea nitrogen": 28.0134,
    "Creatinine": 113.118,
    "Glucose": 180.156,
    "Calcium": 40.078,
    "Magnesium": 24.305,
    "Phosphate": 30.974,  # as phosphorus
    "Bilirubin": 584.66,
    "Lactate": 89.07,
}
_VALENCE = {"Sodium": 1, "Potassium": 1, "Chloride": 1, "Bicarbonate": 1, "Anion gap": 1, "Calcium": 2, "Magnesium": 2}
EMPTY = ""


def unit_name(text: str | None) -> str:
    """Return one name for all spellings of a unit; empty if there is none."""
    plain = (text or "").strip().casefold().replace("µ", "u").replace("μ", "u").replace("mcg", "ug")
    plain = "".join(plain.split())
    return _NAMES.get(plain, plain)


def conversion(item: Item, unit: str) -> tuple[float, float] | None:
    """Return factor and shift from `unit`, as `unit_name` returns it, to the item's unit; None if unknown."""
    target = unit_name(item.unit)
    if unit == target:
        return 1.0, 0.0
    if found := _ANY_ITEM.get((unit, target)):
        return found
    mass, valence = _MOLAR_MASS.get(item.name), _VALENCE.get(item.name)
    millimoles = {"mmol/l": 1.0, "umol/l": 0.001} | ({"meq/l": 1 / valence} if valence else {})
    if unit in millimoles and target == "mmol/l":
        return millimoles[unit], 0.0
    if mass and target == "mg/dl" and unit in millimoles:
        return millimoles[unit] * mass / 10, 0.0
    if mass and target == "mmol/l" and unit == "mg/dl":
        return 10 / mass, 0.0
    return None


@dataclass
class Units:
    """The units found while a table is read. Letters: R rows, K sources, U units.

    Attributes
    ----------
    names
        Units as `unit_name` returns them; a code is a position in this list.
    count
        Number of values kept, per source (a position among the K) and unit.
    """

    items: Sequence[Item]
    item_K: NDArray[np.int64]
    factor_K: NDArray[np.float64]
    shift_K: NDArray[np.float64]
    names: list[str] = field(default_factory=lambda: [EMPTY])
    count: Counter[tuple[int, int]] = field(default_factory=Counter)
    _steps: dict[tuple[int, int], tuple[float, float] | None] = field(default_factory=dict)

    def codes(self, texts: Sequence[str | None]) -> NDArray[np.int64]:
        """Return the code of each text."""
        found = [unit_name(text) for text in texts]
        self.names += [name for name in dict.fromkeys(found) if name not in self.names]
        return np.array([self.names.index(name) for name in found], dtype=np.int64)

    def convert(
        self, value_R: NDArray[np.float64], source_R: NDArray[np.int64], unit_R: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Convert values to their items' units, (R,).

        Also return whether the unit was known (if not, the source's own is assumed).
        """
        pair_V2, place_R = np.unique(np.stack([source_R, unit_R], axis=1), axis=0, return_inverse=True)
        steps = [self._step(k, u) for k, u in pair_V2.tolist()]
        own = [(float(self.factor_K[k]), float(self.shift_K[k])) for k in pair_V2[:, 0].tolist()]
        used = np.array([step or mine for step, mine in zip(steps, own, strict=True)]).reshape(-1, 2)
        known = np.array([step is not None for step in steps], dtype=bool)
        place_R = place_R.reshape(-1)
        return value_R * used[place_R, 0] + used[place_R, 1], known[place_R]

    def _step(self, source: int, unit: int) -> tuple[float, float] | None:
        if (source, unit) not in self._steps:
            own = float(self.factor_K[source]), float(self.shift_K[source])
            name = self.names[unit]
            self._steps[source, unit] = own if name == EMPTY else conversion(self.items[self.item_K[source]], name)
        return self._steps[source, unit]

    def taken(self) -> dict[tuple[int, int], bool]:
        """Return for each source and unit without a conversion whether it is assumed to be the source's own."""
        most: dict[int, int] = {}
        for (source, unit), n in self.count.items():
            if n > self.count.get((source, most.get(source, -1)), 0):
                most[source] = unit
        unknown = [pair for pair in self.count if self._step(*pair) is None]
        return {(source, unit): most[source] == unit for source, unit in unknown}

    def remarks(self) -> list[str]:
        """Describe which units were converted, and which were assumed to be an item's own."""
        lines = []
        for (source, unit), n in sorted(self.count.items()):
            item, step = self.items[self.item_K[source]], self._step(source, unit)
            own = float(self.factor_K[source]), float(self.shift_K[source])
            if step is None and self.taken()[source, unit]:
                lines.append(
                    f"{item.name}: {n} values in {self.names[unit]!r}, which is not known, taken for {item.unit}"
                )
            elif step is not None and step != (1.0, 0.0) and not np.allclose(step, own):
                lines.append(f"{item.name}: {n} values converted from {self.names[unit]} to {item.unit}")
        return lines
