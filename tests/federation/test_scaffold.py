"""SCAFFOLD: exact where FedAvg drifts; equal to a loop over sites and steps; one c_s for one counted answer."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from torch.optim import SGD

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.blocks import beside
from remind.federation.rules.base import Replies
from remind.methods import methods_of
from remind.secure_settings import require_summable
from remind.training.work import RoundSettings
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

X, LR, STEPS = "fusion.x.weight", 0.1, 5


def rule(text, **changes):
    settings = {"method.rule": text, "method.objective": "erm", "federation.dtype": "float64", "train.optimizer": "sgd"}
    return methods_of(
        Config.from_flat(settings | {"train.local-steps": STEPS, "train.lr": LR, "train.weight-decay": 0} | changes)
    ).rule


@dataclass
class Quadratic:
    """A site whose F_s is ½·Σ h·(x − o)²: as much of `LocalWork` as rules use."""

    h: torch.Tensor
    o: torch.Tensor
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    instead: dict[str, torch.Tensor] = field(default_factory=dict)
    travelling: tuple[str, ...] = (X,)

    def begin(self, x, beside, round_, counted):
        self.x = torch.nn.Parameter(x.clone())
        self.optimizer = SGD([{"params": [self.x], "factor": 1.0}], lr=LR)
        self.plan = [None] * STEPS
        self.beside = beside
        self.settings = RoundSettings(lr=LR, round=round_, counted=counted)
        return self

    def named(self):
        return {X: self.x}

    def received(self):
        return {X: self.x.detach().clone()}

    def steps(self, optimizer=None, shift=None):
        optimizer = optimizer or self.optimizer
        for _ in self.plan:
            self.x.grad = self.h * (self.x.detach() - self.o) + (shift or {}).get(X, 0.0)
            for group in optimizer.param_groups:
                group["lr"] = LR * group["factor"]
            optimizer.step()


def sites():
    rows = [([4.0, 0.5], [1.0, -2.0]), ([0.5, 2.0], [-3.0, 1.0]), ([1.0, 1.0], [2.0, 4.0])]
    return [Quadratic(torch.tensor(h).double(), torch.tensor(o).double()) for h, o in rows]


WEIGHT = [0.5, 0.3, 0.2]


def optimum(which=sites, weight=WEIGHT):
    both = [(w * s.h, w * s.h * s.o) for w, s in zip(weight, which(), strict=True)]
    return sum(b for _, b in both) / sum(a for a, _ in both)


def train(one, those, rounds, asked=lambda t: range(3), lost=lambda t, i: False):
    """Rounds of the rule as coordinator and sites do them; `lost` answers arrive too late."""
    x, memory, counted = torch.zeros(2, dtype=torch.float64), {}, dict.fromkeys(range(3), -1)
    for t in range(rounds):
        sent = {beside("control", X): memory[f"control/{X}"]} if memory else {}
        total, mass = torch.zeros(2, dtype=torch.float64), 0.0
        for i in asked(t):
            one.work(those[i].begin(x, sent, t, counted[i]))
            if not lost(t, i):
                total, mass, counted[i] = total + WEIGHT[i] * those[i].x.detach(), mass + WEIGHT[i], t
        average = {X: total / mass}
        moved, memory = one.server_round({X: x}, average, memory, Replies(LR, {X: mass}))
        x = moved[X]
    return x, memory


def test_it_reaches_the_optimum_from_which_fedavg_drifts():
    drifted, _ = train(rule("lg"), sites(), 150)  # at its fixed point: it comes nearer by 0.6 in each round
    exact, _ = train(rule("scaffold(lr = 0)"), sites(), 400)
    assert (drifted - optimum()).abs().max() > 0.1
    torch.testing.assert_close(exact, optimum(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lr", [0.0, 0.05])
def test_it_is_the_papers_loop(lr):
    asked = lambda t: [[0, 1], [2], [0, 2], [1, 2]][t % 4]  # noqa: E731
    found, memory = train(rule(f"scaffold(lr = {lr})"), sites(), 9, asked)
    those, rate, x = sites(), lr or LR, torch.zeros(2, dtype=torch.float64)
    c, own = torch.zeros(2, dtype=torch.float64), [torch.zeros(2, dtype=torch.float64) for _ in range(3)]
    for t in range(9):
        moves, changes = [], []
        for i in asked(t):
            y = x.clone()
            for _ in range(STEPS):
                y = y - rate * (those[i].h * (y - those[i].o) - own[i] + c)
            fresh = own[i] - c + (x - y) / (STEPS * rate)
            moves.append((WEIGHT[i], y))
            changes.append(WEIGHT[i] * (fresh - own[i]))
            own[i] = fresh
        x = torch.stack([w * y for w, y in moves]).sum(dim=0) / sum(w for w, _ in moves)
        c = c + torch.stack(changes).sum(dim=0)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(memory[f"control/{X}"], c, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lr", [0.0, 1.0])
def test_a_weight_without_a_gradient_decays_as_with_adamw(lr):
    flat = Quadratic(torch.zeros(2).double(), torch.zeros(2).double()).begin(torch.ones(2).double(), {}, 0, -1)
    rule(f"scaffold(lr = {lr})", **{"train.weight-decay": 0.3}).work(flat)
    torch.testing.assert_close(
        flat.x.detach(), torch.full((2,), (1 - LR * 0.3) ** STEPS, dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_partial_participation_converges_too():
    # Equal optima of the average need equal odds: every site is asked twice in three rounds.
    asked = lambda t: [[0, 1], [1, 2], [0, 2]][t % 3]  # noqa: E731
    equal = lambda: [Quadratic(s.h, s.o) for s in sites()]  # noqa: E731
    exact, _ = train(rule("scaffold(lr = 0)"), equal(), 450, asked)
    drifted, _ = train(rule("lg"), equal(), 300, asked)
    assert (exact - optimum()).norm() < 0.2 * (drifted - optimum()).norm()


def test_an_answer_that_came_too_late_leaves_no_trace():
    """Otherwise Σ a_s·c_s ≠ c from then on, and the optimum would be missed for ever."""
    exact, _ = train(rule("scaffold(lr = 0)"), sites(), 400, lost=lambda t, i: (t + i) % 7 == 3 and t < 30)
    torch.testing.assert_close(exact, optimum(), rtol=0, atol=1e-9)


def test_a_site_that_may_not_send_does_not_pull_the_others():
    def kept_back():
        those = sites()
        those[2].withheld = frozenset({"shared"})
        return those

    x, memory, those, one = torch.zeros(2, dtype=torch.float64), {}, kept_back(), rule("scaffold(lr = 0)")
    for t in range(600):
        sent = {beside("control", X): memory[f"control/{X}"]} if memory else {}
        for each in those:
            one.work(each.begin(x, sent, t, t - 1))
        answers = [each.instead[X] if each.withheld else each.x.detach() for each in those]
        average = {X: sum(w * y for w, y in zip(WEIGHT, answers, strict=True))}
        moved, memory = one.server_round({X: x}, average, memory, Replies(LR, {X: 1.0}))
        x = moved[X]
    torch.testing.assert_close(x, optimum(lambda: kept_back()[:2], WEIGHT[:2]), rtol=0, atol=1e-8)


# What one site can do


@settings_of(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 1)), min_size=1, max_size=12))
def test_c_is_never_larger_than_the_largest_step_of_the_model_makes_it(steps):
    """K·η·‖c‖ ≤ max ‖θ⁺ − θ‖ over the rounds, whatever was in the answers: so `federation.max-update` bounds c."""
    one, x, memory, largest = rule("scaffold(lr = 0)"), torch.zeros(2, dtype=torch.float64), {}, 0.0
    for a, b, weight in steps:
        step = torch.tensor([a, b], dtype=torch.float64)
        largest = max(largest, float(step.norm()))
        moved, memory = one.server_round({X: x}, {X: x + step}, memory, Replies(LR, {X: weight}))
        x = moved[X]
        assert STEPS * LR * float(memory[f"control/{X}"].norm()) <= largest + 1e-9


def repeated_lie(text, combine, rounds=60):
    """How far the model moves in the last round; honest sites have nothing to learn, one of weight .2 sends θ + 1."""
    one, x, memory = rule(text), torch.zeros(2, dtype=torch.float64), {}
    those = [Quadratic(torch.zeros(2).double(), torch.zeros(2).double()) for _ in range(2)]
    for t in range(rounds):
        sent = {beside("control", X): memory[f"control/{X}"]} if memory else {}
        for each in those:
            one.work(each.begin(x, sent, t, t - 1))
        average = combine([*(each.x.detach() for each in those), x + 1])
        moved, memory = one.server_round({X: x}, {X: average}, memory, Replies(LR, {X: 1.0}))
        x, last = moved[X], x
    return float((x - last).abs().max())


def test_a_lie_that_is_repeated_counts_in_full_and_not_by_its_share_unless_the_aggregator_is_robust():
    """docs/threat-model.md says so: c spreads it to the other sites' steps. It never exceeds what was sent."""
    mean = lambda replies: sum(w * y for w, y in zip(WEIGHT, replies, strict=True))  # noqa: E731
    median = lambda replies: torch.stack(replies).median(dim=0).values  # noqa: E731
    assert repeated_lie("lg", mean) == pytest.approx(0.2)
    assert repeated_lie("scaffold(lr = 0)", mean) == pytest.approx(1.0, abs=1e-3)
    assert repeated_lie("scaffold(lr = 0)", median) == 0.0


# In a run

MIXES = {"s1": [1, 3, 7] * 5, "s2": [3, 5, 7, 7] * 4, "s3": [7, 3] * 6}


def settings(folder=None, **changes) -> Config:
    flat = BASE | {
        "precision": "float64",
        "federation.dtype": "float64",
        "federation.encoders": "shared",
        "method.fusion": "attention",
        "method.objective": "erm",
        "method.rule": "scaffold(lr = 0.1)",
        "train.batch": 0,
        "train.local-steps": 3,
        "train.warmup-rounds": 3,
        "train.routing-rounds": 0,
        "train.schedule": "constant",
    }
    return Config.from_flat(flat | changes | ({"results": str(folder)} if folder else {}))


def run(folder, config, mixes=None, checkpoints=None, stop=None):
    members = [site(n, cohort(mix, seed), config, folder) for seed, (n, mix) in enumerate((mixes or MIXES).items())]
    recorder = Recorder()
    strategy = FedRemind(config, [recorder], checkpoints=checkpoints)
    if stop is not None:
        done = recorder.round_done

        def round_done(record, tensors):
            done(record, tensors)
            if record.round == stop:
                raise KeyboardInterrupt

        recorder.round_done = round_done  # type: ignore[method-assign]
    try:
        strategy.run(SiteGrid(members))
    except KeyboardInterrupt:
        assert stop is not None
    return recorder, members


def test_one_site_has_nothing_to_correct(tmp_path):
    alone = {"s1": MIXES["s1"]}
    found, _ = run(tmp_path / "a", settings(), alone)
    plain, _ = run(
        tmp_path / "b",
        settings(**{"method.rule": "fedavg", "train.optimizer": "sgd", "train.lr": 0.1, "train.weight-decay": 0.0}),
        alone,
    )
    again, _ = run(tmp_path / "c", settings(**{"train.weight-decay": 0.0}), alone)
    assert set(again.models[-1]) == set(plain.models[-1]) == set(found.models[-1])
    for name, tensor in again.models[-1].items():
        torch.testing.assert_close(tensor, plain.models[-1][name], rtol=0, atol=1e-10)


def test_the_sites_variates_average_to_the_coordinators(tmp_path):
    """Σ a_s·c_s = c for every tensor of every kind of block, which the coordinator never sees."""
    config = settings(**{"train.warmup-rounds": 2})
    folder = tmp_path / "run"
    recorder, members = run(tmp_path, config, checkpoints=Checkpoints(folder))
    found = Checkpoints(folder).newest(lambda c: methods_of(c).weighing, print).state
    c = {n.removeprefix("control/"): t for n, t in found.memory.items() if n.startswith("control/")}
    assert set(c) == set(recorder.models[-1])
    assert any(t.abs().max() > 1e-3 for t in c.values())
    name = "fusion.head.weight"
    sizes = {m.name: sum(m.engine.patients.counts.values()) for m in members}
    own = [sizes[m.name] * m.store.kept()[f"control/1/1/{name}"] for m in members]
    torch.testing.assert_close(sum(own) / sum(sizes.values()), c[name], rtol=0, atol=1e-10)


def test_a_resumed_run_keeps_its_variates(tmp_path):
    whole, _ = run(tmp_path / "whole", settings())
    config, folder = settings(tmp_path / "r"), tmp_path / "r"
    run(tmp_path / "part", config, checkpoints=Checkpoints(folder), stop=2)
    resumed = config.model_copy(update={"run": config.run.model_copy(update={"resume": True})})
    rest, _ = run(tmp_path / "part", resumed, checkpoints=Checkpoints(folder))
    for name, tensor in whole.models[-1].items():
        assert torch.equal(rest.models[-1][name], tensor), name


def test_masked_rounds_refuse_it_by_name():
    changes: dict[str, Scalar] = {
        "method.rule": "scaffold",
        "method.objective": "erm",
        "federation.secure-aggregation": True,
    }
    with pytest.raises(UserError, match=r"(?s)scaffold.*more than the model"):
        require_summable(Config.from_flat(changes | {"federation.encoders": "local", "train.select": "last"}))
