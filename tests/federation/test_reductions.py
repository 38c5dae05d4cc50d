"""Every rule and objective equals a known one at some value of its options, for every kind of block.

In float64, one full-batch step of plain SGD at each site and round, two rounds of each stage.
"""

from typing import Any

import pytest
import torch

from remind.config import Config, Scalar
from remind.federation.blocks import block_of
from remind.federation.rules.base import Rule
from remind.federation.rules.base import registry as rules
from remind.global_model import GlobalModel
from remind.training.site_model import fusion_of
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import NAMES, cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 3, 7, 7] * 4, "s2": [3, 3, 7] * 4, "s3": [5, 7] * 4 + [1] * 2}
EXACT: dict[str, Scalar] = {
    "precision": "float64",
    "federation.dtype": "float64",
    "federation.encoders": "shared",
    "method.objective": "erm",
    "train.optimizer": "sgd",
    "train.weight-decay": 0,
    "train.schedule": "constant",
    "train.lr": 0.2,
    "train.routing-lr": 0.2,
    "train.batch": 0,
    "train.local-steps": 1,
    "train.warmup-rounds": 2,
    "train.routing-rounds": 2,
    "train.focal-gamma": 0.0,
}
KINDS = {"shared", "group", "encoder"}


def about(name):
    """Begin the message of a comparison with what was compared."""
    return lambda said: f"{name}: {said}"


class Run:
    """A finished run, its sites, and what became of the tensors that travel."""

    def __init__(self, folder, mixes=None, **changes) -> None:
        self.config = Config.from_flat(BASE | EXACT | {k.replace("__", "."): v for k, v in changes.items()})
        mixes = mixes or MIXES
        self.sites = [site(n, cohort(mix, i), self.config, folder) for i, (n, mix) in enumerate(mixes.items())]
        self.recorder = Recorder()
        FedRemind(self.config, [self.recorder]).run(SiteGrid(self.sites))
        self.tensors = self.recorder.models[-1]

    def model_of(self, one) -> dict[str, torch.Tensor]:
        """The tensors that a site has, its own and the global ones."""
        own = {n: p.detach() for n, p in one.engine.model.named_parameters()}
        return own | {n: t for n, t in self.tensors.items() if n in own} | one.store.kept()

    def start(self) -> dict[str, torch.Tensor]:
        """The tensors that travelled to the first round."""
        counts = self.recorder.start.counts
        return dict(GlobalModel.build(self.config, self.recorder.start.schema, counts).tensors)

    def kinds_that_moved(self) -> set[str]:
        first = self.recorder.models[0]
        return {block_of(n).partition(":")[0] for n, t in self.tensors.items() if not torch.equal(t, first[n])}


def assert_same(found, expected, names=None):
    names = set(expected) if names is None else names
    assert names <= set(found)
    for name in names:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=1e-10, msg=about(f"{name} ({block_of(name)})")
        )


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Runs that others reduce to, each made once."""
    made: dict[tuple, Run] = {}

    def get(**changes):
        key = tuple(sorted(changes.items()))
        if key not in made:
            made[key] = Run(tmp_path_factory.mktemp("known"), **changes)
        return made[key]

    return get


AVERAGED = [
    "fedremind",
    "fedprox(mu = 0)",
    "qffl(q = 0)",
    "fedavgm(momentum = 0)",
    "scaffold(lr = 0)",  # in one local step there is no drift
    "ditto",  # its global model
    "afl(step = 0)",
    "afl(step = 0, units = 'groups')",
    "drfa(step = 0)",
    "drfa(step = 0, units = 'groups')",
    "fgdro_kl(mu = 1e12)",
    "fgdro_kl(mu = 1e12, units = 'groups')",
]


@pytest.mark.parametrize("rule", AVERAGED)
def test_these_rules_are_fedavg(rule, known, tmp_path):
    fedavg = known(method__rule="fedavg")
    assert fedavg.kinds_that_moved() == KINDS
    assert_same(Run(tmp_path, method__rule=rule).tensors, fedavg.tensors)


@pytest.mark.parametrize("rule", ["fedremind", "fedprox(mu = 0)", "qffl(q = 0)", "ditto", "afl(step = 0)"])
def test_and_with_encoders_that_stay_they_are_lg(rule, known, tmp_path):
    lg = known(method__rule="lg", federation__encoders="local")
    found = Run(tmp_path, method__rule=rule, federation__encoders="local")
    assert_same(found.tensors, lg.tensors)
    for one, other in zip(found.sites, lg.sites, strict=True):
        assert_same(found.model_of(one), lg.model_of(other), set(lg.model_of(other)))


@pytest.mark.parametrize(
    ("rule", "objective", "changes"),
    [
        ("fgdro_cvar(alpha = 1, units = 'groups')", "erm", {}),
        ("fedremind", "cvar(alpha = 1)", {}),
        ("fedremind", "balanced", {}),
        ("fedremind", "groupdro", {"dro__gamma": 0}),
    ],
)
def test_groups_alike_is_reweigh(rule, objective, changes, known, tmp_path):
    reweigh = known(method__rule="fedremind", method__objective="reweigh")
    assert reweigh.kinds_that_moved() == KINDS
    assert_same(Run(tmp_path, method__rule=rule, method__objective=objective, **changes).tensors, reweigh.tensors)


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("groupdro", {"dro__gamma": 0, "dro__initial": "proportional"}),
        ("fairbatch(alpha = 0)", {}),
        ("fairmixup(penalty = 0)", {}),
        ("logit_adjustment(tau = 0)", {}),
    ],
)
def test_these_objectives_are_erm(objective, changes, known, tmp_path):
    erm = known(method__rule="fedremind")
    assert_same(Run(tmp_path, method__rule="fedremind", method__objective=objective, **changes).tensors, erm.tensors)


def test_fgdro_cvar_of_all_sites_is_their_plain_mean(tmp_path):
    """α = 1: every site weighs 1/K; with as many patients at each that is FedAvg."""
    mixes = {"s1": [1, 3, 7, 7] * 3, "s2": [3, 5, 7, 7] * 3}
    one, other = (
        Run(tmp_path / str(i), mixes, method__rule=r) for i, r in enumerate(("fgdro_cvar(alpha = 1)", "fedavg"))
    )
    assert_same(one.tensors, other.tensors)


def test_fedrep_of_one_step_is_fedavg_but_for_the_heads(known, tmp_path):
    """Until the heads have parted: in the first round all that is averaged moves as in FedAvg."""
    fedavg, found = known(method__rule="fedavg").recorder.models[0], Run(tmp_path, method__rule="fedrep")
    body = found.recorder.models[0]
    assert {block_of(n).partition(":")[0] for n in body} == KINDS
    assert_same(fedavg, body)
    heads = [one.store.kept()["fusion.head.weight"] for one in found.sites]
    assert not torch.equal(heads[0], heads[1])


@pytest.mark.parametrize(("rule", "encoders"), [("lg", "local"), ("fedavg", "shared")])
def test_fedbn_in_the_first_round_is_lg_or_fedavg_but_for_the_norms(rule, encoders, known, tmp_path):
    changes = {"federation__encoders": encoders, "model__encoders__table": "features"}  # whose layer has two norms
    all_of_it = known(method__rule=rule, **changes).recorder.models[0]
    found = Run(tmp_path, method__rule="fedbn", **changes)
    body = found.recorder.models[0]
    stay = set(all_of_it) - set(body)
    assert stay == {n for n in all_of_it if "norm" in n} != set()
    assert any(n.startswith("encoders.") for n in stay) == (encoders == "shared")
    assert_same(all_of_it, body)
    models = [found.model_of(one) for one in found.sites]
    for name in stay:
        own = [whole[name] for whole in models if name in whole]
        assert len(own) < 2 or not torch.equal(own[0], own[1]), name


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_fedrep_moves_both_parts_in_every_round(steps, share, tmp_path):
    changes = {"train__local-steps": steps, "train__warmup-rounds": 1, "train__routing-rounds": 0}
    found = Run(tmp_path, method__rule=f"fedrep(head-steps = {share})", **changes)
    start = found.start()
    assert all(not torch.equal(t, start[n]) for n, t in found.tensors.items() if "norm" in n and "weight" in n)
    fusion: Any = fusion_of(found.recorder.start.schema, found.config).double()
    head = fusion.head.weight
    assert not torch.equal(found.sites[0].store.kept()["fusion.head.weight"], head)


def test_adapt_moves_its_parts_as_fedremind_does(known, tmp_path):
    """Everything that moves, in the first round; encoders and attention rest."""
    alone = {"train__warmup-rounds": 0}
    fedremind = known(method__rule="fedremind", **alone).recorder.models[0]
    run = Run(tmp_path, method__rule="adapt(parts = 'head+router+groups+experts')", **alone)
    found, start = run.recorder.models[0], run.recorder.models
    parts = {n for n in found if {"head", "router", "groups", "experts"} & set(n.split("."))}
    assert {block_of(n).partition(":")[0] for n in parts} == {"shared", "group"}
    assert_same(found, fedremind, parts)
    assert start[0].keys() == fedremind.keys()


@pytest.mark.parametrize("encoders", ["shared", "local", "frozen"])
def test_dittos_own_model_without_a_band_is_each_site_alone(encoders, tmp_path):
    """μ = 0: v descends the mean loss of the site's own patients, on shared, group and encoder tensors alike.

    Local encoders are the exception: w trains them, and v uses them.
    """
    changes = {"train__local-steps": 2}
    ditto = Run(tmp_path / "ditto", method__rule="ditto(mu = 0)", federation__encoders=encoders, **changes)
    kept = "frozen" if encoders == "frozen" else "local"
    local = Run(tmp_path / "local", method__rule="local", federation__encoders=kept, **changes)
    for one, other in zip(ditto.sites, local.sites, strict=True):
        own = {n.removeprefix("ditto/"): t for n, t in one.store.kept().items() if n.startswith("ditto/")}
        expected = local.model_of(other)
        kinds = {block_of(n).partition(":")[0] for n in own}
        assert kinds == (KINDS if encoders == "shared" else KINDS - {"encoder"})
        if encoders != "local":
            assert_same(own, expected, set(own))
            for k, statistics in local.recorder.result.test[other.name].items():
                mine = ditto.recorder.result.test[one.name][k]
                assert mine.loss_sum == pytest.approx(statistics.loss_sum, abs=1e-6), "what the site uses is v"


# Rules that may compute something else than local steps and an average, as they are written where they do not.
NEUTRAL = {
    "afl": "afl",  # a site's weight is 1 if it is alone
    "ditto": "ditto",  # its global model
    "drfa": "drfa",
    "feddg_ga": "feddg_ga",
    "fedavgm": "fedavgm(momentum = 0)",
    "fedmsplit": "fedmsplit",
    "fedprox": "fedprox",  # in one local step there is no drift
    "fedremind": "fedremind",
    "fedrep": "fedrep",
    "fgdro_cvar": "fgdro_cvar",
    "fgdro_kl": "fgdro_kl",
    "pooled": "pooled",
    "qffl": "qffl(q = 0)",
    "scaffold": "scaffold(lr = 0)",
}
COMPUTES = ("moving", "weighing", "combiner", "server_step", "server_round", "for_site", "work", "measured")


def plain(build: type[Rule]) -> bool:
    """Whether a rule changes nothing but what travels, so that one site is left with its own steps."""
    return all(getattr(build, hook) is getattr(Rule, hook) for hook in COMPUTES) and build.sends


def with_one_site() -> list[str]:
    """The rules with which one site must be the site alone, each as it is written."""
    here = [m for m in rules.methods() if "local" in m.build.encoders]
    return [NEUTRAL.get(m.name, m.name) for m in here if m.name in NEUTRAL or plain(m.build)]


ONE_SITE: dict[str, Any] = {"mixes": {"s1": MIXES["s1"]}, "federation__encoders": "local"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A site by itself; tests only read it."""
    return Run(tmp_path_factory.mktemp("alone"), method__rule="local", **ONE_SITE)


def test_every_rule_of_the_list_and_every_plain_rule_is_tested_with_one_site():
    assert {*NEUTRAL.values(), "lg", "fedbn"} <= set(with_one_site())


@pytest.mark.parametrize("rule", with_one_site())
def test_one_site_is_the_site_alone_whatever_the_rule(rule, alone, tmp_path):
    found = Run(tmp_path, method__rule=rule, **ONE_SITE)
    expected = alone.model_of(alone.sites[0])
    assert_same(found.model_of(found.sites[0]), expected, set(expected))


def test_qffl_is_a_step_on_the_sum_of_powers_of_the_sites_losses(tmp_path):
    """q = 2: the paper's step for Σ_s p_s·F_s³/3, from the gradient that each site has alone, at each kind of block."""
    q, lr, one_round = 2.0, 0.2, {"train__warmup-rounds": 1, "train__routing-rounds": 0}
    run = Run(tmp_path / "q", method__rule=f"qffl(q = {q})", **one_round)
    start, whole = run.start(), run.recorder.start.counts
    pull, curvature = dict.fromkeys(start, 0.0), dict.fromkeys(start, 0.0)
    for one in run.sites:
        own = one.engine.patients.counts
        recorder = Recorder()
        fedavg = run.config.model_copy(update={"method": run.config.method.model_copy(update={"rule": "fedavg"})})
        mine = site(one.name, one.cohort, fedavg, tmp_path / one.name)
        FedRemind(fedavg, [recorder]).run(SiteGrid([mine]))
        gradient = {n: (start[n] - t) / lr for n, t in recorder.models[0].items()}
        loss = sum(recorder.rounds[0].risks[k] * n for k, n in own.items()) / sum(own.values())
        norm = sum(float(g.square().sum()) for g in gradient.values())
        h = q * loss ** (q - 1) * norm + loss**q / lr
        share = sum(own.values()) / sum(whole.values())
        for name, g in gradient.items():
            having = [k for k in whole if reaches(k, name)]
            part = sum(own.get(k, 0) for k in having) / sum(whole[k] for k in having)
            pull[name] += share * loss**q * g
            curvature[name] += part * h
    expected = {n: start[n] - pull[n] / curvature[n] for n in run.tensors}
    assert {block_of(n).partition(":")[0] for n in expected} == KINDS
    assert_same(run.tensors, expected)


def reaches(group: int, name: str) -> bool:
    """Whether a group's patients train a tensor."""
    kind, _, which = block_of(name).partition(":")
    return kind == "shared" or (which == str(group) if kind == "group" else bool(group >> NAMES.index(which) & 1))
