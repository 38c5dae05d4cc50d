import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from remind.config import Config, Scalar, SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind_server.simulation.flwr_plan import Plan, check_hospitals, plan_remind, with_clients

NOW = datetime(2026, 1, 2, 3, 4, 5)


def plan(typed=None, federation=None, defaults=None, cwd=Path("/user"), **options):
    return plan_remind(
        typed or {},
        federation or {},
        Config().flat() | (defaults or {}),
        app_dir=Path("/app"),
        cwd=cwd,
        now=NOW,
        **options,
    )


@pytest.fixture
def three_sites(monkeypatch):
    calls = []

    def number_of_sites(cohort, root):
        calls.append((cohort, root))
        return 3

    monkeypatch.setitem(sys.modules, "remind.data.sites.sites", SimpleNamespace(number_of_sites=number_of_sites))
    return calls


def test_clients_take_one_cpu_unless_the_user_says_otherwise():
    assert with_clients({}, 5) == {"num-supernodes": 5, "client-resources-num-cpus": 1}
    assert with_clients({"client-resources-num-cpus": 4}, 5)["client-resources-num-cpus"] == 4
    assert "num-supernodes" not in with_clients({}, None)


def test_two_numbers_of_clients_contradict():
    assert with_clients({"num-supernodes": 5}, 5)["num-supernodes"] == 5
    with pytest.raises(UserError, match=r"--num-clients 4 contradicts .*num-supernodes=5"):
        with_clients({"num-supernodes": 5}, 4)


def test_results_get_a_folder_of_their_own_where_the_user_stands():
    made = plan({"seed": 7})
    assert made.results == made.run["results"] == "/user/results/20260102-030405-synthetic-seed7"


def test_relative_paths_are_the_users(three_sites):
    made = plan({"data.cohort": "my data", "data.root": "../root", "results": "out"})
    assert made.run == {"data.cohort": "/user/my data", "data.root": "/root", "results": "/user/out"}
    assert made.results == "/user/out"


def test_relative_paths_of_the_app_are_the_apps(three_sites):
    assert plan(defaults={"data.cohort": "cohorts/heart.toml"}).run["data.cohort"] == "/app/cohorts/heart.toml"


def test_the_built_in_cohort_is_no_path():
    assert "data.cohort" not in plan().run


@pytest.mark.parametrize(
    ("cohort", "name"), [("/data/heart", "heart"), ("/data/heart/cohort.toml", "heart"), ("/data/icu.toml", "icu")]
)
def test_the_results_folder_carries_the_cohorts_name(three_sites, cohort, name):
    assert plan(cohort=cohort).results.endswith(f"-{name}-seed0")


def test_one_client_per_site(three_sites):
    assert plan(cohort="c").federation["num-supernodes"] == 3
    assert three_sites == [("/user/c", "")]
    assert plan(cohort="c", clients=3).federation["num-supernodes"] == 3
    assert "num-supernodes" not in plan({"data.sites": "dirichlet"}, cohort="c").federation
    assert plan({"data.sites": "dirichlet"}, cohort="c", clients=9).federation["num-supernodes"] == 9


def test_another_number_of_clients_than_sites(three_sites):
    for options in ({"clients": 2}, {"federation": {"num-supernodes": 2}}):
        with pytest.raises(UserError, match=r"cohort 'c' has 3 sites, not 2"):
            plan(cohort="c", **options)


def test_mistakes_are_all_named_at_once():
    with pytest.raises(UserError) as error:
        plan({"train.lr": "fast", "train.speed": 1})
    assert "train.lr" in str(error.value)
    assert "train.speed: no such key" in str(error.value)


def test_cohort_twice():
    with pytest.raises(UserError, match=r"--cohort a and --run-config data.cohort=b: give one"):
        plan({"data.cohort": "b"}, cohort="a")


def test_a_hospital_of_one_class_is_worth_a_warning(tmp_path):
    cohort = generate(SyntheticConfig(patients=40), 0)
    site_N = np.where(cohort.label_N == 1, "mixed", np.where(np.arange(40) % 2, "mixed", "calm"))
    write_cohort(replace(cohort, site_N=site_N), tmp_path / "cohort")
    made = Plan({"num-supernodes": 2}, {"data.cohort": str(tmp_path / "cohort")})
    (warning,) = check_hospitals(made, {})
    assert warning.startswith("site calm: all ")
    assert "'no'" in warning


def test_a_private_run_that_cannot_learn_is_worth_a_warning_before_it_spends():
    settings: dict[str, Scalar] = {
        "synthetic.patients": 200,
        "synthetic.standardise": "given",
        "evaluation.calibration": "none",
        "privacy.mode": "site",
    }
    (warning,) = check_hospitals(Plan({"num-supernodes": 2}, settings), {})
    assert "noise leaves almost nothing to learn" in warning
    learns: dict[str, Scalar] = {"model.width": 16, "model.experts": 4, "train.lr": 0.02, "train.routing-lr": 0.02}
    assert check_hospitals(Plan({"num-supernodes": 2}, settings | learns), {}) == []


def test_a_model_to_begin_with_that_is_none_is_named_before_the_run_makes_its_folder(tmp_path):
    """Else the next attempt, with the right model, would find a results folder that is not empty."""
    made = Plan({"num-supernodes": 2}, {"synthetic.patients": 100, "start.model": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match=r"start\.model: .*nowhere: no such folder"):
        check_hospitals(made, {})
    (tmp_path / "afile").write_text("no model")
    with pytest.raises(UserError, match=r"start\.model: .*afile: is a file"):
        check_hospitals(replace(made, run={**made.run, "start.model": str(tmp_path / "afile")}), {})


SECURE = {"federation.secure-aggregation": True, "evaluation.calibration": "none"}
PRIVATE = {"privacy.mode": "site", "evaluation.calibration": "none", "synthetic.kinds": "table,table,table,table"}


@pytest.mark.parametrize(
    ("hospitals", "settings", "message"),
    [
        (
            4,
            {"method.aggregator": "krum"},
            r"method\.aggregator = 'krum' needs 5 hospitals or more, and this run has 4",
        ),
        (2, SECURE, "a sum is of 3 hospitals or more, and this run has 2: give --num-clients 3"),
        (3, SECURE | {"train.select": "overall"}, r"train\.select: it judges each round on validation patients"),
        (2, PRIVATE, r"\(table\) is standardised by each hospital's own patients: declare standardise"),
    ],
)
def test_what_a_protection_excludes_is_refused_before_the_run_makes_its_folder(hospitals, settings, message, tmp_path):
    made = Plan(
        {"num-supernodes": hospitals}, {"synthetic.patients": 100} | settings, str(tmp_path / "results" / "run")
    )
    with pytest.raises(UserError, match=message):
        check_hospitals(made, {})
    assert not list(tmp_path.iterdir())


def test_wrong_alerts_are_refused_before_the_run_makes_its_folder(tmp_path):
    (tmp_path / "alerts.toml").write_text("webhook = 1")
    (tmp_path / "alerts.toml").chmod(0o600)
    made = Plan({"num-supernodes": 2}, {"synthetic.patients": 100}, str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"alerts\.toml is not valid"):
        check_hospitals(made, {})
