"""The same features of a batch of one modality as encoders get it: one row of plain numbers per patient.

`kinds` makes them of a whole cohort. Tables and series have the same columns in both; codes have other columns here: no
prefixes, and whether the patient has a code instead of how often. A kind of another package brings its own.

Shapes: P patients (N where a cohort's own shapes are meant), F columns of a table, I items of a series, O observations
(or codes), X numbers per patient.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.cohort.kind import Kind, kind_of
from remind.data.cohort.kinds.codes import CodesBatch, CodesSchema
from remind.data.cohort.kinds.series import Series, SeriesBatch
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.schema import ModalitySchema
from remind.data.features.series import STATISTICS, summary

Rows = NDArray[np.float32]
BUCKETS = 256  # columns of a set of codes without a vocabulary, or with a larger one


def table_rows(schema: TableSchema, inputs: Tensor) -> Rows:
    """Return the values as they are, (P, F): NaN where missing, the index of the level in categorical columns."""
    return inputs.detach().cpu().numpy().astype(np.float32)


def series_rows(schema: SeriesSchema, inputs: SeriesBatch) -> Rows:
    """Return nine statistics of each item's observations, (P, 9·I): `remind.data.features.series`."""
    patient_O, item_O, time_O, value_O = (
        tensor_O.detach().cpu().numpy() for tensor_O in (inputs.patient_O, inputs.item_O, inputs.time_O, inputs.value_O)
    )
    offsets_N1 = np.concatenate([[0], np.cumsum(np.bincount(patient_O, minlength=inputs.patients))])
    return summary(Series(offsets_N1, time_O, item_O, value_O), schema).astype(np.float32)


def code_columns(schema: CodesSchema) -> int:
    """Return the number of columns of codes, their number not counted."""
    return len(schema.vocabulary) if 0 < len(schema.vocabulary) <= BUCKETS else BUCKETS


def codes_rows(schema: CodesSchema, inputs: CodesBatch) -> Rows:
    """Return whether the patient has each code, and how many, (P, X); more than BUCKETS codes share columns."""
    columns = code_columns(schema)
    rows_PX = torch.zeros(inputs.patients, columns + 1, dtype=torch.float32, device=inputs.code_O.device)
    rows_PX[inputs.patient_O, inputs.code_O % columns] = 1.0
    rows_PX[:, -1] = torch.bincount(inputs.patient_O, minlength=inputs.patients).float()
    return rows_PX.cpu().numpy()


_ROWS: dict[type, Callable[[Any, Any], Rows]] = {
    TableSchema: table_rows,
    SeriesSchema: series_rows,
    CodesSchema: codes_rows,
}


def levels_of(schema: Any) -> tuple[int, ...]:
    """Return the number of levels of each of the X columns; 0: a number."""
    if isinstance(schema, TableSchema):
        return tuple(len(schema.categories.get(column, ())) for column in schema.columns)
    if isinstance(schema, SeriesSchema):
        return (0,) * (len(STATISTICS) * len(schema.items))
    if isinstance(schema, CodesSchema):
        return (0,) * (code_columns(schema) + 1)
    return (0,) * len(kind_of(schema).summary_names(schema))


def has_rows(schema: ModalitySchema) -> bool:
    """Return whether a kind of modality can be given to a model of tables."""
    return type(schema) in _ROWS or type(kind_of(schema)).batch_rows is not Kind.batch_rows


def rows_of(schema: ModalitySchema, inputs: Any) -> Rows:
    """Return a row per patient of the batch, float32 (P, X), with NaN where nothing is known."""
    own = _ROWS.get(type(schema), kind_of(schema).batch_rows)
    rows_PX = np.asarray(own(schema, inputs), dtype=np.float32)
    return np.where(np.isnan(rows_PX), np.float32(np.nan), rows_PX)  # one NaN, so that equal rows are equal bytes
