"""Yardsticks: no order, no leak, hospitals of one class, federated trees of one hospital."""

import sys

import numpy as np
import pytest

from remind.data.features import Columns, Features
from remind.errors import UserError
from remind_studies.yardsticks import flower_trees
from remind_studies.yardsticks.base import Hospital, Sample, folds, log_p, registry
from remind_studies.yardsticks.methods.federated import TreeOptions, XgbBagging

NAMES = [method.name for method in registry.methods()]
LOCAL = [method.name for method in registry.methods() if not method.build.federated]
QUICK = {
    "boosting": "boosting(rounds = 20)",
    "exchanged_trees": "exchanged_trees(rounds = 20)",
    "xgb_bagging": "xgb_bagging(rounds = 5)",
    "xgb_cyclic": "xgb_cyclic(rounds = 5)",
}


def sample(seed: int, patients: int = 120, classes: int = 2, labels=None) -> Sample:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(classes, size=patients) if labels is None else labels
    values_NF = np.stack(
        [rng.normal(size=patients) + label_N, rng.normal(size=patients), rng.integers(3, size=patients)]
    )
    values_NF[1, ::3] = np.nan
    return Sample(Features(values_NF.T, Columns(("x", "noise", "level"), (0, 0, 3))), label_N)


def hospital(seed: int, **given) -> Hospital:
    return Hospital(sample(seed, **given), sample(seed + 100, patients=30))


def built(name: str):
    method, options = registry.choose(QUICK.get(name, name))
    return method.build(options)


def predicted(name: str, hospitals, features, classes: int = 2):
    return [model.predict(features) for model in built(name).models(hospitals, classes)]


def test_there_are_trees_a_linear_model_and_federations_of_trees():
    assert NAMES == ["boosting", "exchanged_trees", "logistic", "xgb_bagging", "xgb_cyclic"]


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_patients_changes_nothing(name):
    ones, test = [hospital(0), hospital(1)], sample(50, patients=20).features
    turned = [Hospital(own.train.take(np.arange(len(own.train))[::-1]), own.validation) for own in ones]
    for p, other in zip(predicted(name, ones, test), predicted(name, turned, test), strict=True):
        np.testing.assert_array_equal(p, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 3])
def test_they_learn_and_give_probabilities(name, classes):
    ones = [Hospital(sample(s, classes=classes), sample(s + 9, 30, classes)) for s in range(2)]
    test = sample(50, patients=200, classes=classes)
    for p_NC in predicted(name, ones, test.features, classes):
        np.testing.assert_allclose(p_NC.sum(axis=1), 1, atol=1e-6)
        assert np.isfinite(log_p(p_NC)).all()
        assert (p_NC.argmax(axis=1) == test.label_N).mean() > 1 / classes + 0.08


@pytest.mark.parametrize("name", LOCAL)
def test_a_hospital_of_one_class_knows_its_shares_and_the_others_do_not_feel_it(name):
    lone, other = hospital(0, patients=9, labels=np.ones(9, dtype=np.int64)), hospital(1)
    test = sample(50, patients=5).features
    p, q = predicted(name, [lone, other], test)
    np.testing.assert_allclose(p, np.tile([0.5 / 10, 9.5 / 10], (5, 1)))
    np.testing.assert_array_equal(q, predicted(name, [other], test)[0])


def test_exchanged_trees_by_hand():
    """Two hospitals that differ in size and shares: what each model says beyond its own shares, on the shares here."""
    small, large = hospital(0, patients=60), hospital(1, patients=180, labels=np.arange(180) % 4 // 3)
    test = sample(50, patients=7).features
    odds = [np.log(p[:, 1] / p[:, 0]) for p in predicted("boosting", [small, large], test)]
    shares = [np.log((own.train.label_N.sum() + 0.5) / ((1 - own.train.label_N).sum() + 0.5)) for own in (small, large)]
    says = 0.25 * (odds[0] - shares[0]) + 0.75 * (odds[1] - shares[1])
    for p, share in zip(predicted("exchanged_trees", [small, large], test), shares, strict=True):
        np.testing.assert_allclose(np.log(p[:, 1] / p[:, 0]), says + share, rtol=1e-5)


def test_exchanged_trees_serve_a_hospital_of_one_class_and_help_small_ones():
    lone = hospital(0, patients=9, labels=np.ones(9, dtype=np.int64))
    others, test = [hospital(s, patients=40) for s in range(1, 5)], sample(50, patients=400)

    def right(p_NC):
        order = p_NC[:, 1].argsort().argsort()
        return order[test.label_N == 1].mean() - order[test.label_N == 0].mean()

    together = predicted("exchanged_trees", [lone, *others], test.features)
    alone = predicted("boosting", others, test.features)
    assert all(right(p) > right(q) for p, q in zip(together[1:], alone, strict=True))
    assert right(together[0]) == right(together[1]), "the same model"
    assert together[0][:, 1].mean() > together[1][:, 1].mean(), "on shares of its own"
    (nobody,) = predicted("exchanged_trees", [lone], test.features)
    np.testing.assert_allclose(nobody[:, 1], 9.5 / 10)


@pytest.mark.parametrize("name", ["xgb_bagging", "xgb_cyclic"])
def test_a_hospital_of_one_class_takes_part_in_a_federation(name):
    lone = hospital(0, patients=9, labels=np.ones(9, dtype=np.int64))
    p, q = predicted(name, [lone, hospital(1)], sample(50, patients=5).features)
    np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("name", NAMES)
def test_patients_of_a_group_never_seen_have_probabilities(name):
    unseen = sample(50, patients=6).features
    unseen.values_NF[:, :2] = np.nan
    for p_NC in predicted(name, [hospital(0), hospital(1)], unseen):
        assert np.isfinite(p_NC).all()
        assert (p_NC >= 0).all()


@pytest.mark.parametrize("name", LOCAL)
def test_neither_validation_nor_other_hospitals_enter_a_model_of_one_hospital(name):
    test = sample(50, patients=20).features
    first = predicted(name, [hospital(0), hospital(1)], test)[0]
    changed = Hospital(hospital(0).train, sample(77, patients=30))
    np.testing.assert_array_equal(first, predicted(name, [changed, hospital(2)], test)[0])


@pytest.mark.parametrize("way", ["xgb_bagging", "xgb_cyclic"])
def test_federated_trees_of_one_hospital_are_local_trees(way):
    xgboost = pytest.importorskip("xgboost")
    own, test = hospital(3), sample(50, patients=40).features
    yardstick = built(way)
    p_NC = yardstick.models([own], 2)[0].predict(test)
    share = float(own.train.label_N.mean())
    data = xgboost.DMatrix(own.train.features.values_NF, own.train.label_N)
    rows = xgboost.DMatrix(test.values_NF)
    booster = xgboost.train(yardstick.parameters(share, 1), data, num_boost_round=5)
    possible = [booster.predict(rows, iteration_range=(0, n)) for n in range(1, 6)]
    assert min(np.abs(p_NC[:, 1] - p).max() for p in possible) < 1e-5  # one round of those was kept


def test_bagging_keeps_a_tree_of_every_hospital_and_round_and_each_counts_its_share():
    yardstick = XgbBagging(TreeOptions(rounds=4))
    booster, kept = yardstick._grown([hospital(s) for s in range(3)], target=1)
    assert booster.num_boosted_rounds() == 12
    assert kept % 3 == 0
    assert yardstick.parameters(0.5, 3)["eta"] == pytest.approx(0.2 / 3)


def test_hospitals_take_turns_in_the_order_of_their_places():
    turns = []

    def step(place, model):
        turns.append(place)
        return model + bytes([place])

    assert flower_trees.grow(step, 3, 6, "cyclic") == bytes([0, 1, 2, 0, 1, 2])
    assert turns == [0, 1, 2, 0, 1, 2]


def test_a_hospital_that_fails_is_not_left_out_silently():
    def step(place, model):
        raise UserError("disk full")

    with pytest.raises(UserError, match="disk full"):
        flower_trees.grow(step, 2, 1, "bagging")


def test_folds_are_dealt_within_each_class():
    label_N = np.array([0] * 11 + [1] * 4)
    fold_N = folds(Sample(sample(0, 15).features, label_N), 5)
    for label, most in ((0, 3), (1, 1)):
        assert np.bincount(fold_N[label_N == label], minlength=5).max() <= most


@pytest.mark.parametrize(
    ("name", "module"), [("boosting", "lightgbm"), ("logistic", "sklearn.linear_model"), ("xgb_cyclic", "xgboost")]
)
def test_a_library_that_is_not_installed_is_one_message(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UserError, match=r"pip install 'federated-remind\[studies\]', or leave them out with --no-anchors"
    ):
        predicted(name, [hospital(0)], sample(50, patients=3).features)
