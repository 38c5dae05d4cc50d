"""Adapting a model at one hospital equals a federation of one hospital, and the initial model stays unchanged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.adaptation.settings import ENOUGH, Choices, choose
from remind.adaptation.start import read_start
from remind.data.cohort.cohort import TEST, VALIDATION
from remind.errors import UserError
from remind.prediction.bundle import of_part, read_bundle
from remind.prediction.predictor import Predictor
from remind.prediction.site_part import FILE
from remind_client.models.adaptation import Adaptation
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.rounds.strategy import FedRemind
from tests.builders import predicting
from tests.builders.cohorts import cohort, schema
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import CPU

MIX = [3, 6, 6, 7] * 24  # nobody had group 6
QUICK = {"rounds": 2, "patience": 0, "lr": 0.02}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return predicting.train(tmp_path_factory.mktemp("trained"))[0]


def plan(trained, mix=MIX, of=None, split_N=None, **choices):
    patients = cohort(mix, 11, of, split_N)
    return Adaptation.plan("west", read_start(trained), patients, Choices(**{**QUICK, **choices}), "cpu")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def fusion(part):
    return {n: t for n, t in part.tensors.items() if n.startswith("fusion.")}


def test_the_frozen_part_is_the_given_one_and_encoders_and_new_groups_are_its_own(tmp_path, trained):
    store = SiteStore(tmp_path / "west")
    adapted = plan(trained).run(store)
    start = read_start(trained)
    model = adapted.trained.model.tensors
    assert all(torch.equal(model[n], t) for n, t in start.tensors.items())
    assert adapted.new == (6,)
    part = store.model()
    assert fusion(part).keys() == model.keys(), "it can serve patients whom only others trained on, too"
    assert all(torch.equal(part.tensors[n], model[n]) for n in model)
    assert part.own == {3: 12, 6: 24, 7: 12}
    assert part.counts == {k: start.counts.get(k, 0) + part.own.get(k, 0) for k in (1, 3, 5, 6, 7)}


def test_it_equals_a_federation_of_one(tmp_path, trained):
    """The loop without a coordinator against the coordinator itself, to the last bit: model, encoders, round."""
    for number, choices in enumerate(({"shared": "tuned", "patience": 1}, {"shared": "frozen", "routing_rounds": 1})):
        found = plan(trained, **choices)
        store, other = SiteStore(tmp_path / f"a{number}"), SiteStore(tmp_path / f"b{number}")
        adapted = found.run(store)
        recorder = Recorder()
        site = Site("west", found.cohort, found.config, other, CPU)
        FedRemind(found.config, [recorder]).run(SiteGrid([site]))
        assert same(dict(adapted.trained.model.tensors), dict(recorder.result.tensors))
        assert adapted.trained.round == recorder.result.round
        ours, theirs = store.model(), other.model()
        assert all(torch.equal(ours.tensors[n], t) for n, t in theirs.tensors.items())
        assert ours.routing == theirs.routing
        assert {k: s.log_loss_sum for k, s in adapted.test.items()} == {
            k: s.log_loss_sum for k, s in recorder.result.test["west"].items()
        }


def test_no_round_is_the_given_model_with_fresh_encoders(tmp_path, trained):
    store = SiteStore(tmp_path)
    found = plan(trained, rounds=0)
    adapted = found.run(store)
    assert adapted.trained.rounds == 0
    part, start = store.model(), read_start(trained)
    assert all(torch.equal(part.tensors[n], t) for n, t in start.tensors.items())
    # Group 6 is predicted as by the given model, which does not know it.
    patients = found.cohort.take(found.cohort.split_N == TEST)
    ours = Predictor(of_part(part, "here"), "west").outputs(patients)
    without = {n: t for n, t in part.tensors.items() if not n.startswith("fusion.groups.6.")}
    theirs = Predictor(of_part(replace(part, tensors=without), "there"), "west").outputs(patients)
    np.testing.assert_allclose(ours.log_p_NC, theirs.log_p_NC, atol=1e-6)
    assert (patients.groups_N == 6).any()


def test_the_same_seed_gives_the_same_bits(tmp_path, trained):
    one, two = SiteStore(tmp_path / "one"), SiteStore(tmp_path / "two")
    plan(trained).run(one)
    plan(trained).run(two)
    assert same(one.model().tensors, two.model().tensors)
    three = SiteStore(tmp_path / "three")
    plan(trained, seed=5).run(three)
    assert not same(one.model().tensors, three.model().tensors)


def test_what_is_kept_predicts_the_numbers_of_its_own_test(tmp_path, trained):
    store, found = SiteStore(tmp_path), plan(trained)
    adapted = found.run(store)
    patients = found.cohort.take(found.cohort.split_N == TEST)
    rows = Predictor(of_part(store.model(), "here"), "west").outputs(patients)
    losses = -rows.log_p_NC[np.arange(len(patients)), patients.label_N]
    for k, one in adapted.test.items():
        assert losses[patients.groups_N == k].sum() == pytest.approx(one.log_loss_sum, abs=1e-12)


def test_predictions_say_on_how_few_patients_a_group_was_adapted(tmp_path, trained):
    store, found = SiteStore(tmp_path), plan(trained, mix=[3, 6] * 40 + [7] * 4)
    found.run(store)
    reasons = Predictor(of_part(store.model(), "here"), "west", least=10).outputs(cohort([6, 7, 5, 2])).reasons_N
    assert not any("adapted" in text for text in reasons[0])
    assert "adapted to few patients: 2 of this hospital had a+b+c, fewer than 10" in reasons[1]
    assert "adapted to few patients: 0 of this hospital had a+c, fewer than 10" in reasons[2]
    assert any(text.startswith("unseen combination") for text in reasons[3])


def test_the_round_is_chosen_on_validation_patients_and_patience_ends_early(trained, tmp_path):
    found = plan(trained, rounds=8, patience=1, lr=0.3)
    assert found.config.train.select == "overall"
    adapted = found.run(SiteStore(tmp_path))
    assert adapted.trained.rounds < 8
    assert adapted.trained.rounds - adapted.trained.round in (0, 2), "the last is judged too"


def test_too_few_validation_patients_choose_nothing_and_are_trained_on(trained):
    drawn = cohort([3, 7] * 20, 11)
    found = Adaptation.plan("west", read_start(trained), replace(drawn, split_N=None), Choices(), "cpu")
    assert found.config.train.select == "last"
    assert found.config.train.rounds == 4, "nobody can tell when to stop"
    assert not (found.cohort.split_N == VALIDATION).any()
    many = Adaptation.plan(
        "west", read_start(trained), replace(cohort([3, 7] * 150, 11), split_N=None), Choices(), "cpu"
    )
    assert many.config.train.select == "overall"
    assert many.config.train.rounds == 12
    assert (many.cohort.split_N == VALIDATION).sum() >= ENOUGH


def test_given_encoders_are_where_its_own_begin_with_its_own_statistics(tmp_path, trained):
    """By no round: the weights of the hospital that gave them, and the means of the hospital that took them."""
    given = read_bundle(trained).part("north")
    patients = cohort(MIX, 11)
    store, plain = SiteStore(tmp_path / "given"), SiteStore(tmp_path / "plain")
    choices = Choices.model_validate({**QUICK, "rounds": 0})
    Adaptation.plan("west", read_start(trained), patients, choices, "cpu", given).run(store)
    plan(trained, rounds=0).run(plain)
    ours, fresh = store.model().tensors, plain.model().tensors
    names = [n for n in ours if n.startswith("encoders.a.")]
    weights = [n for n in names if not torch.equal(fresh[n], ours[n])]
    assert weights
    assert all(torch.equal(ours[n], given.tensors[n]) for n in weights)
    kept = set(names) - set(weights)
    assert any(not torch.equal(ours[n], given.tensors[n]) for n in kept), "statistics are this hospital's"


@pytest.mark.parametrize(
    ("mix", "of", "labels", "words"),
    [
        (MIX, schema(classes=3), None, r"another schema.*\n.*classes"),
        (MIX, schema(names=("a", "b", "d")), None, r"another schema.*\n.*modalities: only the first has c"),
        (MIX, None, 0, r"all 48 training patients are of class 'c0'"),
        ([3, 7] * 4, None, None, r"4 training patients \(.*\) are too few to adapt to: at least 8"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path, trained, mix, of, labels, words):
    patients = cohort(mix, 11, of)
    if labels is not None:
        patients = replace(patients, label_N=np.full(len(patients), labels))
    with pytest.raises(UserError, match=words):
        Adaptation.plan("west", read_start(trained), patients, Choices(), "cpu")


def test_frozen_encoders_under_a_frozen_model_would_train_nothing(tmp_path):
    trained = predicting.train(tmp_path, **{"federation.encoders": "frozen"})[0]
    with pytest.raises(UserError, match="nothing would be trained; choose --shared head or --shared tuned"):
        plan(trained, mix=[3, 7] * 40)
    plan(trained, mix=[3, 6] * 40)
    late = predicting.train(tmp_path / "late", **{"federation.encoders": "frozen", "method.fusion": "late"})[0]
    with pytest.raises(UserError, match="nothing would be trained"):
        plan(late, mix=[3, 6] * 40)  # its groups have nothing of their own


def test_a_round_in_which_nothing_trains_changes_nothing(tmp_path, trained):
    """Encoders frozen in stage 2, under a frozen model that knows all groups of the hospital."""
    one, two = SiteStore(tmp_path / "one"), SiteStore(tmp_path / "two")
    plan(trained, mix=[3, 7] * 40).run(one)
    plan(trained, mix=[3, 7] * 40, routing_rounds=1).run(two)
    assert same(fusion(one.model()), fusion(two.model()))


@pytest.mark.parametrize("fusion", ["softmoe", "flexmoe", "moe_retriever", "muse", "simmlm"])
def test_other_fusion_models_are_adapted_and_predict_as_they_were_examined(tmp_path, fusion):
    trained = predicting.train(tmp_path, **{"method.fusion": fusion})[0]
    store, found = SiteStore(tmp_path / "west"), plan(trained, rounds=1)
    adapted = found.run(store)
    assert adapted.routing == read_start(trained).routing
    patients = found.cohort.take(found.cohort.split_N == TEST)
    rows = Predictor(of_part(store.model(), "here"), "west").outputs(patients)
    losses = -rows.log_p_NC[np.arange(len(patients)), patients.label_N]
    assert losses.sum() == pytest.approx(sum(s.log_loss_sum for s in adapted.test.values()), abs=1e-9)


def test_choices_are_refused_by_the_option_that_is_wrong():
    with pytest.raises(UserError, match=r"--shared: .*'frozen', 'head' or 'tuned'"):
        choose(shared="melted")
    with pytest.raises(UserError, match="--test"):
        choose(test=1.5)


def test_a_run_with_many_phases_or_another_rule_can_be_adapted(tmp_path):
    trained = predicting.train(
        tmp_path,
        **{"method.objective": "jtt", "method.rule": "lg", "train.warmup-rounds": 3, "train.routing-rounds": 3},
    )[0]
    found = plan(trained)
    assert (found.config.method.objective, found.config.method.rule) == ("erm", "fedremind")
    found.run(SiteStore(tmp_path / "west"))
    assert (tmp_path / "west" / FILE).is_file()
