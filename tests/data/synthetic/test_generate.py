"""Synthetic cohorts: the laws, the dependence of the label, and the information in the features of every kind."""

import hashlib
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import roc_auc_score

from remind import groups
from remind.config import SyntheticConfig
from remind.data.cohort.kinds.codes import Codes
from remind.data.synthetic.features.series import ITEMS
from remind.data.synthetic.generate import LAWS, generate, truth
from remind.data.synthetic.laws import draw_independent, parse_missing
from remind.errors import UserError
from tests.builders.cohorts import contents

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
@pytest.mark.parametrize("law", [law for law in LAWS if law != "brats"])  # where a group has the head's signs again
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
    values = contents(cohort, "M1").values_NF[:, :8]
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
    series = contents(cohort, "M2")
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


# Of integers the SHA-256, of values the sum of their sizes, as they were before there were kinds: a law, a seed.
BEFORE_KINDS = {
    ("fprm", 0): ("0eb986363ea29b5b", 293554.7305610091),
    ("embed", 1): ("76bf1450359faec2", 376068.01580686355),
    ("mimic-iv", 2): ("16be81923085b2bf", 567393.5803179289),
    ("independent", 3): ("d4cdeff3380e2d99", 519455.3424288677),
}


@pytest.mark.parametrize(("law", "seed"), BEFORE_KINDS)
def test_without_kinds_the_cohort_is_what_it_always_was(law, seed):
    cohort = generate(SyntheticConfig(patients=300, law=law), seed)
    sha, total = hashlib.sha256(cohort.schema.fingerprint.encode()), 0.0
    arrays = [a for name in cohort.schema.names for a in vars(cohort.modalities[name]).values()]
    for array in [cohort.label_N, cohort.presence_Nm, *arrays]:
        if array.dtype.kind == "f":  # sums may round otherwise on another processor
            total += float(np.nansum(np.abs(array), dtype=np.float64))
        else:
            sha.update(np.ascontiguousarray(array).data)
    assert sha.hexdigest()[:16] == BEFORE_KINDS[law, seed][0]
    assert total == pytest.approx(BEFORE_KINDS[law, seed][1])


KINDS = ("table", "series", "image", "volume", "video", "text", "codes")
PICTURES = ("image", "volume", "video")


def of_kinds(*kinds, patients=1500, missing=0.2, **changes):
    values = {"kinds": ", ".join(kinds), "missing": ", ".join([str(missing)] * len(kinds)), **changes}
    return SyntheticConfig(patients=patients, law="independent", **values)


def features(cohort, name):
    """What a plain look at a modality sees, (P, F): pixels, counts of words, which codes."""
    data = cohort.modalities[name]
    if isinstance(data, Codes):
        seen_NV = np.zeros((len(cohort), len(data.names)))
        seen_NV[np.repeat(np.arange(len(cohort)), np.diff(data.offsets_N1)), data.code_O] = 1
        return seen_NV[data.present()]
    having = [source for source in data.source_N if source is not None]
    if isinstance(having[0], str):
        counts = [Counter(re.findall(r"\w+", note)) for note in having]
        words = sorted({word for count in counts for word in count})
        return np.array([[count[word] for word in words] for count in counts], dtype=float)
    return np.stack([pixels.ravel() for pixels in having]).astype(float)[:, ::3]


@pytest.mark.parametrize("kind", [*PICTURES, "text", "codes"])
def test_latents_can_be_read_off_every_kind(kind):
    config = of_kinds(kind, patients=1500, missing=0.0)
    x_PF, u_PK = features(generate(config, 0), "M1"), truth(config, 0).latents_NmK[:, 0]
    fit = Ridge(10.0).fit(x_PF[:1000], u_PK[:1000])
    for k in range(3):
        assert np.corrcoef(fit.predict(x_PF[1000:])[:, k], u_PK[1000:, k])[0, 1] > 0.93


def test_the_label_lies_in_products_of_what_the_kinds_show():
    config = of_kinds("image", "text", "codes", patients=2000, missing=0.0)
    cohort, known = generate(config, 3), truth(config, 3)
    seen = {name: features(cohort, name) for name in cohort.schema.names}
    read_NmK = np.empty_like(known.latents_NmK)
    for i, x_NF in enumerate(seen.values()):
        read_NmK[:, i] = Ridge(10.0).fit(x_NF[:1000], known.latents_NmK[:1000, i]).predict(x_NF)
    products = replace(known, linear_N=np.zeros(len(cohort)))
    best_N, read_N = (one.signal_under(7)[1000:] for one in (products, replace(products, latents_NmK=read_NmK)))
    best, read = (roc_auc_score(cohort.label_N[1000:], signal_N) for signal_N in (best_N, read_N))
    assert best > 0.8
    assert read > best - 0.05
    assert all(roc_auc_score(cohort.label_N, known.latents_NmK[:, i, k]) < 0.7 for i in range(3) for k in range(2))


def test_kinds_are_by_modality_in_order():
    cohort = generate(of_kinds(*KINDS, patients=60, size=16), 0)
    assert tuple(m.kind for m in cohort.schema.modalities) == KINDS
    assert [cohort.modalities[f"M{i}"].present().tolist() for i in range(1, 8)] == cohort.presence_Nm.T.tolist()
    for name, shape in (("M3", (16, 16)), ("M4", (8, 16, 16)), ("M5", (8, 16, 16))):
        sources = contents(cohort, name).source_N
        assert {(s.shape, s.dtype.name) for s in sources if s is not None} == {(shape, "uint8")}
    assert generate(of_kinds(*KINDS, patients=60, size=16), 0) == cohort
    assert generate(of_kinds(*KINDS, patients=60, size=16), 1) != cohort


def test_kinds_change_neither_labels_nor_groups():
    plain = generate(SyntheticConfig(patients=80), 5)
    other = generate(SyntheticConfig(patients=80, kinds="image, text, codes, table", size=8), 5)
    np.testing.assert_array_equal(other.label_N, plain.label_N)
    np.testing.assert_array_equal(other.presence_Nm, plain.presence_Nm)
    assert other.modalities["M4"] == plain.modalities["M4"]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ("image, table", "names 2 kinds for M1, M2, M3, M4"),
        ("table, table, table, picture", "'picture' is no kind"),
        ("table, series, imge, text", "did you mean 'image'"),
        ("table, series,, text", "'' is no kind"),
    ],
)
def test_wrong_kinds(kinds, words):
    with pytest.raises(UserError, match=r"synthetic\.kinds") as caught:
        generate(SyntheticConfig(patients=10, kinds=kinds), 0)
    assert words in str(caught.value)
