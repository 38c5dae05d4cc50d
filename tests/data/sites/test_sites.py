"""Sites: every patient at exactly one, rules applied, mistakes named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.config import DataConfig, SyntheticConfig
from remind.data.cohort.read import read_cohort
from remind.data.sites.lacking import apply_rules
from remind.data.sites.sites import split_sites
from remind.data.synthetic.generate import generate
from remind.errors import UserError

COHORT = generate(SyntheticConfig(patients=600), 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 100), st.integers(0, 1000))
def test_drawn_sites_cover_every_patient_once(n_sites, alpha, seed):
    sites = split_sites(COHORT, n_sites, DataConfig(alpha=alpha), seed)
    assert [site.name for site in sites] == [f"site-{i + 1}" for i in range(n_sites)]
    ids = np.concatenate([site.cohort.patient_id_N for site in sites])
    assert sorted(ids) == sorted(COHORT.patient_id_N)
    assert min(len(site.cohort) for site in sites) >= max(1, int(0.2 * 600 / n_sites))


def test_row_order_does_not_matter():
    order = np.random.default_rng(0).permutation(len(COHORT))
    data = DataConfig()
    for a, b in zip(split_sites(COHORT, 5, data, 7), split_sites(COHORT.take(order), 5, data, 7), strict=True):
        assert sorted(a.cohort.patient_id_N) == sorted(b.cohort.patient_id_N)


def test_small_alpha_skews_the_mixes():
    def spread(alpha):
        sites = split_sites(COHORT, 4, DataConfig(alpha=alpha), 0)
        return np.std([(site.cohort.groups_N == 9).mean() for site in sites])

    assert spread(0.1) > 3 * spread(100)


def test_as_many_sites_as_patients():
    sites = split_sites(COHORT.take(range(7)), 7, DataConfig(), 0)
    assert [len(site.cohort) for site in sites] == [1] * 7


def test_persons_stay_together(folder):
    folder.write("patients.csv", "pid,who,label\n001,A,0\n002,A,1\n003,B,1\n004,B,0\n")
    folder.edit("cohort.toml", 'id = "pid"', 'id = "pid"\npatient = "who"')
    cohort = read_cohort(folder.path)
    for seed in range(5):
        sites = split_sites(cohort, 2, DataConfig(), seed)
        assert sorted(set(site.cohort.person_N) == {"A"} for site in sites) == [False, True]
    with pytest.raises(UserError, match="3 sites for 2 patients"):
        split_sites(cohort, 3, DataConfig(), 0)


def test_site_column(folder):
    cohort = read_cohort(folder.path)
    for sites in ("auto", "column"):
        found = split_sites(cohort, None, DataConfig(sites=sites), 0)
        assert [(site.name, len(site.cohort)) for site in found] == [("a", 2), ("b", 2)]
    with pytest.raises(UserError, match=r"2 sites \(a, b\), not 3; ask for 2, or draw 3 sites with data.sites"):
        split_sites(cohort, 3, DataConfig(), 0)
    assert len(split_sites(cohort, 3, DataConfig(sites="dirichlet"), 0)) == 3


@pytest.mark.parametrize(
    ("n_sites", "sites", "words"),
    [
        (5, "column", "no site column"),
        (601, "auto", "601 sites for 600 patients"),
        (None, "auto", "say how many"),
        (0, "auto", "at least 1"),
    ],
)
def test_mistakes(n_sites, sites, words):
    with pytest.raises(UserError, match=words):
        split_sites(COHORT, n_sites, DataConfig(sites=sites), 0)


def test_rules():
    data = DataConfig(rules="2: no M4, M2; site-3: only M1")
    before = split_sites(COHORT, 3, DataConfig(), 0)
    after = split_sites(COHORT, 3, data, 0)
    assert after[0].cohort == before[0].cohort
    assert not after[1].cohort.presence_Nm[:, [1, 3]].any()
    assert len(after[1].cohort) == len(before[1].cohort)  # everybody has M1
    assert set(after[2].cohort.groups_N) == {1}
    assert after[2].cohort.schema == COHORT.schema


def test_patients_left_with_nothing_are_dropped(folder):
    cohort = read_cohort(folder.path)
    sites = split_sites(cohort, None, DataConfig(rules="a: no clinical"), 0)
    assert sites[0].cohort.patient_id_N.tolist() == ["002"]
    with pytest.raises(UserError, match="leaves site 'b' without patients"):
        split_sites(cohort, None, DataConfig(rules="b: no vitals"), 0)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("9: no M1", "no site '9'; there are 1 to 2"),
        ("1: no M9", "'M9' is not a modality"),
        ("1 no M1", "not a rule"),
        ("1: without M1", "not a rule"),
        ("1: only", "not a rule"),
    ],
)
def test_wrong_rules(rule, words):
    with pytest.raises(UserError, match=words):
        apply_rules({"x": COHORT, "y": COHORT}, rule)
