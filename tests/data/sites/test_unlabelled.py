"""Patients without a label belong to a hospital, lose what it lacks, and are no patients in any other sense."""

from dataclasses import replace

import numpy as np

from remind.config import DataConfig
from remind.data.cohort.cohort import concatenate
from remind.data.sites.hospitals import pool
from remind.data.sites.sites import split_sites
from tests.builders.cohorts import cohort


def given(site_N=None, persons=None):
    patients, others = cohort([7] * 12), cohort([7] * 6, seed=1)
    others = replace(others, label_N=np.full(6, -1), split_N=None)
    if site_N is not None:
        patients = replace(patients, site_N=np.array(["x", "y"] * 6))
        others = replace(others, site_N=np.array(site_N))
    if persons is not None:
        others = replace(others, person_N=np.array(persons))
    return replace(patients, unlabelled=others)


def ids(site):
    return [] if site.cohort.unlabelled is None else site.cohort.unlabelled.patient_id_N.tolist()


def test_by_the_site_column_and_a_persons_other_visits():
    whole = given(["x", "x", "y", "x", "x", "elsewhere"], ["n0", "n1", "n2", "p0-1", "n4", "n5"])
    x, y = split_sites(whole, None, DataConfig(), 0)
    assert ids(x)[:3] == ["p1-0", "p1-1", "p1-4"]
    assert ids(y)[:2] == ["p1-2", "p1-3"], "p0-1 is a patient of y"
    assert sorted(ids(x) + ids(y)) == [f"p1-{i}" for i in range(6)], "one of an unknown site is dealt to one"
    assert len(x.cohort) + len(y.cohort) == 12


def test_drawn_sites_share_them_whatever_their_order():
    whole = given()
    assert whole.unlabelled is not None
    turned = replace(whole, unlabelled=whole.unlabelled.take(np.arange(6)[::-1]))
    for one, other in zip(*(split_sites(w, 3, DataConfig(sites="dirichlet"), 0) for w in (whole, turned)), strict=True):
        assert len(ids(one)) == 2
        assert sorted(ids(one)) == sorted(ids(other))


def test_rules_hide_from_them_too_and_pooling_keeps_all():
    sites = split_sites(given(["x"] * 3 + ["y"] * 3), None, DataConfig(rules="x: no a"), 0)
    x = sites[0].cohort.unlabelled
    assert x is not None
    assert not x.presence_Nm[:, 0].any()
    assert x.presence_Nm[:, 1].all()
    whole = pool(sites).cohort.unlabelled
    assert whole is not None
    assert len(whole) == 6
    assert concatenate([sites[0].cohort.take([0])]).unlabelled is None, "patients that are taken come alone"
