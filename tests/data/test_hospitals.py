"""Virtual hospitals: every process gets the same, and what is wrong with them is one message."""

import numpy as np
import pytest

from remind.config import DataConfig, SyntheticConfig
from remind.data.cohort import TRAIN
from remind.data.hospitals import virtual_hospitals
from remind.data.synthetic import generate
from remind.data.write import write_cohort
from remind.errors import UserError

SMALL = SyntheticConfig(patients=80)


def test_the_same_for_all_who_ask():
    first = virtual_hospitals(DataConfig(), SMALL, 3, 4)
    virtual_hospitals.cache_clear()
    again = virtual_hospitals(DataConfig(), SMALL, 3, 4)
    assert [site.name for site in first] == [site.name for site in again]
    assert all(a.cohort == b.cohort for a, b in zip(first, again, strict=True))
    assert sum(len(site.cohort) for site in first) == 80
    assert all((site.cohort.split_N == TRAIN).any() for site in first)


def test_more_hospitals_than_patients():
    with pytest.raises(UserError, match="81 sites for 80 patients"):
        virtual_hospitals(DataConfig(), SMALL, 0, 81)


def test_a_hospital_without_training_patients_is_named(tmp_path):
    cohort = generate(SMALL, 0)
    site_N = np.array(["a", "b"] * 40)
    object.__setattr__(cohort, "site_N", site_N)
    object.__setattr__(cohort, "split_N", np.where(site_N == "b", 2, 0).astype(np.int8))
    write_cohort(cohort, tmp_path / "cohort")
    with pytest.raises(UserError, match="site b: "):
        virtual_hospitals(DataConfig(cohort=str(tmp_path / "cohort")), SMALL, 0, 2)


def test_patients_in_one_place_keep_their_hospitals_name_and_split():
    apart = virtual_hospitals(DataConfig(), SMALL, 3, 4)
    (whole,) = virtual_hospitals(DataConfig(pooled=4), SMALL, 3, 1)
    assert whole.name == "pooled"
    for site in apart:
        mine = whole.cohort.take(whole.cohort.site_N == site.name)
        assert (mine.patient_id_N == site.cohort.patient_id_N).all()
        assert (mine.split_N == site.cohort.split_N).all()
