"""Cohorts of a few patients, in memory: one function each for the schema and the patients."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION, Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.schema import CohortSchema, ModalitySchema

NAMES = ("a", "b", "c")


def schema(names: Sequence[str] = NAMES, series: Iterable[str] = ("b",), classes: int = 2) -> CohortSchema:
    """Tables with two numeric columns and a categorical one; those in `series` are series of two items."""
    modalities: list[ModalitySchema] = [
        SeriesSchema(name=name, items=("u", "v"), horizon_hours=24.0)
        if name in series
        else TableSchema(name=name, columns=("p", "q", "r"), categories={"q": ("lo", "hi")})
        for name in names
    ]
    return CohortSchema(name="tiny", classes=tuple(f"c{i}" for i in range(classes)), modalities=tuple(modalities))


def cohort(
    group_N: Sequence[int], seed: int = 0, of: CohortSchema | None = None, split_N: Sequence[int] | None = None
) -> Cohort:
    """Patients in these groups with random values; of each group's patients two in four train."""
    rng, group = np.random.default_rng(seed), np.asarray(group_N)
    of = of or schema()
    modalities: dict[str, Contents] = {}
    for bit, modality in enumerate(of.modalities):
        make = _table if isinstance(modality, TableSchema) else _series
        modalities[modality.name] = make(len(group), rng).hide((group >> bit & 1) == 0)
    ids = np.array([f"p{seed}-{i}" for i in range(len(group))], dtype=np.str_)
    label_N = rng.integers(len(of.classes), size=len(group))
    parts = _cycled(group) if split_N is None else np.asarray(split_N, dtype=np.int8)
    return Cohort(of, ids, ids, label_N, None, parts, presence(of, modalities), modalities)


def contents(patients: Cohort, modality: str) -> Any:
    """What a cohort holds of a modality; the test knows of which kind it is."""
    return patients.modalities[modality]


def declared(of: Any, place: int) -> Any:
    """How the modality at this place is declared, in a cohort or a report; the test knows of which kind it is."""
    return of.schema.modalities[place]


def _table(number: int, rng: np.random.Generator) -> Table:
    values_NF = rng.normal(size=(number, 3)).astype(np.float32)
    values_NF[:, 1] = rng.integers(2, size=number)
    values_NF[rng.random((number, 3)) < 0.2] = np.nan
    values_NF[:, 0] = rng.normal(size=number)  # always there, so that presence is as asked for
    return Table(values_NF)


def _series(number: int, rng: np.random.Generator) -> Series:
    count_N = rng.integers(1, 5, size=number)
    offsets_N1 = np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)
    total = int(offsets_N1[-1])
    time_O = np.concatenate([np.sort(rng.uniform(0, 24, size=n)) for n in count_N])
    return Series(
        offsets_N1,
        time_O.astype(np.float32),
        rng.integers(2, size=total),
        rng.normal(3.0, 2.0, size=total).astype(np.float32),
    )


def _cycled(group: np.ndarray) -> np.ndarray:
    split_N = np.zeros(len(group), dtype=np.int8)
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        split_N[rows] = np.resize([TRAIN, TRAIN, VALIDATION, TEST], len(rows))
    return split_N
