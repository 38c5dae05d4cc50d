"""Three hospitals behind their doors share the noise of a run: what is paid, logged, told, and on the form."""

import math

import pytest

from remind.config import Scalar
from remind.errors import UserError
from remind.privacy_plan import plan_of
from remind.secagg.limits import TOGETHER
from remind_client import app as app_module
from remind_client.ledger.account import account_of
from remind_client.ledger.show import OWN, to_csv, to_json, to_text
from remind_client.privacy_form import form_of
from remind_server.rounds.strategy import FedRemind
from tests.builders import configs
from tests.builders.observers import Recorder
from tests.builders.private_sites import given_scale
from tests.builders.secure_hospitals import NAMES, POLICY, SETTINGS, Doors, hospitals

JOINT: dict[str, Scalar] = SETTINGS | {
    "privacy.mode": "joint",
    "privacy.epsilon": 9.0,
    "privacy.counts-noise": 1.5,  # secrets are random here: with more noise a hospital may say that it has nobody
    "federation.encoders": "shared",
    "train.local-steps": 1,
    "train.warmup-rounds": 2,
    "method.objective": "erm",
    "evaluation.calibration": "none",
}
LIMITED = POLICY.replace("minimum_patients", 'tensors = ["*"]\nminimum_patients').replace(
    'require = ["secure-aggregation"]', 'require = ["joint"]\ntell = true\nepsilon_per_run = 9.0'
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(app_module, "_sites", {})


def test_three_hospitals_pay_for_the_sum_and_know_what_their_own_share_gives(tmp_path, monkeypatch):
    sites, recorder = hospitals(tmp_path, policy=LIMITED, of=given_scale()), Recorder()
    settings = configs.settings(JOINT)
    FedRemind(settings, [recorder]).run(Doors(sites, settings.flat(), monkeypatch))
    assert [r.answered for r in recorder.rounds] == [NAMES, NAMES]
    plan = plan_of(settings, [3])
    assert set(recorder.result.test) <= {TOGETHER}
    assert set(recorder.rounds[-1].privacy) == set(NAMES)
    for site in sites:
        told = recorder.rounds[-1].privacy[site.site]
        account = account_of(site.privacy_ledger, 1e-5, 9.0)
        (run,) = account.runs
        assert told.epsilon == pytest.approx(run.epsilon)
        assert told.own == pytest.approx(run.own)
        assert plan.epsilon == pytest.approx(run.epsilon)  # known before the run
        assert plan.own[3] == pytest.approx(run.own)
        form = form_of(site, "one")
        assert f"- {plan.lines()[0]}" in form
        assert "| MaskedAnswer | changes of the model or sums of gradients" in form, "asked for by the run's own name"
        assert 1.3 * run.epsilon < run.own  # of three hospitals two are in a sum for sure: a share is smaller
        assert f"{OWN}: epsilon" in to_text(account)
        assert '"own":' in to_json(account)
        head, *rows = to_csv(site.privacy_ledger.spends()).splitlines()
        assert head.endswith("own_noise")
        assert [row.rsplit(",", 1)[1] != "" for row in rows if "gradient" in row] == [True, True]
        assert f"**epsilon {run.own:.3g} at delta 1e-05**" in form
        risk = form.partition("## Residual risk")[2]
        assert f"at most {math.exp(run.epsilon):.3g}-fold (e to the epsilon)" in risk
        assert f"add none of the noise, or give theirs away: at most {math.exp(run.own):.3g}-fold" in risk
        assert f"(e to the epsilon of {run.own:.3g})" in risk
        events = [entry["event"] for entry in site.audit_log.entries()]
        assert events.count("spent") == len({(row.round, row.question) for row in site.privacy_ledger.spends()})


def test_a_hospital_that_asks_for_noise_of_its_own_takes_no_part(tmp_path, monkeypatch):
    own = LIMITED.replace('"joint"', '"site"')
    settings = configs.settings(JOINT)
    with pytest.raises(UserError, match="requires a guarantee for each patient by this site's own noise"):
        FedRemind(settings).run(Doors(hospitals(tmp_path, policy=own, of=given_scale()), settings.flat(), monkeypatch))


def test_without_a_limit_on_epsilon_the_limits_on_steps_hold(tmp_path, monkeypatch):
    unlimited = LIMITED.replace("epsilon_per_run = 9.0", "").replace("minimum_steps = 1", "minimum_steps = 5")
    settings = configs.settings(JOINT)
    with pytest.raises(UserError, match=r"local-steps = 1; the least is 5 \(a policy with privacy.epsilon_per_run"):
        FedRemind(settings).run(
            Doors(hospitals(tmp_path, policy=unlimited, of=given_scale()), settings.flat(), monkeypatch)
        )
