"""The draw of a round's sites: exact chances, and estimates whose mean over all draws is the round of all."""

import itertools
from dataclasses import replace

import pytest
import torch

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.aggregation import BlockAverage
from remind.federation.drawn_average import DrawnAverage
from remind.federation.participation import LEAST, Draw, alike, by_share, effective, systematic
from remind.federation.rules.base import Rule
from remind.federation.rules.base import registry as rules
from remind.methods import methods_of
from remind.metrics.statistics import GroupLoss
from remind.objectives.base import registry as objectives

SITES = {"a": {1: 60, 3: 10}, "b": {1: 8, 2: 2}, "c": {1: 5, 3: 5}, "d": {1: 4, 7: 6}}
WEIGHTS = {
    "a": {"shared": 0.7, "group:1": 60 / 77, "group:3": 10 / 15},
    "b": {"shared": 0.1, "group:1": 8 / 77, "group:2": 1.0},
    "c": {"shared": 0.1, "group:1": 5 / 77, "group:3": 5 / 15},
    "d": {"shared": 0.1, "group:1": 4 / 77, "group:7": 1.0},
}
NAMES = sorted(SITES)
TENSORS = {"shared": "fusion.attention.weight", **{f"group:{k}": f"fusion.groups.{k}.residual" for k in (1, 2, 3, 7)}}


def draws(number, kind):
    """Every draw of so many sites, with its probability: of equal chances, or in proportion to the shared weights."""
    if kind == "uniform":
        sets = [frozenset(some) for some in itertools.combinations(NAMES, number)]
        return [(1 / len(sets), Draw(alike(NAMES, number), some, unbiased=True)) for some in sets]
    chances = by_share({name: own["shared"] for name, own in WEIGHTS.items()}, number)
    found: dict[frozenset[str], float] = {}
    orders = list(itertools.permutations(NAMES))
    for order in orders:
        for length, drawn in by_start(chances, order):
            found[drawn] = found.get(drawn, 0.0) + length / len(orders)
    return [(share, Draw(chances, drawn, unbiased=True)) for drawn, share in found.items()]


def by_start(chances, order):
    """Each part of [0, 1) on which `start` gives one draw: its length, and the draw."""
    ends = list(itertools.accumulate(chances[name] for name in order))
    cuts = sorted({0.0, 1.0, *(end % 1 for end in ends)})
    return [(b - a, systematic(chances, order, (a + b) / 2)) for a, b in itertools.pairwise(cuts) if b - a > 1e-12]


KINDS = pytest.mark.parametrize(
    ("number", "kind"), [(1, "uniform"), (2, "uniform"), (3, "uniform"), (1, "share"), (2, "share"), (3, "share")]
)


@KINDS
def test_a_draw_has_its_number_of_sites_and_each_site_its_chance(number, kind):
    of = draws(number, kind)
    assert sum(share for share, _ in of) == pytest.approx(1, abs=1e-12)
    assert {len(draw.drawn) for _, draw in of} == {number}
    for name in NAMES:
        assert sum(share for share, draw in of if name in draw.drawn) == pytest.approx(
            of[0][1].chances[name], abs=1e-12
        )


def test_chances_by_share_have_bounds():
    assert by_share({"a": 0.7, "b": 0.1, "c": 0.1, "d": 0.1}, 2) == pytest.approx(
        {"a": 1, "b": 1 / 3, "c": 1 / 3, "d": 1 / 3}
    )
    tiny = by_share({"a": 0.5, "b": 0.5, "c": 1e-9, "d": 0.0}, 2)
    assert tiny["c"] == tiny["d"] == LEAST * 2 / 4
    assert tiny["a"] == tiny["b"] == pytest.approx((2 - 0.25) / 2)
    assert by_share({"a": 0.9, "b": 0.1}, 2) == {"a": 1.0, "b": 1.0}
    many = by_share({str(i): 2.0**-i for i in range(30)}, 7)
    assert sum(many.values()) == pytest.approx(7)
    assert all(LEAST * 7 / 30 <= chance <= 1 for chance in many.values())


def replies(seed=0):
    """A model in float64, and what each site makes of the blocks that it gets."""
    generator = torch.Generator().manual_seed(seed)

    def drawn():
        return torch.randn(3, generator=generator, dtype=torch.float64)

    model = {name: drawn() for name in TENSORS.values()}
    return model, {s: {TENSORS[b]: model[TENSORS[b]] + drawn() for b in own} for s, own in WEIGHTS.items()}


def averaged(average, model, answers, names, chances):
    for name in sorted(names):
        sent = {n: model[n] for n in answers[name]}
        average.add(answers[name], WEIGHTS[name], sent, chance=chances.get(name, 1.0))
    return average.average(model)


def mean_step(step, model, of):
    """The mean over all draws of what a step changes, by tensor."""
    total = {name: torch.zeros_like(tensor) for name, tensor in model.items()}
    for share, draw in of:
        after = {**model, **step(draw)}
        total = {name: total[name] + share * (after[name] - model[name]) for name in model}
    return total


@KINDS
def test_the_mean_over_all_draws_is_the_round_of_all(number, kind):
    model, answers = replies()
    full = averaged(BlockAverage(), model, answers, NAMES, {})
    found = mean_step(
        lambda d: averaged(DrawnAverage(d, WEIGHTS), model, answers, d.drawn, d.chances), model, draws(number, kind)
    )
    for name, tensor in model.items():
        torch.testing.assert_close(found[name], full[name] - tensor, rtol=1e-12, atol=1e-12)


def test_the_ratio_estimate_is_another_step():
    """Else nothing above could fail. The weights .7 and three times .1 act like .44 and three times .19."""
    model, answers = replies()
    acts = dict.fromkeys(NAMES, 0.0)
    for share, draw in draws(2, "uniform"):
        for name in draw.drawn:
            acts[name] += share * WEIGHTS[name]["shared"] / sum(WEIGHTS[n]["shared"] for n in draw.drawn)
    assert acts == pytest.approx({"a": 0.4375, "b": 0.1875, "c": 0.1875, "d": 0.1875})
    full = averaged(BlockAverage(), model, answers, NAMES, {})
    ratio = mean_step(lambda d: averaged(BlockAverage(), model, answers, d.drawn, {}), model, draws(2, "uniform"))
    shared = TENSORS["shared"]
    assert not torch.allclose(ratio[shared], full[shared] - model[shared], rtol=1e-2)


UNBIASED: dict[str, Scalar] = {
    "method.objective": "erm",
    "federation.participation": 0.5,
    "federation.estimate": "unbiased",
}


def config(**changes) -> Config:
    return Config.from_flat({**UNBIASED, **changes})


REFUSED = {"scaffold", "feddg_ga", "fedmsplit", "qffl", "afl", "drfa", "fgdro_kl", "fgdro_cvar", "fedadam", "fedyogi"}
ADMITTED = {"adapt", "ditto", "fedavg", "fedavgm", "fedbn", "fedprox", "fedremind", "fedrep", "lg", "local", "pooled"}


def admitted(rule: str, settings: dict[str, Scalar]) -> Rule | None:
    """The rule of a run, or None where it is refused by its name."""
    try:
        return methods_of(config(**settings)).rule
    except UserError as error:
        if f"method.rule = '{rule}'" not in str(error):
            raise
        return None


@pytest.mark.parametrize("rule", [m.name for m in rules.methods()])
@pytest.mark.parametrize("kind", ["uniform", "share"])
def test_every_rule_has_the_mean_of_the_round_of_all_or_refuses(rule, kind):
    chosen = next(m for m in rules.methods() if m.name == rule)
    settings = {"method.rule": rule, "federation.encoders": "local" if "local" in chosen.build.encoders else "shared"}
    if (one := admitted(rule, settings)) is None:
        assert rule not in ADMITTED
        return
    assert rule not in REFUSED
    model, answers = replies()
    memory = {name: torch.full_like(tensor, 0.3) for name, tensor in model.items()}  # momentum from rounds before

    def step(average):
        return one.server_step(model, average, memory)[0]

    full = {**model, **step(averaged(BlockAverage(), model, answers, NAMES, {}))}
    found = mean_step(
        lambda d: step(averaged(DrawnAverage(d, WEIGHTS), model, answers, d.drawn, d.chances)), model, draws(2, kind)
    )
    for name, tensor in model.items():
        torch.testing.assert_close(found[name], full[name] - tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("aggregator", ["median", "krum"])
def test_what_is_no_sum_is_refused(aggregator):
    with pytest.raises(UserError, match="no sum over hospitals"):
        methods_of(config(**{"method.aggregator": aggregator}))
    with pytest.raises(UserError, match="one vote"):
        methods_of(
            config(**{"method.aggregator": aggregator, "federation.estimate": "ratio", "federation.draw": "share"})
        )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method.objective": "groupdro", "dro.regret": True}, "dro.regret"),
        ({"method.objective": "groupdro", "dro.floor": 0.1}, "dro.floor = 0.1"),
        ({"method.objective": "groupdro", "dro.risk": "validation"}, "dro.risk = 'validation'"),
        ({"federation.quorum": 0.5}, "federation.quorum = 0.5"),
        ({"method.objective": "cvar"}, "method.objective = 'cvar'"),
        ({"method.objective": "fairbatch"}, "method.objective = 'fairbatch'"),
    ],
)
def test_what_is_not_linear_is_refused_by_name(changes, named):
    with pytest.raises(UserError) as said:
        methods_of(config(**changes))
    assert named in str(said.value)


LOSS = {"a": {1: 0.9, 3: 0.2}, "b": {1: 0.3, 2: 1.7}, "c": {1: 0.4, 3: 1.1}, "d": {1: 2.0, 7: 0.05}}


def measured(names):
    return {s: {k: GroupLoss(SITES[s][k], SITES[s][k] * r) for k, r in LOSS[s].items()} for s in sorted(names)}


def odds(state, groups):
    logs = state.log_weights()
    return {(j, k): logs[j] - logs[k] for j, k in itertools.combinations(sorted(groups), 2)}


@KINDS
@pytest.mark.parametrize("rounds_before", [0, 1])
def test_the_mean_step_of_the_log_odds_is_that_of_the_round_of_all(number, kind, rounds_before):
    weighing = methods_of(config(**{"method.objective": "groupdro", "dro.adjustment": 0.3})).weighing
    state = weighing.initial(SITES)
    if rounds_before:  # with risks that are known of some groups
        before = Draw(alike(NAMES, 1), frozenset({"a"}), unbiased=True)
        state = weighing.update(state, SITES, measured({"a"}), 0.3, 5, before)
        assert set(state.known) == {1, 3}
    full = weighing.update(state, SITES, measured(NAMES), 0.3, 5)
    found = dict.fromkeys(odds(state, (1, 2, 3, 7)), 0.0)
    for share, draw in draws(number, kind):
        after = odds(weighing.update(state, SITES, measured(draw.drawn), 0.3, 5, draw), (1, 2, 3, 7))
        found = {pair: found[pair] + share * (after[pair] - odds(state, (1, 2, 3, 7))[pair]) for pair in found}
    expected = {pair: value - odds(state, (1, 2, 3, 7))[pair] for pair, value in odds(full, (1, 2, 3, 7)).items()}
    assert any(abs(value) > 0.05 for value in expected.values())
    assert found == pytest.approx(expected, abs=1e-12)


@KINDS
def test_the_same_within_each_site(number, kind):
    weighing = methods_of(config(**{"method.objective": "groupdro", "method.rule": "lg"})).weighing
    state = weighing.initial(SITES)
    full = weighing.update(state, SITES, measured(NAMES), 0.0, 5)
    for site, own in SITES.items():
        found = 0.0
        for share, draw in draws(number, kind):
            after = weighing.update(state, SITES, measured(draw.drawn), 0.0, 5, draw)
            found += share * (
                odds(after.groups[site], own)[tuple(sorted(own))] - odds(state.groups[site], own)[tuple(sorted(own))]
            )
        expected = odds(full.groups[site], own)[tuple(sorted(own))] - odds(state.groups[site], own)[tuple(sorted(own))]
        assert found == pytest.approx(expected, abs=1e-12)


def test_one_site_a_round_moves_the_weight_of_a_group_that_one_site_has():
    """By the ratio estimate a group that is alone in its report has nobody to gain weight from."""
    alone = {"a": {1: 10}, "b": {2: 10}}
    losses = {"a": {1: GroupLoss(10, 20.0)}, "b": {2: GroupLoss(10, 1.0)}}
    weighing = methods_of(config(**{"method.objective": "groupdro"})).weighing
    for unbiased in (False, True):
        state = weighing.initial(alone)
        for i in range(6):
            drawn = "ab"[i % 2]
            draw = Draw({"a": 0.5, "b": 0.5}, frozenset({drawn}), unbiased)
            state = weighing.update(state, alone, {drawn: losses[drawn]}, 0.0, 5, draw)
        assert (state.weights[1] > 0.55) == unbiased


@pytest.mark.parametrize("number", [2, 3])
def test_the_mean_of_the_estimated_variance_is_the_variance(number):
    model, answers = replies(3)
    of = draws(number, "uniform")
    steps, estimates = [], []
    for _, draw in of:
        average = DrawnAverage(draw, WEIGHTS)
        after = {**model, **averaged(average, model, answers, draw.drawn, draw.chances)}
        step = torch.cat([after[n] - model[n] for n in model])
        steps.append(step)
        error = average.error(model)
        assert error is not None
        estimates.append(float((error * step.norm()) ** 2))
    mean = sum(share * step for (share, _), step in zip(of, steps, strict=True))
    variance = sum(share * float((step - mean).square().sum()) for (share, _), step in zip(of, steps, strict=True))
    assert sum(share * v for (share, _), v in zip(of, estimates, strict=True)) == pytest.approx(variance, rel=1e-12)


def test_the_two_ways_to_sum_the_variance_agree():
    """With equal chances no second buffer is kept; with nearly equal ones it is."""
    model, answers = replies(3)
    near = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5 - 1e-12}
    errors = []
    for chances in (dict.fromkeys(NAMES, 0.5), near):
        average = DrawnAverage(Draw(chances, frozenset("abc"), True), WEIGHTS)
        averaged(average, model, answers, "abc", chances)
        errors.append(average.error(model))
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)


def test_no_variance_is_said_where_one_site_answered():
    model, answers = replies()
    average = DrawnAverage(Draw(alike(NAMES, 1), frozenset("b"), True), WEIGHTS)
    averaged(average, model, answers, "b", {"b": 0.25})
    assert average.error(model) is None


def test_a_silent_site_is_stood_in_for_by_the_drawn_sites_that_answered():
    """Of a block the drawn sites' weight is kept; of one whose only drawn site is silent nothing moves."""
    model, answers = replies()
    draw = Draw(alike(NAMES, 2), frozenset("ab"), True)
    found = averaged(DrawnAverage(draw, WEIGHTS), model, answers, "a", draw.chances)
    for block, stretch in (("shared", 1.6), ("group:1", 2 * 68 / 77)):
        name = TENSORS[block]
        torch.testing.assert_close(found[name] - model[name], stretch * (answers["a"][name] - model[name]))
    assert TENSORS["group:2"] not in found
    risks = draw.risks(SITES, {"a": LOSS["a"]}, {})
    assert 2 not in risks
    assert risks[7] == 0, "no site of it was drawn, and nothing is known"


def test_where_all_are_drawn_the_two_estimates_are_one():
    whole = replace(Draw.everybody(NAMES), unbiased=True)
    weighing = methods_of(config(**{"method.objective": "groupdro"})).weighing
    state = weighing.initial(SITES)
    losses = measured("acd")
    assert weighing.update(state, SITES, losses, 0.0, 5, whole) == weighing.update(state, SITES, losses, 0.0, 5)
    assert whole.stretch(WEIGHTS) == pytest.approx(dict.fromkeys(TENSORS, 1.0))


def test_by_share_the_ratio_estimate_weighs_by_the_chance_too():
    chances = {"a": 1.0, "b": 0.5, "c": 0.25, "d": 0.25}
    draw = Draw(chances, frozenset("abc"))
    found = draw.risks(SITES, {s: LOSS[s] for s in "abc"}, {})
    assert found == pytest.approx({1: (60 * 0.9 + 16 * 0.3 + 20 * 0.4) / 96, 2: 1.7, 3: (10 * 0.2 + 20 * 1.1) / 30})


def test_effective_number():
    assert effective([0.25] * 4) == 4
    assert effective([0.7, 0.1, 0.1, 0.1]) == pytest.approx(1 / 0.52)
    assert effective([]) == 0


def test_objectives_whose_weights_stand_still_are_admitted():
    admitted = {m.name for m in objectives.methods() if _admits(m.name)}
    assert {"erm", "groupdro", "reweigh", "balanced", "jtt", "dfr"} <= admitted
    assert admitted.isdisjoint({"cvar", "fairbatch"})


def _admits(objective):
    try:
        methods_of(config(**{"method.objective": objective}))
    except UserError:
        return False
    return True
