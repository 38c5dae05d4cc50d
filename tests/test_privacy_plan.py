"""What a run will cost, before it begins: by hand, by Opacus, and as the ledger says afterwards."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from opacus.accountants import RDPAccountant
from typer.testing import CliRunner

from remind.cli import app
from remind.config import Config, Scalar
from remind.errors import UserError
from remind.privacy.accounting import ORDERS
from remind.privacy_plan import PROTECTIONS, SOME, Schedule, delta_problem, patients_together, plan_of
from remind.secagg.limits import FEWEST, least_honest

ANY: dict[str, Scalar] = {"evaluation.calibration": "none", "method.objective": "erm"}
SITE: dict[str, Scalar] = ANY | {"privacy.mode": "site", "train.batch": 32}
JOINT: dict[str, Scalar] = ANY | {
    "privacy.mode": "joint",
    "federation.secure-aggregation": True,
    "federation.encoders": "shared",
    "train.local-steps": 1,
    "train.warmup-rounds": 40,
    "train.routing-rounds": 20,
}


def config(values: dict[str, Scalar], **more: Scalar) -> Config:
    return Config.from_flat(values | {f"privacy.{name.replace('_', '-')}": value for name, value in more.items()})


def gaussian(precision: float, delta: float) -> float:
    """ε of Gaussian mechanisms on all patients whose 1/σ² add up to `precision`, over a fine grid of orders."""
    orders = np.linspace(1.001, 200, 40_000)
    bound = orders * precision / 2 + np.log1p(-1 / orders) - (np.log(delta) + np.log(orders)) / (orders - 1)
    return float(bound.min())


@pytest.mark.parametrize(("hospitals", "makers"), [(3, 2), (4, 2), (5, 3), (8, 5), (20, 11)])
def test_shared_noise_by_hand(hospitals, makers):
    """60 rounds of σ 5 and counts of σ 5; of each step, a hospital's own noise has σ² = 25/h."""
    plan = plan_of(config(JOINT, noise=5.0), [hospitals])
    assert plan is not None
    assert plan.epsilon == pytest.approx(gaussian(61 / 25, 1e-5), rel=2e-3)
    assert plan.own[hospitals] == pytest.approx(gaussian((1 + 60 * makers) / 25, 1e-5), rel=2e-3)
    assert plan.scores == pytest.approx(gaussian(1 / 9, 1e-5), rel=2e-3)
    said = "\n".join(plan.lines())
    assert f"epsilon {plan.epsilon:.3g} at delta 1e-05" in said
    assert f"if up to {hospitals} share it: epsilon {plan.own[hospitals]:.3g}" in said


def test_noise_of_the_hospitals_own_by_opacus():
    plan = plan_of(config(SITE, noise=1.2, loss_every=3), SOME, patients=500)
    assert plan is not None
    oracle, train = RDPAccountant(), Config().train
    losses = train.rounds // 3
    oracle.history = [(1.2, 32 / 500, train.rounds * train.local_steps), (30.0, 1.0, losses), (5.0, 1.0, 1)]
    assert plan.epsilon == pytest.approx(oracle.get_epsilon(1e-5, alphas=list(ORDERS)), rel=1e-6)
    assert plan.own == {}


@pytest.mark.parametrize("values", [SITE, JOINT])
def test_noise_that_is_found_stays_below_what_is_wanted(values):
    plan = plan_of(config(values, epsilon=3.0), [4], patients=400)
    assert plan is not None
    assert plan.epsilon is not None
    assert 2.5 < plan.epsilon <= 3.0
    assert plan.most == 3.0


def test_what_exactly_these_releases_cost_stands_beside_what_the_ledger_counts():
    """60 rounds and counts, all of σ 5: one Gaussian mechanism of μ² = 61/25 (Opacus' numerical composition: 7.42)."""
    plan = plan_of(config(JOINT, noise=5.0), [5])
    assert plan is not None
    assert plan.epsilon is not None
    assert plan.exact == pytest.approx(7.405, abs=0.01)
    assert plan.exact < 0.95 * plan.epsilon
    assert any(f"would be epsilon {plan.exact:.3g} " in line and f"{plan.epsilon:.3g}" in line for line in plan.lines())
    sampled = plan_of(config(JOINT, noise=5.0, rate=0.5), [5])
    assert sampled is not None
    assert sampled.exact is None
    assert not any("exactly these releases" in line for line in sampled.lines())


@pytest.mark.parametrize(
    ("delta", "patients", "most"), [(1e-5, 10_001, "9e-06"), (1e-3, 150, "0.0006"), (0.5, 1, "0.1")]
)
def test_a_delta_above_a_tenth_of_one_over_n_is_named_with_a_value_that_is_small_enough(delta, patients, most):
    said = delta_problem("privacy.delta", delta, patients)
    assert said.startswith(f"privacy.delta = {delta:g} is more than")
    assert f"n = {patients} patients" in said
    assert said.endswith(f"Set it to {most} or less")
    assert delta_problem("privacy.delta", float(most), patients) == ""
    assert delta_problem("privacy.delta", delta, 0) == "", "n is not known"


def test_n_of_delta_is_all_patients_of_one_release():
    assert patients_together(config(SITE), [300, 20, 70]) == 300
    assert patients_together(config(JOINT), [300, 20, 70]) == 390


def test_remind_config_warns_of_a_delta_that_is_too_large_for_the_patients():
    for patients, warned in (("10000", False), ("10001", True)):
        done = CliRunner().invoke(app, ["config", "-c", "private", "-c", "privacy.epsilon=8.0", "--patients", patients])
        assert done.exit_code == 0, done.output
        assert ("# warning: privacy.delta = 1e-05 is more than a tenth of 1/n" in done.output) == warned


def test_a_rate_that_follows_from_an_unknown_number_gives_a_bound():
    plan = plan_of(config(SITE, epsilon=3.0), SOME)
    assert plan is not None
    assert plan.epsilon is None
    assert "epsilon at most 3 at delta 1e-05" in plan.lines()[0]


def test_without_a_guarantee_there_is_no_plan():
    assert plan_of(Config(), SOME) is None


def test_the_number_of_the_roster_is_the_worst_case_of_those_who_take_part():
    """Nine hospitals have shares of a sixth, ten of a fifth: fewer that take part may have smaller shares."""
    assert (least_honest(9, 9, 1), least_honest(10, 10, 1)) == (6, 5)
    plan = plan_of(config(JOINT, noise=5.0), range(3, 41))
    assert plan is not None
    assert plan.own[9] == plan.own[10]
    for hospitals, alone in plan.own.items():
        smaller = [least_honest(n, n, 1) for n in range(FEWEST, hospitals + 1)]
        assert alone == pytest.approx(max(gaussian((1 + 60 * m) / 25, 1e-5) for m in set(smaller)), rel=2e-3)


def test_hospitals_that_leave_no_noise_for_sure_are_named():
    with pytest.raises(UserError, match="among 4 hospitals no noise"):
        plan_of(config(JOINT, colluding=2), [4])


def test_the_schedule_of_a_run_is_all_that_it_releases():
    released = Schedule(config(JOINT, noise=5.0, loss_every=10)).of_training_patients
    assert [m.what for m in released].count("gradient") == 60
    assert [m.what for m in released].count("losses") == 6
    assert [m.what for m in released].count("counts") == 1


def test_remind_config_says_what_each_protection_hides_and_what_these_settings_cost():
    pairs = " ".join(f"{k}={str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in JOINT.items())
    done = CliRunner().invoke(app, ["config", "-c", f"{pairs} privacy.noise=5.0".replace("'", '"'), "--hospitals", "5"])
    assert done.exit_code == 0, done.output
    assert tomllib.loads(done.stdout)["privacy"]["noise"] == 5.0
    assert all(f"# {each.setting}" in done.stdout for each in PROTECTIONS)
    plan = plan_of(config(JOINT, noise=5.0), [5])
    assert plan is not None
    assert all(f"# {line}" in done.stdout for line in plan.lines())


def test_the_document_says_when_to_choose_a_protection_as_remind_config_does():
    text = (Path(__file__).parents[1] / "docs" / "privacy.md").read_text("utf-8")
    table = text.split("## Which protection hides what")[1].split("\n## ")[0]
    head, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    found = [dict(zip(cells(head), cells(row), strict=True)) for row in rows]
    name = re.compile(r'^none$|minimum_patients|federation\.secure-aggregation|privacy\.mode = "\w+"')
    told = [(name.search(each.setting)[0], each.choose) for each in PROTECTIONS]
    assert [(name.search(row["protection"])[0], row["choose it if"]) for row in found] == told


def cells(row: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in row.strip("|").split("|")]


def test_remind_config_alone_prints_the_defaults():
    done = CliRunner().invoke(app, ["config"])
    assert Config.from_flat({"seed": tomllib.loads(done.stdout)["seed"]}) == Config()
    assert "# privacy.mode = none: no guarantee" in done.stdout


def test_a_preset_is_known_by_its_name_as_to_the_commands_that_run():
    done = CliRunner().invoke(app, ["config", "-c", "private", "-c", "privacy.epsilon=8.0", "--hospitals", "3"])
    assert done.exit_code == 0, done.output
    assert 'mode = "site"' in done.output
    assert "epsilon at most 8 " in done.output
    done = CliRunner().invoke(app, ["config", "-c", "privat"])
    assert "did you mean 'private'?" in str(done.exception)
