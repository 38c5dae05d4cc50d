"""How far one hospital that lies within the limits moves λ in one round: the bounds of docs/threat-model.md."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config, Scalar
from remind.federation.rules.base import registry as rules
from remind.federation.rules.units import UnitRule
from remind.objectives.base import registry as objectives
from remind.objectives.weighting import Weighting, WeightState
from remind.outcomes.classes import Classes
from remind.training.evaluate import most_loss

DOCS = Path(__file__).parents[2] / "docs"
GROUPS, STEPS = 5, 4
GAMMA, STEP, MU, BETA, ALPHA = 0.02, 0.1, 2.0, 0.5, 0.3
MOST = most_loss(Config(), Classes(classes=("no", "yes")))  # M: what a patient's loss counts at most, in nats
SETTINGS: dict[str, Scalar] = {"dro.gamma": GAMMA}
Weights = Mapping[int, float]


def log_odds(honest: Weights, lied: Weights) -> dict[tuple[int, int], float]:
    """|Δ ln(λ_j/λ_k)| of every two groups."""
    moved = {k: math.log(lied[k]) - math.log(honest[k]) for k in honest}
    return {(j, k): abs(moved[j] - moved[k]) for j in honest for k in honest if j < k}


def tilted(gain: float) -> Callable:
    """ln(λ_j/λ_k) differs by gain·M·max(p_j, p_k) at most: a lie moves each tilt by gain·M·p_k, up or down."""

    def check(before, honest, lied, share):
        for (j, k), odds in log_odds(honest, lied).items():
            assert odds <= gain * MOST * (share[j] + share[k]) + 1e-9
        for (j, k), odds in log_odds(before, lied).items():
            assert odds <= Config().dro.max_log_odds_step + 1e-9, (j, k)

    return check


def moved_by(most: float) -> Callable:
    """|Δλ_k| ≤ α, whatever anybody reports."""

    def check(before, honest, lied, share):
        assert all(abs(lied[k] - before[k]) <= most + 1e-12 for k in before)

    return check


def capped(alpha: float) -> Callable:
    """λ_k anywhere from 0 to 1/(αG), and no further."""

    def check(before, honest, lied, share):
        assert all(-1e-12 <= w <= 1 / (alpha * GROUPS) + 1e-12 for w in lied.values())

    return check


def projected(step: float) -> Callable:
    """‖λ' − λ'_honest‖₂ ≤ step·M·√Σp_k²: a projection on a convex set moves no two points apart."""

    def check(before, honest, lied, share):
        distance = math.dist(list(honest.values()), list(lied.values()))
        assert distance <= step * MOST * math.hypot(*share.values()) + 1e-9

    return check


BOUNDS = {
    "groupdro": tilted(GAMMA * STEPS),
    "fairbatch(alpha = 0.05)": moved_by(0.05),
    f"cvar(alpha = {ALPHA})": capped(ALPHA),
    f"afl(units = 'groups', step = {STEP})": projected(STEP),
    f"drfa(units = 'groups', step = {STEP})": projected(STEP * STEPS),
    f"fgdro_kl(units = 'groups', mu = {MU}, beta = {BETA})": tilted(BETA / MU),
    f"fgdro_cvar(units = 'groups', alpha = {ALPHA})": capped(ALPHA),
}


def weighting(text: str) -> Weighting:
    config = Config.from_flat(SETTINGS)
    registry = objectives if text.partition("(")[0] in {m.name for m in objectives.methods()} else rules
    method, options = registry.choose(text)
    built = method.build(options, config)
    assert isinstance(built, Weighting)
    return built


def moves_lambda(build: type) -> bool:
    return issubclass(build, Weighting) and build.update is not Weighting.update


def moving() -> dict[str, str]:
    """The methods that move λ of groups: name → as it is written."""
    found = {m.name: m.name for m in objectives.methods() if moves_lambda(m.build)}
    return found | {m.name: f"{m.name}(units = 'groups')" for m in rules.methods() if issubclass(m.build, UnitRule)}


BOUNDED = {text.partition("(")[0] for text in BOUNDS}
CHECKS = BOUNDS | {text: moved_by(1.0) for name, text in moving().items() if name not in BOUNDED}


def test_every_method_of_the_document_has_a_bound_and_moves_lambda():
    section = (DOCS / "threat-model.md").read_text("utf-8").split("## What one hospital can do to the weights\n")[1]
    rows = re.findall(r"^\| (`.*?) \|", section.split("\n## ")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == BOUNDED
    assert moving().keys() >= BOUNDED


SHARES = st.lists(st.floats(0, 1), min_size=GROUPS, max_size=GROUPS)
LOSSES = st.lists(st.floats(0, MOST), min_size=GROUPS, max_size=GROUPS)


@pytest.mark.parametrize("text", CHECKS)
@given(shares=SHARES, losses=LOSSES, own=LOSSES, lies=LOSSES, first=LOSSES)
def test_one_hospital_moves_lambda_no_further(text, shares, losses, own, lies, first):
    one = weighting(text)
    counts = {k: 20 + k for k in range(1, GROUPS + 1)}
    share = dict(zip(counts, shares, strict=True))

    def risks(said: list[float]) -> dict[int, float]:
        rest = zip(counts, losses, said, strict=True)
        return {k: (1 - share[k]) * loss + share[k] * mine for k, loss, mine in rest}

    state = one.update(one.initial(counts), dict(zip(counts, first, strict=True)), counts, STEPS)
    assert isinstance(state, WeightState)
    honest = one.update(state, risks(own), counts, STEPS).weights
    lied = one.update(state, risks(lies), counts, STEPS).weights
    assert sum(lied.values()) == pytest.approx(1)
    assert min(lied.values()) >= -1e-12
    CHECKS[text](state.weights, honest, lied, share)


def worst(text: str, share: float) -> list[Weights]:
    """λ after the truth, and after the worst lie of a hospital with this share of group 1 alone."""
    one, counts = weighting(text), dict.fromkeys(range(1, GROUPS + 1), 20)
    state = one.initial(counts)
    return [
        one.update(state, dict.fromkeys(counts, 0.0) | {1: share * said}, counts, STEPS).weights for said in (0, MOST)
    ]


@pytest.mark.parametrize("text", [f"fgdro_kl(units = 'groups', mu = {MU}, beta = 1.0)", "groupdro"])
def test_the_bound_of_tilts_is_reached(text):
    gain = GAMMA * STEPS if text == "groupdro" else 1 / MU
    honest, lied = worst(text, 0.5)
    assert max(log_odds(honest, lied).values()) == pytest.approx(gain * MOST * 0.5)


def test_the_bound_of_a_projection_is_of_the_size_of_what_happens():
    honest, lied = worst(f"afl(units = 'groups', step = {STEP})", 0.2)
    distance, bound = math.dist(list(honest.values()), list(lied.values())), STEP * MOST * 0.2
    assert bound / 2 < distance <= bound


@pytest.mark.parametrize("text", [f"cvar(alpha = {ALPHA})", f"fgdro_cvar(units = 'groups', alpha = {ALPHA})"])
def test_under_cvar_a_hospital_can_take_a_group_from_nothing_to_the_cap(text):
    one, counts = weighting(text), dict.fromkeys(range(1, GROUPS + 1), 20)
    near = {1: 0.49, 2: 0.5, 3: 0.5, 4: 0.1, 5: 0.1}
    state = one.update(one.initial(counts), near, counts, STEPS)
    state = one.update(state, near, counts, STEPS)
    lied = one.update(state, near | {1: near[1] + 0.05 * MOST}, counts, STEPS).weights
    assert state.weights[1] < 0.01
    assert lied[1] == pytest.approx(1 / (ALPHA * GROUPS))
