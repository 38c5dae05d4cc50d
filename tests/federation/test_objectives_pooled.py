"""Every objective of groups, trained by hospitals, is that of the pooled patients: full batches, plain SGD, float64.

lisa and fairmixup are left out: they pair the patients of a step, and two hospitals' patients never meet.
"""

import numpy as np
import pytest
import torch

from remind.config import Config
from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION, Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.schema import CohortSchema
from remind.federation.messages import Enrolment
from remind.objectives.base import registry as objectives
from remind_client.engine.patients import SitePatients
from remind_client.policy.suppress import counts_of, suppress_enrolment
from remind_server.rounds.strategy import FedRemind
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

PATIENTS, GROUP_POOL, NAMES = 90, (1, 2, 3, 5, 7), ("a", "b", "c")
OPTIONS = {"jtt": "jtt(upweight = 7)", "dfr": "dfr(retrain = 0.5)", "cvar": "cvar(alpha = 0.3)"}
OBJECTIVES = [OPTIONS.get(m.name, m.name) for m in objectives.methods() if not m.build.couples_patients]


def config(objective: str, rule: str, split=(2, 3)) -> Config:
    return Config.from_flat(
        BASE
        | {
            "precision": "float64",
            "federation.dtype": "float64",
            "federation.encoders": "frozen",
            "federation.max-update": 100.0,  # jtt's steps are longer by the mean number of copies
            "method.objective": objective,
            "method.rule": rule,
            "train.batch": 0,
            "train.local-steps": 1,
            "train.optimizer": "sgd",
            "train.schedule": "constant",
            "train.weight-decay": 0,
            "train.lr": 0.3,
            "train.routing-lr": 0.3,
            "train.warmup-rounds": split[0],
            "train.routing-rounds": split[1],
        }
    )


def about(name):
    """Begin the message of a comparison with what was compared."""
    return lambda said: f"{name}: {said}"


def cohort(seed: int) -> Cohort:
    """Patients of five groups in all three parts; features not standardised, so that no site's statistics differ."""
    rng = np.random.default_rng(seed)
    group_N = np.concatenate([np.repeat(GROUP_POOL, 4), rng.choice(GROUP_POOL, PATIENTS - 4 * len(GROUP_POOL))])
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
    split_N = rng.choice(3, size=PATIENTS, p=(0.5, 0.4, 0.1)).astype(np.int8)
    return Cohort(
        schema, ids, ids, rng.integers(3, size=PATIENTS), None, split_N, presence(schema, modalities), modalities
    )


def run(folder, hospitals, settings) -> Recorder:
    recorder = Recorder()
    FedRemind(settings, [recorder]).run(SiteGrid([site(n, c, settings, folder) for n, c in hospitals.items()]))
    assert [r.absent for r in recorder.rounds] == [{}] * settings.train.rounds
    return recorder


@pytest.mark.parametrize(("seed", "objective"), list(enumerate(OBJECTIVES)))
def test_federated_equals_pooled(objective, seed, tmp_path):
    whole = cohort(seed)
    site_N = np.random.default_rng(seed).choice(3, size=PATIENTS, p=(0.6, 0.3, 0.1))
    for s in range(3):  # what a site holds out of a group that it does not train on takes no part
        here = site_N == s
        foreign = ~np.isin(whole.groups_N, whole.groups_N[here & (whole.split_N == TRAIN)])
        whole.split_N[here & foreign & (whole.split_N == VALIDATION)] = TEST
    hospitals = {f"s{s}": whole.take(site_N == s) for s in range(3)}
    federated = run(tmp_path / "federated", hospitals, config(objective, "fedremind"))
    pooled = run(tmp_path / "pooled", {"all of them": whole}, config(objective, "pooled"))
    moved = 0.0
    for after, (one, other) in enumerate(zip(federated.models, pooled.models, strict=True)):
        for name, tensor in other.items():
            torch.testing.assert_close(one[name], tensor, rtol=0, atol=1e-9, msg=about(f"round {after + 1}, {name}"))
        moved = max((t - federated.models[0][n]).abs().max().item() for n, t in one.items())
    assert moved > 1e-4
    assert federated.result.weights == pytest.approx(pooled.result.weights, abs=1e-9)


@pytest.mark.parametrize("rule", ["fedremind", "lg"])
def test_the_head_of_dfr_sees_every_group_alike(rule, tmp_path):
    """One site: the head's step is lr times the gradient of the mean over groups of their validation patients' loss."""
    whole, settings = cohort(3), config("dfr", rule, split=(0, 4))
    one = site("s", whole, settings, tmp_path)
    recorder = Recorder()
    FedRemind(settings, [recorder]).run(SiteGrid([one]))
    before, after = recorder.models[2], recorder.models[3]
    named = dict(one.engine.model.named_parameters())
    with torch.no_grad():
        for name, tensor in before.items():
            named[name].copy_(tensor)
    rows = one.engine.patients.index[1]
    groups_here = list(one.engine.patients.held_out())
    batch, tokens = next(one.engine.state.tokens(fresh=False).batches([rows]))
    one.engine.model.train()
    output = one.engine.model.fuse(tokens, batch.presence_Bm, batch.group_B, True)
    loss = one.engine.methods.objective.criterion(output.logits_BC, batch.label_B, batch.group_B, {})
    mean = torch.stack([loss[batch.group_B == k].mean() for k in groups_here]).mean()
    one.engine.model.fusion.requires_grad_()
    (gradient,) = torch.autograd.grad(mean, named["fusion.head.weight"])
    torch.testing.assert_close(
        after["fusion.head.weight"], before["fusion.head.weight"] - 0.3 * gradient, atol=1e-9, rtol=0
    )


def test_only_dfr_says_how_many_it_holds_out_and_small_numbers_stay_at_the_site(tmp_path):
    whole = cohort(0)
    for objective, says in (("dfr", True), ("erm", False)):
        one = site("s", whole, config(objective, "fedremind"), tmp_path / objective)
        enrolment = one.enrol()
        assert isinstance(enrolment, Enrolment)
        assert enrolment.held_out == (one.engine.patients.held_out() if says else {})
        assert set(enrolment.held_out) <= set(enrolment.counts)
    enrolment = site("s", whole, config("dfr", "fedremind"), tmp_path / "again").enrol()
    minimum = sorted(enrolment.held_out.values())[2]
    released = suppress_enrolment(enrolment, minimum)
    assert released.held_out
    assert all(n >= minimum and k in released.counts for k, n in released.held_out.items())
    assert counts_of(released)["enrolled, validation"] == dict(released.held_out)


def test_what_a_site_withholds_trains_no_head(tmp_path, monkeypatch):
    """The coordinator hears of no held-out patient: nobody's head moves, and the run continues."""
    whole, settings = cohort(0), config("dfr", "fedremind", split=(0, 4))
    one = site("s", whole, settings, tmp_path)
    monkeypatch.setattr(SitePatients, "held_out", lambda _: {})
    recorder = Recorder()
    FedRemind(settings, [recorder]).run(SiteGrid([one]))
    assert [r.absent for r in recorder.rounds] == [{}] * 4
    assert all(torch.equal(t, recorder.models[2][n]) for n, t in recorder.models[3].items())
