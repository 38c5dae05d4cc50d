"""Rows of numbers for each kind of modality, computed by hand."""

import numpy as np
import torch

from remind.data.cohort.kinds.codes import CodesBatch, CodesSchema
from remind.data.cohort.kinds.pictures import ImageSchema
from remind.data.cohort.kinds.series import SeriesBatch
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.features.batches import BUCKETS, has_rows, levels_of, rows_of

NAN = float("nan")


def test_a_table_as_it_is():
    schema = TableSchema(name="t", columns=("a", "b"), categories={"b": ("x", "y")})
    values = torch.tensor([[1.5, 1.0], [NAN, 0.0]], dtype=torch.float64)
    rows = rows_of(schema, values)
    np.testing.assert_array_equal(rows, np.array([[1.5, 1], [NAN, 0]], np.float32))
    assert rows.dtype == np.float32
    assert levels_of(schema) == (0, 2)


def test_every_nan_is_the_same_bytes():
    schema = TableSchema(name="t", columns=("a",))
    other_nan = torch.tensor([[NAN], [0.0]]) / torch.tensor([[1.0], [0.0]])
    assert len({row.tobytes() for row in rows_of(schema, -other_nan)}) == 1


def test_a_series_by_hand():
    schema = SeriesSchema(name="s", items=("p", "q"), horizon_hours=48.0)
    inputs = SeriesBatch(
        time_O=torch.tensor([0.0, 1.0, 2.0, 0.5]),
        item_O=torch.tensor([0, 1, 0, 1]),
        value_O=torch.tensor([3.0, 10.0, 1.0, 7.0]),
        patient_O=torch.tensor([0, 0, 0, 1]),
        patients=2,
    )
    # count, first, last, lowest, highest value, mean, deviation, slope per hour, hours to the horizon; of p, then of q
    expected = [
        [2, 3, 1, 1, 3, 2, 1, -1, 46, 1, 10, 10, 10, 10, 10, 0, NAN, 47],
        [0, *[NAN] * 8, 1, 7, 7, 7, 7, 7, 0, NAN, 47.5],
    ]
    np.testing.assert_array_equal(rows_of(schema, inputs), np.array(expected, np.float32))
    assert len(levels_of(schema)) == 18


def test_codes_by_hand():
    schema = CodesSchema(name="c", vocabulary=("a", "b", "c"))
    inputs = CodesBatch(torch.tensor([0, 2, 1]), torch.tensor([0, 0, 2]), 3)
    np.testing.assert_array_equal(rows_of(schema, inputs), [[1, 0, 1, 2], [0, 0, 0, 0], [0, 1, 0, 1]])
    hashed = CodesSchema(name="c")
    rows = rows_of(hashed, CodesBatch(torch.tensor([BUCKETS + 5]), torch.tensor([0]), 1))
    assert rows.shape == (1, BUCKETS + 1) == (1, len(levels_of(hashed)))
    assert rows[0, 5] == 1


def test_pictures_have_no_rows():
    assert not has_rows(ImageSchema(name="i", size=(8, 8), channels=1))
