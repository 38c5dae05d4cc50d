"""Virtual hospitals: equal in every process, and each mistake gives one message."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from remind.config import DataConfig, SyntheticConfig
from remind.data.checks.check import check_cohort
from remind.data.cohort.cohort import TEST, TRAIN
from remind.data.sites.hospitals import virtual_hospitals
from remind.data.sites.split import agreed, assign_split
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError

SMALL = SyntheticConfig(patients=80)


def test_the_same_for_all_who_ask():
    first = virtual_hospitals(DataConfig(), SMALL, 3, 4)
    virtual_hospitals.cache_clear()
    again = virtual_hospitals(DataConfig(), SMALL, 3, 4)
    assert [site.name for site in first] == [site.name for site in again]
    assert all(a.cohort == b.cohort for a, b in zip(first, again, strict=True))
    assert sum(len(site.cohort) for site in first) == 80
    assert all(np.any(site.cohort.split_N == TRAIN) for site in first)


def test_more_hospitals_than_patients():
    with pytest.raises(UserError, match="81 sites for 80 patients"):
        virtual_hospitals(DataConfig(), SMALL, 0, 81)


def test_a_hospital_without_training_patients_is_named(tmp_path):
    cohort = generate(SMALL, 0)
    site_N = np.array(["a", "b"] * 40)
    object.__setattr__(cohort, "site_N", site_N)
    object.__setattr__(cohort, "split_N", np.where(site_N == "b", 2, 0).astype(np.int8))
    write_cohort(cohort, tmp_path / "cohort")
    with pytest.raises(UserError, match="site 'b': none of its 40 patients"):
        virtual_hospitals(DataConfig(cohort=str(tmp_path / "cohort")), SMALL, 0, 2)


def refusal_and_problems(folder):
    """What a run says, and what the check says."""
    with pytest.raises(UserError) as caught:
        virtual_hospitals(DataConfig(cohort=str(folder)), SMALL, 0, None)
    return str(caught.value), check_cohort(folder)


def test_the_check_finds_what_a_run_refuses(tmp_path):
    cohort = generate(SMALL, 0)
    site_N = np.array(["a", "b"] * 40)
    outside = replace(cohort, site_N=site_N, split_N=np.where(site_N == "b", TEST, TRAIN).astype(np.int8))
    one = replace(cohort, site_N=site_N, label_N=np.zeros(80, dtype=np.int64))
    held_out = replace(cohort, site_N=site_N, split_N=np.where(cohort.label_N == 1, TEST, TRAIN).astype(np.int8))
    words = ["site 'b': none of its 40 patients", "all 80 patients are of class", "training patients are of class"]
    for i, (spoiled, said) in enumerate(zip((outside, one, held_out), words, strict=True)):
        write_cohort(spoiled, tmp_path / str(i))
        refusal, report = refusal_and_problems(tmp_path / str(i))
        assert not report.ok
        assert said in refusal
        assert [f"  - {problem}" for problem in report.problems] == refusal.splitlines()[1:]
        assert check_cohort(tmp_path / str(i), alone=False).ok  # as one hospital among others


def test_a_cohort_of_one_class_without_sites_is_a_problem(tmp_path):
    write_cohort(replace(generate(SMALL, 0), label_N=np.zeros(80, dtype=np.int64)), tmp_path / "c")
    (problem,) = check_cohort(tmp_path / "c").problems
    assert "nothing to learn" in problem.what
    with pytest.raises(UserError, match="nothing to learn"):
        virtual_hospitals(DataConfig(cohort=str(tmp_path / "c")), SMALL, 0, 3)


@pytest.mark.parametrize("data", [DataConfig(), DataConfig(sites="dirichlet"), DataConfig(rules="2: no M1")])
def test_a_person_lies_in_one_part_at_all_hospitals(data, tmp_path):
    config = SyntheticConfig(patients=240, law="independent", missing="0.2, 0.2", kinds="table, table")
    cohort = generate(config, 0)
    person_N = np.array([f"h{i // 3:03d}" for i in range(len(cohort))])
    site_N = np.random.default_rng(0).choice(["a", "b", "c", "d"], len(cohort))
    write_cohort(replace(cohort, person_N=person_N, site_N=site_N), tmp_path / "c")
    sites = virtual_hospitals(data.model_copy(update={"cohort": str(tmp_path / "c")}), SMALL, 5, 4)
    parts = defaultdict(set)
    for site in sites:
        for person, part in zip(site.cohort.person_N.tolist(), site.cohort.split_N.tolist(), strict=True):
            parts[person].add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert {part for found in parts.values() for part in found} == {0, 1, 2}
    assert all(np.any(site.cohort.split_N == TRAIN) for site in sites)


def test_a_hospital_of_visitors_alone_has_training_patients():
    cohort = generate(SMALL, 0)
    names = np.array([f"h{i:02d}" for i in range(20)])
    home = replace(cohort.take(np.arange(60)), person_N=np.repeat(names, 3))
    visitors = replace(cohort.take(np.arange(60, 65)), person_N=names[:5])
    first, second = agreed([home, visitors], lambda part: np.full(len(part), TEST, dtype=np.int8), 0)
    assert (first == TRAIN).any()
    assert (second == TRAIN).any()
    for name in names:
        assert len({*first[home.person_N == name], *second[visitors.person_N == name]}) == 1


def test_splits_without_shared_persons_are_each_hospitals_own():
    for site in virtual_hospitals(DataConfig(), SMALL, 3, 4):
        alone = assign_split(replace(site.cohort, split_N=None), 3, DataConfig().validation, DataConfig().test)
        assert np.all(alone.split_N == site.cohort.split_N)


def test_patients_in_one_place_keep_their_hospitals_name_and_split():
    apart = virtual_hospitals(DataConfig(), SMALL, 3, 4)
    (whole,) = virtual_hospitals(DataConfig(pooled=4), SMALL, 3, 1)
    assert whole.name == "pooled"
    for site in apart:
        mine = whole.cohort.take(np.asarray(whole.cohort.site_N == site.name))
        assert (mine.patient_id_N == site.cohort.patient_id_N).all()
        assert np.all(mine.split_N == site.cohort.split_N)
