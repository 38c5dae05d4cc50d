"""Folds: every patient is tested once per partition, persons stay together, and the order of rows does not matter."""

from dataclasses import replace

import numpy as np
import pytest

from remind.config import Config
from remind.data.cohort import TEST, TRAIN, VALIDATION
from remind.data.hospitals import pool
from remind.errors import UserError
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import _split, fold_of, folds, hospitals
from tests.tiny import cohort

SYNTHETIC = {"synthetic.patients": 200, "synthetic.law": "embed"}


def cell(seed, **options):
    return Cell.of(SYNTHETIC | {"seed": seed}, clients=3, options=options)


def ids(site, part):
    return set(site.cohort.patient_id_N[site.cohort.split_N == part].tolist())


def test_k_seeds_in_a_row_test_every_patient_once():
    of_seed = [hospitals(cell(seed)) for seed in range(5, 10)]
    tested = [i for sites in of_seed for site in sites for i in ids(site, TEST)]
    assert len(tested) == len(set(tested)) == 200


def test_the_hospitals_of_a_partition_are_the_same_and_the_next_partition_divides_otherwise():
    first, second, other = (hospitals(cell(seed)) for seed in (0, 4, 5))
    assert [set(s.cohort.patient_id_N) for s in first] == [set(s.cohort.patient_id_N) for s in second]
    assert [ids(s, TEST) for s in first] != [ids(s, TEST) for s in other]


def test_every_patient_is_in_one_part_and_all_parts_have_patients():
    for site in hospitals(cell(3)):
        split_N = site.cohort.split_N
        assert set(split_N.tolist()) == {TRAIN, VALIDATION, TEST}
        share = (split_N == TEST).mean()
        assert 0.1 < share < 0.3


def test_folds_are_stratified_by_group_and_label():
    whole = cohort([1, 3, 3, 7] * 50)
    fold_N = fold_of(whole, partition=2, number=5)
    for group in (1, 3, 7):
        for label in (0, 1):
            mine = (whole.groups_N == group) & (whole.label_N == label)
            sizes = np.bincount(fold_N[mine], minlength=5)
            assert sizes.max() - sizes.min() <= 1


def test_persons_are_not_divided_and_row_order_does_not_matter():
    whole = cohort([1, 3, 3, 7] * 20)
    whole = replace(whole, person_N=np.array([f"p{i // 2}" for i in range(80)]))
    fold_N = fold_of(whole, 0, 4)
    assert (fold_N[::2] == fold_N[1::2]).all()
    order = np.random.default_rng(0).permutation(80)
    assert (fold_of(whole.take(order), 0, 4) == fold_N[order]).all()


def test_a_given_split_stays():
    whole = cohort([1, 3] * 10, split_N=[0, 1, 2, 0] * 5)
    config = Config()
    assert _split(whole, config, 0, 0, 5) is whole


def test_a_single_person_is_trained_on_whatever_the_fold():
    one = replace(cohort([3]), split_N=None)
    assert [_split(one, Config(), 0, fold, 5).split_N.tolist() for fold in range(5)] == [[TRAIN]] * 5


def test_pooled_patients_keep_hospital_and_split():
    sites = hospitals(cell(1))
    whole = pool(sites).cohort
    for site in sites:
        mine = whole.take(whole.site_N == site.name)
        assert (mine.split_N == site.cohort.split_N).all()
        assert (mine.patient_id_N == site.cohort.patient_id_N).all()


def test_hiding_a_modality_hides_it_from_that_share():
    before, after = hospitals(cell(0)), hospitals(cell(0, hide="M4", share=0.8))
    had, has = (sum(int(s.cohort.presence_Nm[:, 3].sum()) for s in sites) for sites in (before, after))
    assert 0.1 < has / had < 0.45  # patients who have nothing else keep it


@pytest.mark.parametrize(("test", "number"), [(0.2, 5), (0.1, 10), (0.25, 4), (0.6, 2)])
def test_number_of_folds(test, number):
    assert folds(Config.from_flat({"data.test": test, "data.validation": 0.1})) == number


def test_without_test_patients_there_is_no_study():
    with pytest.raises(UserError, match=r"data\.test"):
        folds(Config.from_flat({"data.test": 0.0}))


def test_a_cohort_is_read_once_however_it_is_laid_into_hospitals(tmp_path, monkeypatch):
    from remind.data.write import write_cohort
    from remind_studies.cells import patients

    write_cohort(patients.generate(Config().synthetic, 0), tmp_path / "c")
    read, reads = patients.read_cohort, []
    monkeypatch.setattr(patients, "read_cohort", lambda *place: reads.append(place) or read(*place))
    for number, alpha in ((2, 0.1), (3, 0.1), (3, 10.0)):
        settings = {"data.cohort": str(tmp_path / "c"), "data.sites": "dirichlet", "data.alpha": alpha, "seed": 0}
        assert len(hospitals(Cell.of(settings, clients=number))) == number
    assert len(reads) == 1
