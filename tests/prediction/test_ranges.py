"""Ranges use the registry of kinds, so that kinds of other packages have ranges too."""

from typing import Any

import numpy as np
import pytest

from remind.data.cohort.kind import Kind
from remind.data.cohort.kinds.table import TableKind
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.features import batches
from remind.prediction import ranges
from remind.prediction.ranges import Ranges, Units, remarks
from tests.builders.cohorts import cohort, schema


class Elsewhere(TableKind):
    """A kind that knows nothing of ranges, only two numbers that sum a patient up; the second is never known."""

    measured = Kind.measured

    def summary_names(self, of):
        return ("mean", "nothing")

    def summary(self, of, contents):
        mean_N = np.nanmean(contents.values_NF, axis=1)
        return np.stack([mean_N, np.full_like(mean_N, np.nan)], axis=1)

    def batch_rows(self, of, inputs):
        return self.summary(of, inputs)


def test_a_kind_of_another_package_is_measured_by_its_summary(monkeypatch):
    own = Elsewhere()
    monkeypatch.setattr(ranges, "kind_of", lambda of: own)
    training = cohort([1] * 40, of=schema(("a",), ()))
    known = Ranges.of(training)
    assert list(known.numbers["a"]) == ["mean"]
    assert known.levels == {}
    far = cohort([1] * 40, seed=1, of=schema(("a",), ()))
    table: Any = far.modalities["a"]
    table.values_NF[:30, 0] = 1e6
    assert set(remarks(far, known)) == set(range(30))
    assert all(line.startswith("a.mean = ") for lines in remarks(far, known).values() for line in lines)
    units = Units()
    units.add(far, known)
    (line,) = units.suspected()
    assert line.startswith("a.mean: 30 of 40 values lie far outside")


@pytest.mark.parametrize("brings", [True, False])
def test_models_of_tables_take_it_if_it_brings_rows(monkeypatch, brings):
    class Of(ModalitySchema):
        """A schema that is not our own."""

        kind: str = "elsewhere"

    own = Elsewhere() if brings else TableKind()
    monkeypatch.setattr(batches, "kind_of", lambda of: own)
    of = Of(name="x")
    assert batches.has_rows(of) == brings
    if brings:
        table: Any = cohort([1] * 4).modalities["a"]
        np.testing.assert_allclose(batches.rows_of(of, table)[:, 0], np.nanmean(table.values_NF, axis=1), rtol=1e-6)
        assert batches.levels_of(of) == (0, 0)
