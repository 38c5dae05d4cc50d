"""Synthetic cohorts: the laws, what the label needs, what the features tell, and the way to disk and back."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from remind import groups
from remind.config import SyntheticConfig
from remind.data.laws import draw_independent, parse_missing
from remind.data.read import read_cohort
from remind.data.synthetic import ITEMS, LAWS, generate, truth, write_cohort
from remind.errors import UserError

LARGE = SyntheticConfig(patients=20_000)


@pytest.mark.parametrize("law", LAWS)
def test_paper_laws(law):
    shares = LAWS[law].shares
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    found = groups.shares(groups.counts(truth(SyntheticConfig(patients=20_000, law=law), 0).groups_N))
    assert set(found) <= set(shares)
    assert all(found.get(group, 0) == pytest.approx(share, abs=0.015) for group, share in shares.items())


def test_independent_law_is_the_product_law():
    missing = (0.5, 0.9, 0.2, 0.7)
    n = 200_000
    found = groups.counts(groups.masks(draw_independent(missing, n, np.random.default_rng(0))))
    for group in range(1, 16):
        p = groups.probability(group, missing)
        assert abs(found.get(group, 0) - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1


def test_independent_law_of_many_rare_modalities_is_quick():
    cohort = generate(SyntheticConfig(patients=500, law="independent", missing=", ".join(["0.99"] * 20)), 0)
    assert len(cohort.schema.names) == 20
    assert (cohort.groups_N > 0).all()


@pytest.mark.parametrize("text", ["", "a", "0.1, 1", "-0.1", "0.2,,0.3", "nan"])
def test_wrong_missing(text):
    with pytest.raises(UserError, match=r"synthetic\.missing"):
        parse_missing(text)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("law", LAWS)
def test_the_label_needs_the_rule_of_its_group(law, seed):
    config = SyntheticConfig(patients=20_000, law=law)
    cohort, known = generate(config, seed), truth(config, seed)
    count_of = groups.counts(known.groups_N)
    head = max(count_of, key=lambda g: count_of[g])
    for group in (g for g, count in count_of.items() if count > 300):
        own_N = known.groups_N == group
        label = cohort.label_N[own_N]
        assert label.mean() == pytest.approx(0.5, abs=0.1)
        best = roc_auc_score(label, known.logit_N[own_N])
        assert best > 0.9
        if group != head:
            assert roc_auc_score(label, known.signal_under(head)[own_N]) < best - 0.1


def test_some_group_is_misled_by_the_head():
    cohort, known = generate(LARGE, 0), truth(LARGE, 0)
    own_N = known.groups_N == 15
    assert roc_auc_score(cohort.label_N[own_N], known.signal_under(9)[own_N]) < 0.75
    own_N = known.groups_N == 9
    assert roc_auc_score(cohort.label_N[own_N], known.signal_under(15)[own_N]) < 0.55


def test_interaction_is_a_share_of_the_signal():
    for interaction in (0.0, 0.5, 1.0):
        known = truth(LARGE.model_copy(update={"interaction": interaction}), 0)
        assert known.signal_N.std() == pytest.approx(1, abs=0.03)
        correlation = np.corrcoef(known.signal_N, known.linear_N)[0, 1]
        assert correlation**2 == pytest.approx(1 - interaction, abs=0.03)


def test_noise_of_the_label():
    known = truth(LARGE, 0)
    p_N = 1 / (1 + np.exp(-known.logit_N))
    label_N = generate(LARGE, 0).label_N
    for low in np.arange(0, 1, 0.2):
        bin_N = (p_N >= low) & (p_N < low + 0.2)
        assert label_N[bin_N].mean() == pytest.approx(p_N[bin_N].mean(), abs=0.06)
    clean = LARGE.model_copy(update={"noise": 0.0})
    np.testing.assert_array_equal(generate(clean, 0).label_N, truth(clean, 0).signal_N > 0)


def test_latents_can_be_read_off_a_table():
    cohort, known = generate(LARGE, 0), truth(LARGE, 0)
    values = cohort.modalities["M1"].values_NF[:, :8]
    whole = ~np.isnan(values).any(axis=1)
    assert 0.5 < whole.mean() < 0.9  # some cells are missing
    assert (
        LinearRegression()
        .fit(values[whole], known.latents_NmK[whole, 0])
        .score(values[whole], known.latents_NmK[whole, 0])
        > 0.95
    )


def test_latents_can_be_read_off_a_series():
    cohort, known = generate(LARGE, 0), truth(LARGE, 0)
    series = cohort.modalities["M2"]
    patient = np.flatnonzero(series.present())
    features = np.zeros((len(patient), 2 * len(ITEMS)))
    for row, i in enumerate(patient):
        inside = slice(series.offsets_N1[i], series.offsets_N1[i + 1])
        for item in range(len(ITEMS)):
            at = series.item_O[inside] == item
            if at.sum() >= 3:
                slope, level = np.polyfit(series.time_O[inside][at] - 24, series.value_O[inside][at], 1)
                features[row, 2 * item : 2 * item + 2] = slope, level
    enough = (features != 0).all(axis=1)
    latents = known.latents_NmK[patient[enough], 1]
    assert enough.mean() > 0.8
    assert LinearRegression().fit(features[enough], latents).score(features[enough], latents) > 0.9


def test_same_seed_same_cohort():
    config = SyntheticConfig(patients=100)
    assert generate(config, 1) == generate(config, 1)
    assert generate(config, 1) != generate(config, 2)


@pytest.mark.parametrize("law", [*LAWS, "independent"])
def test_to_disk_and_back(law, tmp_path):
    cohort = generate(SyntheticConfig(patients=150, law=law), 0)
    write_cohort(cohort, tmp_path / "c")
    assert read_cohort(tmp_path / "c") == cohort


def test_to_disk_and_back_with_all_there_is(tmp_path):
    cohort = generate(SyntheticConfig(patients=60), 0)
    n = len(cohort)
    schema = cohort.schema.model_copy(update={"classes": ("no", 'quoted "ä" \\')})
    cohort = replace(
        cohort,
        schema=schema,
        person_N=np.array([f"person {i // 2}" for i in range(n)]),
        site_N=np.array(["Ä, b", "c"])[np.arange(n) % 2],
        split_N=(np.arange(n) // 2 % 3).astype(np.int8),
    )
    write_cohort(cohort, tmp_path / "c")
    assert read_cohort(tmp_path / "c") == cohort


def test_to_disk_and_back_without_one_modality(tmp_path):
    cohort = generate(SyntheticConfig(patients=60), 0).without("M2", "M3")
    write_cohort(cohort, tmp_path / "c")
    assert read_cohort(tmp_path / "c") == cohort


def test_only_an_empty_folder_is_written_to(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(UserError, match="not empty"):
        write_cohort(generate(SyntheticConfig(patients=10), 0), tmp_path)
