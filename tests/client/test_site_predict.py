"""`remind-site predict` with a model from the vault gives the predictions of the run's folder."""

import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import remind
from remind.cli import app as remind_app
from remind.config import Config
from remind.data.sites.hospitals import virtual_hospitals
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION, Calibration, write_calibration
from remind_client.command import app
from remind_client.retention import prune
from remind_client.site_config import RetentionSection
from remind_client.store.site_store import SiteStore
from remind_client.vault.key import new_key_file
from tests.builders.masks import SETTINGS as MASKS
from tests.builders.predicting import of_test, train
from tests.builders.site_files import write_site


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"))


@pytest.fixture
def hospital(run, tmp_path):
    """North, which keeps its part of run 7 in its vault."""
    results, _, patients = run
    site = write_site(tmp_path / "site")
    new_key_file(site.vault_key_path)
    part = remind.load(results).bundle.part("north")
    SiteStore(site.runs_folder / "run-7", site.open_vault()).save_model(part)
    write_cohort(of_test(patients["north"]), tmp_path / "new")
    return site


def predict(site, *words) -> None:
    done = CliRunner().invoke(app, ["predict", "--config", site.base, *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


def test_the_vault_gives_what_the_runs_folder_gives(run, hospital, tmp_path):
    predict(hospital, "--cohort", tmp_path / "new", "--out", tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    expected = remind.load(run[0], "north").predict(tmp_path / "new")
    columns = ["patient_id", "site", "status", "group", "p_c0", "p_c1", "decision", "train_n", "gate_open"]
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_exact=True, check_dtype=False)
    raw = (hospital.runs_folder / "run-7" / "model.pt").read_bytes()
    assert b"north" not in raw, "it rests encrypted"


def test_masks_are_those_that_the_runs_folder_gives(hospital, tmp_path):
    config = Config.from_flat(MASKS | {"synthetic.patients": 24})
    hospitals = virtual_hospitals(config.data, config.synthetic, 0, 2)
    of = dict(zip(("north", "south"), (one.cohort for one in hospitals), strict=True))
    few = {"train.warmup-rounds": 1, "train.routing-rounds": 0, "train.local-steps": 1}
    results, _, _ = train(tmp_path / "masks", of, **(MASKS | few))
    SiteStore(hospital.runs_folder / "run-9", hospital.open_vault()).save_model(
        remind.load(results).bundle.part("north")
    )
    write_cohort(of_test(of["north"]), tmp_path / "unseen")
    words = ("--cohort", tmp_path / "unseen", "--out")
    predict(hospital, *words, tmp_path / "here.csv", "--masks", tmp_path / "here", "--run", "9")
    all_words = ["predict", str(results), "--site", "north", *map(str, words), str(tmp_path / "there.csv")]
    assert CliRunner().invoke(remind_app, [*all_words, "--masks", str(tmp_path / "there")]).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert len(names) == 1 + len(of_test(of["north"]))
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    with pytest.raises(UserError, match="--masks: this model predicts no mask but one of several classes"):
        predict(hospital, "--cohort", tmp_path / "new", "--masks", tmp_path / "none", "--run", "7")


def test_a_calibration_from_the_coordinator_is_used(hospital, tmp_path):
    path = tmp_path / CALIBRATION
    write_calibration(path, Calibration.none(("c0", "c1"), round_=2))
    predict(hospital, "--cohort", tmp_path / "new", "--out", tmp_path / "out.csv", "--calibration", path)
    found = pd.read_csv(tmp_path / "out.csv")
    assert np.allclose(found["calibrated_c0"], found["p_c0"])
    assert not found["reasons"].str.contains("uncalibrated").any()


def test_there_is_no_model_of_such_a_run(hospital, tmp_path):
    with pytest.raises(UserError, match="run 8: this site has no model of this run; there are: 7"):
        predict(hospital, "--cohort", tmp_path / "new", "--run", "8")
    shutil.rmtree(hospital.runs_folder)
    with pytest.raises(UserError, match="this site has no model of any run"):
        predict(hospital, "--cohort", tmp_path / "new")


def test_a_model_in_use_is_kept(hospital, tmp_path):
    """Retention counts a prediction as a use of the run."""
    used, other = hospital.runs_folder / "run-7", hospital.runs_folder / "run-8"
    other.mkdir()
    for path, when in ((used / "model.pt", 1000), (used, 1000), (other, 2000)):
        os.utime(path, (when, when))
    keep = RetentionSection(runs=1, days=0.0)
    predict(hospital, "--cohort", tmp_path / "new", "--out", tmp_path / "out.csv")
    assert prune(hospital.runs_folder, keep, now=time.time() + 1) == ["run-8"]


def test_a_calibration_of_another_model_is_refused(hospital, tmp_path):
    path = tmp_path / CALIBRATION
    write_calibration(path, Calibration.none(("no", "yes")))
    with pytest.raises(UserError, match="classes no, yes, and the model has c0, c1"):
        predict(hospital, "--cohort", tmp_path / "new", "--calibration", path)


def test_what_the_next_test_would_tell_is_learnt_from_the_hospitals_held_out_patients(run, hospital, tmp_path):
    """North's patients are too few for a number: it says how many have the test, those it trained on left out."""
    _, _, patients = run
    write_cohort(patients["north"], tmp_path / "site" / "cohort")
    predict(hospital, "--cohort", tmp_path / "new", "--next-test", tmp_path / "tests.csv")
    table = pd.read_csv(tmp_path / "tests.csv")
    held = patients["north"].take(patients["north"].split_N != 0)
    assert set(table["group"]) == {"a", "a+b"}
    of_a = table[(table["group"] == "a") & (table["test"] == "b")]["status"].iloc[0]
    number = int((held.groups_N & 3 == 3).sum())
    assert of_a == f"not known: {number} reference patients have a+b, and fewer than 30 are too few"
