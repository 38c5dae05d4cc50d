"""A hospital's own models in a run: they stay at the site, survive a restart, and leak no label."""

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch

from remind.config import Scalar
from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION
from remind.data.cohort.kinds.pictures import ImageSchema
from remind.data.cohort.kinds.table import Table
from remind.data.cohort.schema import CohortSchema
from remind.encoders.alone import learners
from remind.encoders.alone.encoder import ALONE
from remind.errors import UserError
from remind.fusion.around import known_alone
from remind.fusion.base import group_of
from remind.methods import methods_of
from remind.training.site_model import fusion_of
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

WIDTH = settings({}).model.width
MIXES = {"s1": [1, 3, 7] * 40, "s2": [3, 5, 7] * 40}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(learners, "TREES", 8)


def config(**changes):
    own: dict[str, Scalar] = {"model.encoders.alone": "both", "model.hide": 0.2, "model.dropout": 0.2}
    return settings(own | changes)


def sites(folder, **changes):
    return [site(n, cohort(mix, seed), config(**changes), folder) for seed, (n, mix) in enumerate(MIXES.items())]


def run(given):
    recorder = Recorder()
    FedRemind(given[0].config, [recorder]).run(SiteGrid(given))
    return recorder


@pytest.mark.parametrize("encoders", ["local", "frozen", "shared"])
def test_only_two_factors_travel(encoders, tmp_path):
    recorder = run(sites(tmp_path, **{"federation.encoders": encoders}))
    names = set(recorder.models[-1])
    assert not any(ALONE in name or "content" in name for name in names)
    assert recorder.models[-1]["fusion.alone.scale"].numel() == 1
    assert recorder.models[-1]["fusion.alone.scale"] != 1, "it trains"
    assert recorder.models[-1]["fusion.alone.shares"].numel() == 1
    assert recorder.models[-1]["fusion.alone.shares"] != 1, "it trains"


def test_a_restart_goes_on_with_the_same_models(tmp_path, monkeypatch):
    first = sites(tmp_path)
    run(first)
    monkeypatch.setattr("remind.encoders.alone.encoder.CrossFitted.fit", None)  # anybody who fits again fails
    for before in first:
        after = site(before.name, before.cohort, before.config, tmp_path)
        found = after.store.encoder(ALONE, after.store.digests()[ALONE])
        after.engine.model.encoders[ALONE].load_state_dict(found)
        one: Any = before.engine.model.encoders[ALONE]
        other: Any = after.engine.model.encoders[ALONE]
        assert len(one.content_T) > 1000
        assert torch.equal(one.content_T, other.content_T)
        batch = before.engine.state.data.batch(np.arange(len(before.cohort)))
        assert torch.equal(one(batch), other(batch))
        assert one(batch)[:, 0, :2].abs().sum() > 0


def test_cached_and_fresh_tokens_know_the_same(tmp_path):
    (one, _) = sites(tmp_path)
    engine = one.engine
    rows = np.array([5, 0, 7, 5])
    tokens = engine.state.tokens
    (_, fresh_BMD), (_, cached_BMD) = (next(tokens(fresh=fresh).batches([rows])) for fresh in (True, False))
    assert fresh_BMD.shape[1] == sum(engine.model.counts.values()) + 1
    assert torch.equal(fresh_BMD[:, -1], cached_BMD[:, -1])


def test_hidden_modalities_are_hidden_from_the_scores_too(tmp_path):
    (one, _) = sites(tmp_path, **{"model.hide": 0.0})
    engine = one.engine
    rows = np.flatnonzero(one.cohort.groups_N == 7)[:4]
    batch, tokens_BMD = next(engine.state.tokens(fresh=False).batches([rows]))
    engine.model.fusion.add_groups((1, 3, 7), 0)
    engine.model.eval()
    knows_BC = known_alone(tokens_BMD[:, -1], batch.presence_Bm, 2)
    assert knows_BC.abs().sum() > 0
    fewer_Bm = batch.presence_Bm & torch.tensor([True, True, False])
    blind_BMD = tokens_BMD.clone()
    blind_BMD[:, -1, :2] = 0
    seen, blind = (engine.model.fuse(z, fewer_Bm, group_of(fewer_Bm), True).logits_BC for z in (tokens_BMD, blind_BMD))
    assert torch.equal(seen, blind)
    whole = engine.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    without = engine.model.fuse(blind_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    torch.testing.assert_close(whole, without + knows_BC)


@pytest.mark.parametrize("alone", ["shares", "both"])
def test_how_common_a_class_is_at_the_hospital_counts_whatever_is_hidden(alone, tmp_path):
    """The log-odds of 9 of 10 patients, of training patients only, and no other number where nothing is fitted."""
    patients = cohort([7] * 200, 0)
    label_N = np.arange(200) % 10 > 0
    one = site(
        "s", replace(patients, label_N=label_N.astype(np.int64)), config(**{"model.encoders.alone": alone}), tmp_path
    )
    engine, training = one.engine, label_N[patients.split_N == TRAIN]
    batch, tokens_BMD = next(engine.state.tokens(fresh=False).batches([np.arange(6)]))
    odds = np.log((training.sum() + 1) / ((~training).sum() + 1))
    shares_BC = tokens_BMD[:, -1, 2:4]
    np.testing.assert_allclose(shares_BC, [[-odds / 2, odds / 2]] * 6, rtol=1e-6)
    assert (alone == "shares") == (not tokens_BMD[:, -1, :2].any())
    engine.model.eval()
    fewer_Bm = batch.presence_Bm & torch.tensor([True, False, False])
    blind_BMD = tokens_BMD.clone()
    blind_BMD[:, -1] = 0
    seen, blind = (engine.model.fuse(z, fewer_Bm, group_of(fewer_Bm), True).logits_BC for z in (tokens_BMD, blind_BMD))
    torch.testing.assert_close(seen, blind + shares_BC.to(seen.dtype))


def test_labels_without_signal_show_none_in_training_and_none_in_test(tmp_path):
    """The whole way, on labels drawn at random: where trees saw the labels that they score, training looks easy."""
    areas = {TRAIN: [], VALIDATION: [], TEST: []}
    for seed in range(3):
        patients = cohort([7] * 400, seed)
        one = site("s", patients, config(), tmp_path / str(seed))
        batch = one.engine.state.data.batch(np.arange(len(patients)))
        score_NC = one.engine.model.encoders[ALONE](batch)[:, 0, :2].numpy()
        for part, found in areas.items():
            here = patients.split_N == part
            label, odds = patients.label_N[here], score_NC[here, 1] - score_NC[here, 0]
            found.append((odds[label == 1][:, None] > odds[label == 0]).mean())
    assert all(abs(np.mean(found) - 0.5) < 0.09 for found in areas.values()), areas


def test_a_narrow_model_takes_more_tokens_for_it(tmp_path):
    narrow = config(**{"model.encoders.alone": "both", "model.width": 4, "model.heads": 2})
    engine = site("s1", cohort(MIXES["s1"], 0), narrow, tmp_path).engine
    wide = site("s1", cohort(MIXES["s1"], 0), config(), tmp_path / "wide").engine
    batch, tokens_BMD = next(engine.state.tokens(fresh=False).batches([np.arange(5)]))
    _, expected_BMD = next(wide.state.tokens(fresh=False).batches([np.arange(5)]))
    assert torch.equal(tokens_BMD[:, -2:].flatten(1)[:, :7], expected_BMD[:, -1, :7])
    engine.model.fusion.add_groups((1, 3, 7), 0)
    assert engine.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, True).logits_BC.shape == (5, 2)


def test_what_does_not_go_with_it_is_refused():
    pictures = CohortSchema(name="p", classes=("x", "y"), modalities=(ImageSchema(name="i", size=(8, 8), channels=1),))
    with pytest.raises(UserError, match="no table, series or codes"):
        fusion_of(pictures, settings({"model.encoders.alone": "trees", "model.encoders.image-weights": "random"}))
    for method in ({"method.fusion": "simmlm"}, {"method.objective": "lisa"}, {"method.objective": "fairmixup"}):
        with pytest.raises(UserError, match=r"model\.encoders\.alone"):
            methods_of(config(**method))


LINEAR: dict[str, Scalar] = {"model.encoders.alone": "none", "model.linear": True}


def test_the_linear_model_is_shared_and_its_numbers_stay(tmp_path):
    recorder = run(sites(tmp_path, **LINEAR))
    weight_XC = recorder.models[-1]["fusion.linear.weight_XC"]
    # a number, two levels and a number, and whether each is missing; nine statistics of two items, likewise
    assert weight_XC.shape == ((1 + ceil(36 / WIDTH) + 1) * WIDTH, 2)
    assert weight_XC.abs().sum() > 0, "it trains"
    assert not any(ALONE in name for name in recorder.models[-1])


def test_numbers_are_standardised_by_the_hospitals_training_patients_and_hidden_with_their_modality(tmp_path):
    (one, _) = sites(tmp_path, **LINEAR, **{"model.hide": 0.0})
    engine = one.engine
    training = engine.patients.index[TRAIN]
    source, whole = engine.state.tokens(fresh=False), np.arange(len(one.cohort))
    batch, tokens_BMD = next(source.batches([whole]))
    numbers_BRD = tokens_BMD[:, sum(engine.model.counts.values()) + 1 :]
    assert numbers_BRD.shape == (len(whole), 1 + ceil(36 / WIDTH) + 1, WIDTH)
    for i, row in ((0, 0), (2, -1)):  # the two tables
        having = batch.presence_Bm[training, i]
        own_PD = numbers_BRD[training][having, row]
        values_PF = torch.from_numpy(
            one.cohort.modalities[one.cohort.schema.names[i]].values_NF[training][having.numpy()]
        )
        first_P = values_PF[:, 0].nan_to_num(float(np.nanmedian(values_PF[:, 0]))).double()
        cut_P = first_P.clip(*np.nanpercentile(values_PF[:, 0], [1, 99]))
        expected_P = ((cut_P - cut_P.mean()) / cut_P.std(correction=0)).clip(-3, 3)
        np.testing.assert_allclose(own_PD[:, 0].double(), expected_P, atol=1e-4)
        assert not numbers_BRD[~batch.presence_Bm[:, i], row].any()
    with torch.no_grad():
        engine.model.fusion.linear.weight_XC.normal_()
    fewer_Bm = batch.presence_Bm & torch.tensor([True, False, False])
    blind_BRD = numbers_BRD.clone()
    blind_BRD[:, 1:] = 0
    linear = engine.model.fusion.linear
    assert torch.equal(linear(numbers_BRD, fewer_Bm), linear(blind_BRD, fewer_Bm))
    engine.model.fusion.add_groups((1, 3, 7), 0)
    engine.model.eval()
    logits_BC = engine.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    without_BMD = tokens_BMD.clone()
    without_BMD[:, -numbers_BRD.shape[1] :] = 0
    without_BC = engine.model.fuse(without_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    torch.testing.assert_close(logits_BC, without_BC + linear(numbers_BRD, batch.presence_Bm))


def test_a_restart_finds_the_numbers_again(tmp_path):
    first = sites(tmp_path, **LINEAR)
    run(first)
    after = site(first[0].name, first[0].cohort, first[0].config, tmp_path)
    after.engine.model.encoders[ALONE].load_state_dict(after.store.encoder(ALONE, after.store.digests()[ALONE]))
    batch = first[0].engine.state.data.batch(np.arange(9))
    one: Any = first[0].engine.model.encoders[ALONE]
    other: Any = after.engine.model.encoders[ALONE]
    assert one(batch)[:, 1:].any()
    assert torch.equal(one(batch), other(batch))


def test_the_linear_model_and_what_hospitals_know_alone_add_up(tmp_path):
    (one, _) = sites(tmp_path, **{"model.encoders.alone": "both", "model.linear": True, "model.hide": 0.0})
    engine = one.engine
    batch, tokens_BMD = next(engine.state.tokens(fresh=False).batches([np.arange(9)]))
    engine.model.fusion.add_groups((1, 3, 7), 0)
    engine.model.eval()
    with torch.no_grad():
        engine.model.fusion.linear.weight_XC.normal_()
    only, counts = tokens_BMD.clone(), sum(engine.model.counts.values())
    only[:, counts:] = 0
    own_BC = engine.model.fusion.alone(torch.zeros(9, 2), tokens_BMD[:, counts], batch.presence_Bm)
    linear_BC = engine.model.fusion.linear(tokens_BMD[:, counts + 1 :], batch.presence_Bm)
    whole, rest = (engine.model.fuse(z, batch.presence_Bm, batch.group_B, True).logits_BC for z in (tokens_BMD, only))
    assert own_BC.abs().sum() > 0
    torch.testing.assert_close(whole, rest + own_BC + linear_BC)


def test_a_blend_learns_without_the_scores_and_predicts_with_a_share_of_them(tmp_path):
    (one, _) = sites(tmp_path, **{"model.hide": 0.0, "model.dropout": 0.0, "model.blend": 0.25})
    engine = one.engine
    rows = np.flatnonzero(one.cohort.groups_N == 7)[:6]
    batch, tokens_BMD = next(engine.state.tokens(fresh=False).batches([rows]))
    engine.model.fusion.add_groups((1, 3, 7), 0)
    score_BC = known_alone(tokens_BMD[:, -1], batch.presence_Bm, 2)
    assert score_BC.abs().sum() > 0
    bare_BMD = tokens_BMD.clone()
    bare_BMD[:, -1] = 0
    common_BC = engine.model.fuse(bare_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    shares_BC = tokens_BMD[:, -1, 2:4]
    engine.model.train()
    learns = engine.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    torch.testing.assert_close(learns, common_BC + shares_BC)
    engine.model.eval()
    predicts = engine.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
    torch.testing.assert_close(predicts, 0.75 * common_BC + 0.25 * score_BC + shares_BC)
    fewer_Bm = batch.presence_Bm & torch.tensor([True, True, False])  # of a hidden modality there is no score
    seen, blind = (engine.model.fuse(z, fewer_Bm, group_of(fewer_Bm), True).logits_BC for z in (tokens_BMD, bare_BMD))
    torch.testing.assert_close(seen, blind + shares_BC)


def test_a_blend_needs_scores():
    for alone in ("none", "shares"):
        with pytest.raises(UserError, match=r"blend 0.5 needs a hospital's own scores"):
            settings({"model.blend": 0.5, "model.encoders.alone": alone})


def test_the_linear_model_is_refused_where_it_does_not_go():
    linear: dict[str, Scalar] = {"model.linear": True}
    pictures = CohortSchema(name="p", classes=("x", "y"), modalities=(ImageSchema(name="i", size=(8, 8), channels=1),))
    with pytest.raises(UserError, match=r"model\.linear: cohort p has no table"):
        fusion_of(pictures, settings(linear | {"model.encoders.image-weights": "random"}))
    for method in ({"method.fusion": "simmlm"}, {"method.objective": "lisa"}):
        with pytest.raises(UserError, match=r"model\.linear"):
            methods_of(settings(linear | method))


def test_a_level_of_few_patients_moves_no_shared_weight(tmp_path):
    """Nine training patients with a level of their own: their column is 0, with ten it is not."""
    for few, told in ((9, False), (10, True)):
        patients = cohort([5] * 200, 0)
        table: Any = patients.modalities["a"]
        values_NF = table.values_NF.copy()
        values_NF[:, 1] = 0
        values_NF[np.flatnonzero(patients.split_N == TRAIN)[:few], 1] = 1
        changed = replace(patients, modalities={**patients.modalities, "a": Table(values_NF)})
        one = site(f"s{few}", changed, config(**LINEAR), tmp_path)
        batch = one.engine.state.data.batch(np.arange(200))
        numbers_NRD = one.engine.model.encoders[ALONE](batch)[:, 1:]
        assert bool(numbers_NRD[:, 0, 1].any()) is bool(numbers_NRD[:, 0, 2].any()) is told
        assert numbers_NRD[:, 0, 0].any(), "numbers that differ stay"
