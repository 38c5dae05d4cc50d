"""A batch of one modality → one row of plain numbers per patient, for models of tables.

Shapes: P patients, F columns of a table, I items of a series, O observations (or codes), X numbers per patient.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.cohort.kinds.codes import CodesBatch, CodesSchema
from remind.data.cohort.kinds.series import SeriesBatch, SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.schema import ModalitySchema

Rows = NDArray[np.float32]
BUCKETS = 256  # columns of a set of codes without a vocabulary, or with a larger one


def table_rows(schema: TableSchema, inputs: Tensor) -> Rows:
    """Values as they are, (P, F): NaN where missing, the index of the level in categorical columns."""
    return inputs.detach().cpu().numpy().astype(np.float32)


def series_rows(schema: SeriesSchema, inputs: SeriesBatch) -> Rows:
    """Mean, first, last, lowest, highest value and number of each item's observations, (P, 6·I); NaN where none."""
    items = len(schema.items)
    segments = inputs.patients * items
    segment_O = inputs.patient_O * items + inputs.item_O
    value_O = inputs.value_O.detach().double()
    count_S = value_O.new_zeros(segments).index_add(0, segment_O, torch.ones_like(value_O))
    mean_S = value_O.new_zeros(segments).index_add(0, segment_O, value_O) / count_S
    order_O = torch.argsort(segment_O, stable=True)  # a patient's observations are in order of time
    start_S = count_S.long().cumsum(0) - count_S.long()
    by_item_O = torch.cat([value_O[order_O], value_O.new_zeros(1)])
    first_S, last_S = by_item_O[start_S], by_item_O[(start_S + count_S.long() - 1).clamp(min=0)]
    empty_S = value_O.new_zeros(segments)
    low_S = empty_S.scatter_reduce(0, segment_O, value_O, "amin", include_self=False)
    high_S = empty_S.scatter_reduce(0, segment_O, value_O, "amax", include_self=False)
    measured_XS = torch.stack([mean_S, first_S, last_S, low_S, high_S])
    measured_XS = measured_XS.masked_fill(count_S == 0, torch.nan)
    rows_XPI = torch.cat([measured_XS, count_S[None]]).view(6, inputs.patients, items)
    return rows_XPI.permute(1, 0, 2).flatten(1).cpu().numpy().astype(np.float32)


def code_columns(schema: CodesSchema) -> int:
    """Return the number of columns of codes, their number not counted."""
    return len(schema.vocabulary) if 0 < len(schema.vocabulary) <= BUCKETS else BUCKETS


def codes_rows(schema: CodesSchema, inputs: CodesBatch) -> Rows:
    """Whether the patient has each code, and how many, (P, X); of more than BUCKETS codes some share a column."""
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
        return (0,) * (6 * len(schema.items))
    return (0,) * (code_columns(schema) + 1)


def has_rows(schema: ModalitySchema) -> bool:
    """Return whether a kind of modality can be given to a model of tables."""
    return type(schema) in _ROWS


def rows_of(schema: ModalitySchema, inputs: Any) -> Rows:
    """Return a row per patient of the batch, float32 (P, X), with NaN where nothing is known."""
    rows_PX = _ROWS[type(schema)](schema, inputs)
    return np.where(np.isnan(rows_PX), np.float32(np.nan), rows_PX)  # one NaN, so that equal rows are equal bytes
