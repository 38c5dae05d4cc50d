"""Aggregators equal Flower's arithmetic on every block, and a minority that lies does not leave the honest range."""

import numpy as np
import pytest
import torch
from flwr.server.strategy import aggregate as flower
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.aggregation import BlockAverage
from remind.federation.aggregators.base import Robust, registry
from remind.federation.blocks import block_of
from remind.federation.rules.base import Rule
from remind.federation.rules.base import registry as rules
from remind.methods import methods_of
from remind.secure_settings import require_summable
from tests.builders.blocks import BLOCK, SHAPES

ROBUST = ("median", "trimmed_mean(cut = 1)", "trimmed_mean(cut = 2)", "krum(liars = 1)", "krum(liars = 1, keep = 3)")
ORACLE = {
    "median": flower.aggregate_median,
    "trimmed_mean(cut = 1)": lambda r: flower.aggregate_trimmed_avg(r, (1 + 1e-9) / len(r)),
    "trimmed_mean(cut = 2)": lambda r: flower.aggregate_trimmed_avg(r, (2 + 1e-9) / len(r)),
    "krum(liars = 1)": lambda r: flower.aggregate_krum(r, 1, 0),
    "krum(liars = 1, keep = 3)": lambda r: flower.aggregate_krum(r, 1, 3),
}


def chosen(text: str, **changes: Scalar):
    return methods_of(Config.from_flat({"method.aggregator": text} | changes))


def replies(seed: int, sites: int, has=lambda site, block: True):
    generator = torch.Generator().manual_seed(seed)
    out = []
    for site in range(sites):
        own = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in SHAPES.items()}
        out.append({n: t for n, t in own.items() if has(site, BLOCK[n])})
    return out


def combined(text, given_, weights=None, dtype=torch.float64):
    combiner = chosen(text).combiner()
    for i, tensors in enumerate(given_):
        blocks = {block_of(n) for n in tensors}
        combiner.add(tensors, dict.fromkeys(blocks, 1.0 if weights is None else weights[i]))
    return combiner.apply({n: torch.full(s, -7.0, dtype=dtype) for n, s in SHAPES.items()})


@pytest.mark.parametrize("text", ROBUST)
@given(seed=st.integers(0, 10**6), sites=st.integers(5, 9))
def test_equals_flower_on_every_block(text, seed, sites):
    given_ = replies(seed, sites)
    found = combined(text, given_)
    for block in set(BLOCK.values()):
        names = [n for n in SHAPES if BLOCK[n] == block]
        expected = ORACLE[text]([([reply[n].numpy() for n in names], 1) for reply in given_])
        for name, value in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-12, atol=1e-13)


def test_krum_chooses_for_each_block_by_itself():
    given_ = replies(3, 7)
    for name in ("fusion.head.weight", "fusion.groups.1.missing_D"):
        given_[2][name] = given_[2][name] * 0 + 50
    found = combined("krum(liars = 1)", given_)
    votes = {n: [i for i, r in enumerate(given_) if torch.equal(r[n], found[n])] for n in SHAPES}
    assert all(len(v) == 1 for v in votes.values())
    assert votes["fusion.head.weight"] == votes["fusion.blocks.0.router.scale"], "one block, one hospital"
    assert len({v[0] for v in votes.values()}) > 1
    assert 2 not in votes["fusion.head.weight"]


@pytest.mark.parametrize("text", ROBUST)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e3, -1e12, 1e30]))
def test_liars_fewer_than_allowed_do_not_leave_the_honest_range(text, seed, size):
    honest = replies(seed, 6)
    number = 2 if text in ("median", "trimmed_mean(cut = 2)") else 1
    liars = [{n: t * 0 + size for n, t in honest[0].items()} for _ in range(number)]
    found = combined(text, [*honest, *liars])
    for name in SHAPES:
        stack = torch.stack([reply[name] for reply in honest])
        assert (found[name] >= stack.amin(dim=0)).all()
        assert (found[name] <= stack.amax(dim=0)).all()
    mean = combined("mean", [*honest, *liars])
    assert abs(float(mean["encoders.a.w"][0])) > 50, "which the mean does"


@pytest.mark.parametrize("text", ROBUST)
def test_one_hospital_one_vote_and_a_hospital_without_weight_has_none(text):
    given_ = replies(5, 7)
    alike = combined(text, given_)
    other = combined(text, given_, weights=[0.9, *[0.1 / 6] * 6])
    assert all(torch.equal(alike[n], other[n]) for n in SHAPES)
    extra = {n: t + 100 for n, t in given_[0].items()}
    without = combined(text, [*given_, extra], weights=[*[0.1] * 7, 0.0])
    assert all(torch.equal(alike[n], without[n]) for n in SHAPES)


@pytest.mark.parametrize("text", ROBUST)
def test_a_block_of_too_few_hospitals_gets_their_weighted_average_and_one_that_nobody_sent_stays(text):
    few = chosen(text).aggregator
    assert isinstance(few, Robust)
    number = {"group:1": few.least - 1, "group:6": 0}
    given_ = replies(1, 8, has=lambda site, block: site < number.get(block, 8))
    weights = [0.05 * (i + 1) for i in range(8)]
    found = combined(text, given_, weights)
    average = combined("mean", given_, weights)
    assert torch.equal(found["fusion.groups.1.missing_D"], average["fusion.groups.1.missing_D"])
    assert not torch.equal(found["fusion.head.weight"], average["fusion.head.weight"])
    assert (found["fusion.groups.6.missing_D"] == -7).all()


@pytest.mark.parametrize("text", ROBUST)
def test_order_of_sites_does_not_matter_and_the_type_stays(text):
    given_ = replies(11, 8)
    one, other = combined(text, given_), combined(text, given_[::-1])
    assert all((one[n] - other[n]).abs().max() < 1e-14 for n in SHAPES)
    half = combined(text, [{n: t.float() for n, t in r.items()} for r in given_], dtype=torch.float32)
    assert {t.dtype for t in half.values()} == {torch.float32}


def test_mean_is_what_a_rule_did_without_aggregators():
    methods = chosen("mean")
    assert type(methods.combiner()) is BlockAverage
    assert methods.averages


@pytest.mark.parametrize("aggregator", [m.name for m in registry.methods() if m.name != "mean"])
@pytest.mark.parametrize("rule", [m.name for m in rules.methods()])
def test_rules_that_leave_no_replies_are_refused_and_all_others_are_not(aggregator, rule):
    chosen_rule = next(m.build for m in rules.methods() if m.name == rule)
    encoders = "shared" if "local" not in chosen_rule.encoders else "local"
    settings: dict[str, Scalar] = {"method.rule": rule, "method.objective": "erm", "federation.encoders": encoders}
    settings["method.aggregator"] = aggregator
    config = Config.from_flat(settings)
    if chosen_rule.combiner is not Rule.combiner or chosen_rule.pooled or not chosen_rule.sends:
        with pytest.raises(UserError, match=f"method.aggregator: {aggregator} does not go with method.rule = '{rule}'"):
            methods_of(config)
    else:
        assert rule not in ("local", "pooled", "qffl", "fedmsplit")
        assert not methods_of(config).averages


@pytest.mark.parametrize("text", ROBUST)
def test_secure_aggregation_refuses_it_with_the_reason(text):
    config = Config.from_flat({"method.aggregator": text, "federation.secure-aggregation": True})
    with pytest.raises(UserError, match=r"method\.aggregator = .*it compares answers, and only their sum can be read"):
        require_summable(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("medain", "did you mean 'median'"),
        ("trimmed_mean(cut = 0)", "cut: Input should be greater than or equal to 1"),
        ("krum(liars = 1, keep = 5)", "at most 4 are honest"),
    ],
)
def test_slips_are_named(text, words):
    with pytest.raises(UserError, match=words):
        chosen(text)
