"""Invariant 1: one full-batch SGD step per round, everyone present, shared encoders: federated = pooled GroupDRO.

In float64 to 1e-9 over random splits, through the whole machine: messages, buffers, site code, aggregation, λ. The
reference is written here from Eq. 2–4 on the pooled patients and uses none of the federation's code.
"""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from remind import groups
from remind.config import Config, Scalar
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import TRAIN, Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.schema import CohortSchema
from remind.data.sites.sites import Site as Hospital
from remind.encoders.alone import crossfit
from remind.encoders.alone.encoder import ALONE
from remind.global_model import GlobalModel
from remind.objectives.focal import focal_loss
from remind.training.site_model import SiteModel
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.rounds.strategy import FedRemind
from tests.builders.grids import SiteGrid

PATIENTS, CLASSES, ROUNDS, LR, GAMMA = 60, 3, 4, 0.3, 0.5
NAMES = ("a", "b", "c")
GROUP_POOL = (1, 2, 3, 5, 7)


def about(name):
    """Begin the message of a comparison with what was compared."""
    return lambda said: f"{name}: {said}"


def config(stage: int, **changes) -> Config:
    flat: dict[str, Scalar] = {
        "precision": "float64",
        "federation.dtype": "float64",
        "federation.encoders": "shared",
        "model.width": 8,
        "model.experts": 4,
        "model.slots": 2,
        "model.heads": 2,
        "model.gate": "always",
        "model.dropout": 0,
        "model.hide": 0,
        "train.batch": 0,
        "train.local-steps": 1,
        "train.optimizer": "sgd",
        "train.schedule": "constant",
        "train.weight-decay": 0,
        "train.lr": LR,
        "train.routing-lr": LR,
        "dro.gamma": GAMMA,
        "dro.initial": "uniform",
        "train.residual-rate": 1.0,
        "train.warmup-rounds": ROUNDS if stage == 1 else 0,
        "train.routing-rounds": ROUNDS if stage == 2 else 0,
    }
    return Config.from_flat(flat | changes)


def cohort(rng: np.random.Generator) -> Cohort:
    """Patients in all groups of the pool; features not standardised, so that no site's statistics differ."""
    group_N = np.concatenate([GROUP_POOL, rng.choice(GROUP_POOL, PATIENTS - len(GROUP_POOL))])
    modalities: dict[str, Contents] = {}
    for bit, name in enumerate(NAMES):
        values_NF = rng.normal(size=(PATIENTS, 4)).astype(np.float32)
        values_NF[(group_N >> bit & 1) == 0] = np.nan
        modalities[name] = Table(values_NF)
    schema = CohortSchema(
        name="pooled",
        classes=("x", "y", "z"),
        modalities=tuple(TableSchema(name=n, columns=("p", "q", "r", "s"), standardise="none") for n in NAMES),
    )
    ids = np.array([f"p{i}" for i in range(PATIENTS)])
    split_N = np.full(PATIENTS, TRAIN, dtype=np.int8)
    return Cohort(
        schema, ids, ids, rng.integers(CLASSES, size=PATIENTS), None, split_N, presence(schema, modalities), modalities
    )


def random_split(whole: Cohort, rng: np.random.Generator) -> list[Hospital]:
    """Three to five sites; group 2 lies at one site alone, and one site has group 5 alone."""
    n_sites = int(rng.integers(3, 6))
    site_N = rng.integers(n_sites - 1, size=PATIENTS)
    site_N[whole.groups_N == 2] = 0
    fives = np.flatnonzero(whole.groups_N == 5)
    site_N[fives[: max(1, len(fives) // 2)]] = n_sites - 1
    sites = [Hospital(f"s{s}", whole.take(site_N == s)) for s in range(n_sites) if (site_N == s).any()]
    observed = [set(groups.counts(site.cohort.groups_N)) for site in sites]
    assert sum(2 in groups_of for groups_of in observed) == 1
    assert {5} in observed
    return sites


def pooled_reference(
    whole: Cohort, settings: Config, routing: bool
) -> tuple[dict[str, torch.Tensor], dict[int, float]]:
    """Centralised GroupDRO: θ ← θ − lr·∇ Σ_k λ_k R_k with this λ, then λ_k ← λ_k·exp(γ R_k) / Σ."""
    model = SiteModel(whole.schema, settings, NAMES).double()
    counts = groups.counts(whole.groups_N)
    model.fusion.add_groups(counts, settings.seed)
    weights = {k: 1 / len(counts) for k in counts}
    batch = SiteData(whole, torch.float64).batch(np.arange(PATIENTS))
    frozen = set(model.encoders.parameters()) if routing else set()
    decay = {
        parameter: settings.train.shrink / n
        for k, n in counts.items()
        for name, parameter in model.fusion.groups[str(k)].named_parameters()
        if "residual" in name or "compose" in settings.method.fusion
    }
    for _ in range(ROUNDS):
        tokens = model.tokens(batch)
        tokens = tokens.detach() if routing else tokens
        output = model.fuse(tokens, batch.presence_Bm, batch.group_B, routing)
        loss_N = focal_loss(output.logits_BC, batch.label_B)
        risk = {k: loss_N[batch.group_B == k].mean() for k in counts}
        objective = torch.stack([weights[k] * risk[k] for k in counts]).sum()
        parameters = [p for p in model.parameters() if p not in frozen]
        gradients = torch.autograd.grad(objective, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.mul_(1 - LR * decay.get(parameter, 0.0))
                    parameter.sub_(LR * gradient)
        raised = {k: weights[k] * math.exp(GAMMA * risk[k].item()) for k in counts}
        weights = {k: v / sum(raised.values()) for k, v in raised.items()}
    return {name: p.detach() for name, p in model.named_parameters()}, weights


def federated(hospitals: list[Hospital], settings: Config, folder) -> tuple[dict[str, torch.Tensor], dict[int, float]]:
    device = torch.device("cpu")
    sites = [Site(h.name, h.cohort, settings, SiteStore(folder / h.name), device) for h in hospitals]
    result = FedRemind(settings).run(SiteGrid(sites))
    assert set(result.absent) == set()
    return dict(result.tensors), dict(result.weights)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("router", ["cosine", "raw"])
def test_federated_equals_pooled(seed, stage, router, tmp_path):
    rng = np.random.default_rng(seed)
    whole = cohort(rng)
    settings = config(stage, **{"model.router": router})
    tensors, weights = federated(random_split(whole, rng), settings, tmp_path)
    expected, expected_weights = pooled_reference(whole, settings, routing=stage == 2)
    assert set(tensors) == set(expected)
    initial = GlobalModel.build(settings, whole.schema, expected_weights).tensors
    moved = {name for name in expected if (expected[name] - initial[name]).abs().max() > 1e-6}
    assert any(name.startswith("fusion.groups.") and ("residual" in name) == (stage == 2) for name in moved)
    assert any(name.startswith("encoders.") for name in moved) == (stage == 1)
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=1e-9, msg=about(name))
    for k, weight in expected_weights.items():
        assert weights[k] == pytest.approx(weight, abs=1e-12)


@pytest.mark.parametrize("options", ["compose = true", "rank = 2", "compose = true, rank = 1"])
@pytest.mark.parametrize("shrink", [0.0, 3.0])
def test_federated_equals_pooled_where_rare_groups_borrow(options, shrink, tmp_path):
    """Parts per modality lie in the shared block; what is a group's own is pulled towards 0 alike at every site."""
    rng = np.random.default_rng(11)
    whole = cohort(rng)
    settings = config(2, **{"method.fusion": f"remind({options})", "train.shrink": shrink})
    tensors, _ = federated(random_split(whole, rng), settings, tmp_path)
    expected, weights = pooled_reference(whole, settings, routing=True)
    assert set(tensors) == set(expected)
    initial = GlobalModel.build(settings, whole.schema, weights).tensors
    moved = {name for name in expected if (expected[name] - initial[name]).abs().max() > 1e-6}
    assert any(name.startswith("fusion.parts.residual") for name in moved) == ("compose" in options)
    assert any(name.startswith("fusion.groups.") and "residual" in name for name in moved)
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=1e-9, msg=about(name))


def test_shrinking_by_local_counts_would_be_seen(tmp_path, monkeypatch):
    rng = np.random.default_rng(11)
    whole = cohort(rng)
    settings = config(2, **{"train.shrink": 3.0})
    from remind_client.engine.round_work import WorkBuilder

    def by_local_counts(builder, task):
        names = [n for n, _ in builder._state.model.named_parameters() if ".residual_" in n]
        return {n: 3.0 / builder._patients.counts[int(n.split(".")[2])] for n in names}

    monkeypatch.setattr(WorkBuilder, "_decay", by_local_counts)
    tensors, _ = federated(random_split(whole, rng), settings, tmp_path)
    expected, _ = pooled_reference(whole, settings, routing=True)
    assert max((tensors[n] - expected[n]).abs().max().item() for n in expected) > 1e-6


def pooled_with_local_encoders(
    hospitals: list[Hospital], settings: Config, alone: Mapping[str, Mapping[str, torch.Tensor]] | None = None
) -> tuple[SiteModel, dict[str, torch.nn.ModuleDict]]:
    """One fusion model, encoders of each hospital's own, θ ← θ − lr·∇ Σ_k λ_k R_k over all of them at once."""
    schema = hospitals[0].cohort.schema
    owners = {h.name: SiteModel(schema, settings, NAMES).double() for h in hospitals}
    for name, content in (alone or {}).items():
        owners[name].encoders[ALONE].load_state_dict(content)
    whole = [k for h in hospitals for k in h.cohort.groups_N.tolist()]
    counts = groups.counts(np.array(whole))
    model = owners[hospitals[0].name]
    model.fusion.add_groups(counts, settings.seed)
    weights = {k: 1 / len(counts) for k in counts}
    batches = {h.name: SiteData(h.cohort, torch.float64).batch(np.arange(len(h.cohort))) for h in hospitals}
    encoders = [p for o in owners.values() for p in o.encoders.parameters()]
    rest = {p: p.detach().clone() for p in encoders}
    parameters = [*model.fusion.parameters(), *encoders]
    for _ in range(ROUNDS):
        loss_sum = {k: torch.zeros((), dtype=torch.float64) for k in counts}
        for name, batch in batches.items():
            output = model.fuse(owners[name].tokens(batch), batch.presence_Bm, batch.group_B, False)
            loss_N = focal_loss(output.logits_BC, batch.label_B)
            for k in counts:
                loss_sum[k] = loss_sum[k] + loss_N[batch.group_B == k].sum()
        risk = {k: loss_sum[k] / counts[k] for k in counts}
        gradients = torch.autograd.grad(
            torch.stack([weights[k] * risk[k] for k in counts]).sum(), parameters, allow_unused=True
        )
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    if parameter in rest:
                        parameter.lerp_(rest[parameter], LR * settings.train.anchor)
                    parameter.sub_(LR * gradient)
        raised = {k: weights[k] * math.exp(GAMMA * risk[k].item()) for k in counts}
        weights = {k: v / sum(raised.values()) for k, v in raised.items()}
    return model, {name: owner.encoders for name, owner in owners.items()}


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        (0, {}),
        (1, {}),
        (2, {}),
        (0, {"model.encoders.alone": "linear"}),
        (0, {"model.projection": True, "train.anchor": 0.7}),
    ],
)
def test_with_local_encoders_federated_equals_pooled_with_encoders_of_each_site(seed, changes, tmp_path, monkeypatch):
    """A tensor that never travels takes the step of Σ_s F_s too: lr·∇F_s, not lr·∇F_s/W_s.

    What a site knows alone is data of its own: the factor that all share takes the pooled step as well.
    """
    monkeypatch.setattr(crossfit, "LEAST", 2)  # so few patients are enough here
    rng = np.random.default_rng(seed)
    hospitals = random_split(cohort(rng), rng)
    settings = config(1, **{"federation.encoders": "local"} | changes)
    alone = settings.model.encoders.alone
    device = torch.device("cpu")
    sites = [Site(h.name, h.cohort, settings, SiteStore(tmp_path / h.name), device) for h in hospitals]
    knows = {one.name: one.engine.model.encoders[ALONE].state_dict() for one in sites if alone != "none"}
    result = FedRemind(settings).run(SiteGrid(sites))
    model, encoders = pooled_with_local_encoders(hospitals, settings, knows)
    assert not settings.model.projection or result.tensors["fusion.projection.weight_mDD"].abs().max() > 1e-6
    assert alone == "none" or abs(result.tensors["fusion.alone.scale"] - 1) > 1e-6
    initial = SiteModel(hospitals[0].cohort.schema, settings, NAMES).double()
    for name, tensor in model.fusion.named_parameters():
        torch.testing.assert_close(
            result.tensors[f"fusion.{name}"], tensor.detach(), rtol=0, atol=1e-9, msg=about(name)
        )
    for one in sites:
        found = dict(one.engine.model.encoders.named_parameters())
        start = dict(initial.encoders.named_parameters())
        moved = [n for n, p in found.items() if (p - start[n]).abs().max() > 1e-6]
        assert moved
        for name, parameter in found.items():
            expected = dict(encoders[one.name].named_parameters())[name]
            torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-9, msg=about((one.name, name)))


def test_dividing_by_local_counts_would_be_seen(tmp_path, monkeypatch):
    """The classic mistake must not pass: with n_{s,k} for n_k the federated step points elsewhere."""
    rng = np.random.default_rng(0)
    whole = cohort(rng)
    settings = config(1)
    from remind.training.sampling import steps as honest
    from remind_client.engine import step_plan

    def with_local_counts(train, index_N, group_N, weights, counts, rng, own=None):
        return honest(train, index_N, group_N, weights, groups.counts(group_N), rng)

    monkeypatch.setattr(step_plan, "steps", with_local_counts)
    tensors, _ = federated(random_split(whole, rng), settings, tmp_path)
    expected, _ = pooled_reference(whole, settings, routing=False)
    assert max((tensors[n] - expected[n]).abs().max().item() for n in expected) > 1e-4
