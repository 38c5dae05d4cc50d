"""Hospitals of a study: folds never divide a person, also across hospitals."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from remind.config import SyntheticConfig
from remind.data.cohort.cohort import TEST
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import hospitals


@pytest.fixture
def spread(tmp_path):
    config = SyntheticConfig(patients=240, law="independent", missing="0.2, 0.2", kinds="table, table")
    cohort = generate(config, 0)
    person_N = np.array([f"h{i // 3:03d}" for i in range(len(cohort))])
    site_N = np.random.default_rng(0).choice(["a", "b", "c", "d"], len(cohort))
    return replace(cohort, person_N=person_N, site_N=site_N)


def cell(folder, seed):
    return Cell.of({"data.cohort": str(folder), "seed": seed})


def test_folds_divide_no_person_and_test_everybody_once(spread, tmp_path):
    write_cohort(spread, tmp_path / "c")
    tested = defaultdict(int)
    for seed in range(5):
        parts = defaultdict(set)
        for site in hospitals(cell(tmp_path / "c", seed)):
            for person, part in zip(site.cohort.person_N.tolist(), site.cohort.split_N.tolist(), strict=True):
                parts[person].add(part)
        assert all(len(found) == 1 for found in parts.values())
        for person, found in parts.items():
            tested[person] += TEST in found
    assert set(tested.values()) == {1}


def test_one_class_is_refused(spread, tmp_path):
    write_cohort(replace(spread, label_N=np.zeros(240, dtype=np.int64)), tmp_path / "c")
    with pytest.raises(UserError, match="nothing to learn"):
        hospitals(cell(tmp_path / "c", 0))
