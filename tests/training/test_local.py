"""Measuring and training at a site: caches equal fresh tokens, stages touch what they should, steps equal a loop."""

import numpy as np
import pytest
import torch

from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import TRAIN
from remind.methods import methods_of
from remind.metrics.statistics import collect
from remind.objectives.focal import focal_loss
from remind.training import site_data as site_data_module
from remind.training.evaluate import evaluate
from remind.training.local import build_optimizer
from remind.training.sampling import Step, steps
from remind.training.site_data import CachedTokens, FreshTokens
from remind.training.site_model import SiteModel
from remind.training.token_cache import TokenCache
from remind.training.work import LocalWork, RoundSettings
from remind_client.store.site_store import digest
from tests.builders.cohorts import NAMES, cohort
from tests.builders.configs import settings

GROUPS = [1, 2, 3, 5, 7] * 6
EVERYBODY = np.arange(len(GROUPS))
ERM = methods_of(settings({"method.objective": "erm"})).objective


def setting(has=NAMES, **changes):
    config = settings({"train.lr": 0.05} | changes)
    patients = cohort(GROUPS)
    model = SiteModel(patients.schema, config, has).double()
    model.fusion.add_groups([1, 2, 3, 5, 7], 0)
    return config, model, SiteData(patients, torch.float64)


def cached_tokens(model, data, folder):
    return CachedTokens(model, data, TokenCache(folder), {name: digest(e) for name, e in model.encoders.items()})


def test_cached_tokens_equal_fresh_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(site_data_module, "LAZY_CHUNK", 7)
    _, model, data = setting(**{"model.hide": 0.5})
    cached = cached_tokens(model.train(), data, tmp_path)
    fresh = FreshTokens(model.eval(), data)
    indices = [EVERYBODY, np.array([29, 0, 3, 3]), np.array([5])]
    for (batch_c, tokens_c), (batch_f, tokens_f) in zip(cached.batches(indices), fresh.batches(indices), strict=True):
        assert not tokens_c.requires_grad
        torch.testing.assert_close(tokens_c, tokens_f.detach(), rtol=1e-12, atol=1e-12)
        assert torch.equal(batch_c.group_B, batch_f.group_B)
        assert torch.equal(batch_c.label_B, batch_f.label_B)
        assert torch.equal(batch_c.presence_Bm, batch_f.presence_Bm)


@pytest.mark.parametrize("routing", [False, True])
def test_evaluate_equals_a_loop_over_patients(monkeypatch, routing):
    monkeypatch.setattr(site_data_module, "CHUNK", 7)
    _, model, data = setting(**{"model.dropout": 0.5, "model.hide": 0.5})
    index_N = np.array([k for k in range(len(GROUPS)) if k % 3])
    found = evaluate(model.train(), FreshTokens(model, data), index_N, ERM, routing)
    loss, log_p, opened, use = [], [], [], []
    for i in index_N.tolist():
        batch, tokens = next(FreshTokens(model.eval(), data).batches([np.array([i])]))
        output = model.fuse(tokens, batch.presence_Bm, batch.group_B, routing)
        loss.append(focal_loss(output.logits_BC, batch.label_B, 2.0).item())
        log_p.append(output.logits_BC.log_softmax(-1)[0].tolist())
        opened.append(output.open_B.item())
        use.append(output.use_BE[0].tolist())
    expected = collect(
        data.cohort.groups_N[index_N],
        data.cohort.label_N[index_N],
        *map(np.array, (loss, log_p, opened, use)),
    )
    assert set(found) == set(expected)
    for k, statistics in expected.items():
        assert found[k].loss_sum == pytest.approx(statistics.loss_sum, rel=1e-10)
        assert found[k].open_sum == statistics.open_sum == (statistics.count if routing else 0)
        np.testing.assert_array_equal(found[k].confusion_CC, statistics.confusion_CC)
        assert found[k].scores.cells() == statistics.scores.cells()
        np.testing.assert_allclose(found[k].use_sum_E, statistics.use_sum_E, rtol=0, atol=1e-6)
        assert found[k].use_sum_E.sum() == pytest.approx(statistics.count, rel=1e-6)


def test_evaluating_nobody():
    _, model, data = setting()
    assert evaluate(model, FreshTokens(model, data), EVERYBODY[:0], ERM, True) == {}


def trained(routing, train_encoders, folder=None, **changes):
    """State before and after a few steps."""
    config, model, data = setting(**changes)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = build_optimizer(config.train, model, train_encoders)
    rows = np.flatnonzero(data.cohort.split_N == TRAIN)
    group_N = data.cohort.groups_N[rows]
    counts = {k: int((group_N == k).sum()) for k in np.unique(group_N).tolist()}
    plan = steps(config.train, rows, group_N, dict.fromkeys(counts, 0.2), counts, np.random.default_rng(0))
    source = FreshTokens(model, data) if train_encoders else cached_tokens(model, data, folder)
    LocalWork(model, ERM, source, RoundSettings(lr=config.train.lr, routing=routing), list(plan), optimizer).steps()
    after = dict(model.named_parameters())
    return {n for n in before if not torch.equal(before[n], after[n])}, model


def test_stage_one_trains_everything_but_the_routing_residuals():
    moved, model = trained(routing=False, train_encoders=True, **{"train.local-steps": 4})
    for group in model.fusion.groups.values():
        assert not group.residual_LDES.any(), "Φ_k stays at 0"
    assert moved == {n for n, _ in model.named_parameters() if "residual" not in n}


def test_stage_two_trains_everything_but_the_encoders(tmp_path):
    moved, model = trained(routing=True, train_encoders=False, folder=tmp_path, **{"train.local-steps": 4})
    expected = {n for n, _ in model.named_parameters() if not n.startswith("encoders.")}
    assert moved == expected


def test_frozen_encoders_stay_in_stage_one(tmp_path):
    moved, _ = trained(routing=False, train_encoders=False, folder=tmp_path)
    assert "fusion.head.weight" in moved
    assert not any(n.startswith("encoders.") for n in moved)


def test_steps_equal_plain_sgd_with_scaled_gradients():
    config, model, data = setting(**{"train.optimizer": "sgd", "train.weight-decay": 0.0})
    _, reference, _ = setting()
    reference.load_state_dict(model.state_dict())
    scale = {"fusion.groups.3.missing_D": 2.5, "encoders.a.bias_lD": 0.5}
    plan = [Step(np.array([1, 2, 2]), np.array([0.5, 1.0, 2.0])), Step(np.array([7, 2]), np.array([1.0, 1.0]))]
    optimizer = build_optimizer(config.train, model, True)
    source = FreshTokens(model, data)
    LocalWork(model, ERM, source, RoundSettings(lr=0.1, routing=True, gradient_scale=scale), plan, optimizer).steps()
    for step in plan:
        loss = torch.zeros(())
        for i, weight in zip(step.index_B, step.weight_B, strict=True):
            batch = data.batch(np.array([i]))
            tokens = reference.tokens(batch)
            logits = reference.fuse(tokens, batch.presence_Bm, batch.group_B, True).logits_BC
            loss = loss + weight * focal_loss(logits, batch.label_B, 2.0)[0]
        named = dict(reference.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        with torch.no_grad():
            for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(0.1 * scale.get(name, 1.0) * gradient)
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(dict(model.named_parameters())[name], parameter, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("train_encoders", [True, False])
def test_encoders_are_in_the_optimizer_only_where_they_train(train_encoders):
    config, model, _ = setting()
    held = {id(p) for p in build_optimizer(config.train, model, train_encoders).param_groups[0]["params"]}
    assert {id(p) for p in model.fusion.parameters()} <= held
    assert ({id(p) for p in model.encoders.parameters()} <= held) == train_encoders


def test_optimizer_state_does_not_depend_on_the_order_in_which_groups_came():
    config, model, _ = setting()
    other = SiteModel(cohort(GROUPS).schema, config, NAMES).double()
    other.fusion.add_groups([7, 5, 3, 2, 1], 0)
    shapes = [
        [p.data_ptr() for p in build_optimizer(config.train, m, True).param_groups[0]["params"]] for m in (model, other)
    ]
    names = [{p.data_ptr(): n for n, p in m.named_parameters()} for m in (model, other)]
    assert [names[0][x] for x in shapes[0]] == [names[1][x] for x in shapes[1]]


def test_a_modality_without_an_encoder_gives_zeros():
    _, model, data = setting(has=["a", "c"])
    tokens = model.tokens(data.batch(EVERYBODY))
    start = model.counts["a"]
    assert not tokens[:, start : start + model.counts["b"]].any()
    assert tokens[:, :start].any()
    assert tokens.shape[1] == sum(model.counts.values())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_residuals_have_a_rate_of_their_own(optimizer):
    """Twice the rate of the run for Φ_k alone: what moves otherwise than at rate 1 is Φ_k and nothing else."""
    slow = dict(trained(True, True, **{"train.optimizer": optimizer, "train.local-steps": 1})[1].named_parameters())
    changes = {"train.optimizer": optimizer, "train.local-steps": 1, "train.residual-rate": 2.0}
    fast = dict(trained(True, True, **changes)[1].named_parameters())
    moved = {name for name in slow if not torch.equal(slow[name], fast[name])}
    assert moved
    assert all(".residual_" in name for name in moved)
    for name in moved:
        torch.testing.assert_close(fast[name], 2 * slow[name])
