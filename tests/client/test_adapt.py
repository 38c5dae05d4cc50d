"""`remind-site adapt`: from a model to predictions at a new hospital; after an error, no stored file."""

import errno
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION
from remind_client.command import app, main
from remind_client.exit_codes import Exit
from remind_client.models.adapt import encoders_of
from remind_client.models.predict import runs_with_model, site_predictor
from remind_client.store.site_store import SiteStore
from tests.builders import predicting
from tests.builders.cohorts import cohort, schema
from tests.builders.site_files import write_site

MIX = [3, 6, 6, 7] * 24


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return predicting.train(tmp_path_factory.mktemp("trained"))[0]


@pytest.fixture
def site(tmp_path):
    return hospital(tmp_path)


def hospital(folder, of=None, more="", **changes):
    patients = cohort(MIX, 11, of)
    if "label" in changes:
        patients.label_N[:] = changes["label"]
    write_cohort(patients, folder / "site" / "cohort")
    return write_site(folder / "site", more)


def adapt(site, *words):
    done = CliRunner().invoke(app, ["adapt", "--config", site.base, *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def kept(site):
    """What lies in the site's runs folder, but for locks and the memory of checked files."""
    return [p.name for p in site.runs_folder.glob("run-*")] if site.runs_folder.is_dir() else []


def test_a_hospital_that_was_not_there_predicts(site, trained, tmp_path):
    done = adapt(site, trained, "--rounds", 2, "--name", "first")
    assert done.exit_code == 0, done.output
    assert "b+c: 24, 0, new: its own router was trained" in done.output
    assert "a+b: 12, 8" in done.output
    assert runs_with_model(site) == ["adapted-first"]
    folder = site.runs_folder / "run-adapted-first"
    assert b"north" not in (folder / "model.pt").read_bytes(), "it rests encrypted"
    assert (folder / CALIBRATION).is_file()
    new = tmp_path / "new"
    write_cohort(predicting.of_test(cohort(MIX, 11)), new)
    out = CliRunner().invoke(app, ["predict", "-c", site.base, "--cohort", str(new), "--out", str(tmp_path / "o.csv")])
    assert out.exit_code == 0, out.output
    table = pd.read_csv(tmp_path / "o.csv")
    assert (table["status"] == "ok").all()
    assert table.loc[table["group"] == "b+c", "train_n"].unique().tolist() == [24]
    event = site.audit_log.last("adapted")
    assert (event["name"], event["patients"]) == ("adapted-first", 48)
    assert "adapted" in CliRunner().invoke(app, ["audit", "show", "-c", site.base]).output


def test_an_adapted_model_of_this_name_stays(site, trained):
    adapt(site, trained, "--rounds", 0)
    before = (site.runs_folder / "run-adapted-run" / "model.pt").read_bytes()
    with pytest.raises(UserError, match="adapted model with this name exists already; give another name with --name"):
        adapt(site, trained, "--rounds", 1)
    assert (site.runs_folder / "run-adapted-run" / "model.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shared", "melted"], "--shared: .*, not 'melted'"),
        (["--rate", "2"], r"--rate: .*, not 2\.0"),
        (["--rounds", "1", "--lr", "1e30"], r"training has diverged.*lower the learning rate \(train.lr, --lr\)"),
        (["--validation", "0.6", "--test", "0.6"], "leave no training patients"),
        (["--name", "../x"], "--name '../x'"),
        (["--cohort", "nowhere"], "nowhere"),
        (["--encoders-from", "nowhere"], "--encoders-from nowhere: no encoders"),
    ],
)
def test_a_wrong_option_is_one_message_and_nothing_is_kept(site, trained, words, message):
    with pytest.raises(UserError, match=message):
        adapt(site, trained, *words)
    assert kept(site) == []


def test_a_missing_model_is_one_message(site, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        adapt(site, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="contains no model"):
        adapt(site, tmp_path / "empty")
    (tmp_path / "file").write_text("no model")
    with pytest.raises(UserError, match="file: is a file; give the results folder"):
        adapt(site, tmp_path / "file")
    with pytest.raises(UserError, match="file: cannot be read: it is not the file of a site"):
        encoders_of(tmp_path / "file")
    assert kept(site) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"of": schema(classes=3)}, "another schema"),
        ({"label": 1}, "all 48 training patients are of class 'c1'|all 96 patients are of class 'c1'"),
    ],
)
def test_patients_that_do_not_fit_are_one_message(trained, tmp_path, changes, message):
    site = hospital(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        adapt(site, trained)
    assert kept(site) == []


def test_the_policy_decides_which_weights_a_model_may_name(trained, tmp_path):
    site = hospital(tmp_path, more='[policy]\nmodels = ["words"]')
    with pytest.raises(UserError, match=r"'pretrained' is not allowed by this site's policy \(policy.models"):
        adapt(site, trained)
    assert kept(site) == []


def test_a_full_disk_ends_it_with_its_own_code_and_nothing_is_kept(site, trained, monkeypatch, capsys):
    def full(self, part):
        raise OSError(errno.ENOSPC, "No space left on device", str(self.folder / "model.pt"))

    monkeypatch.setattr(SiteStore, "save_model", full)
    monkeypatch.setattr("sys.argv", ["remind-site", "adapt", str(trained), "-c", site.base, "--rounds", "1", "--quiet"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == Exit.DISK
    assert "is full" in capsys.readouterr().err
    assert kept(site) == []


def test_what_a_killed_adaptation_left_is_no_model_and_the_next_one_begins_anew(site, trained):
    left = site.runs_folder / "run-adapted-run"
    left.mkdir(parents=True)
    (left / "state.pt").write_bytes(b"half")
    assert runs_with_model(site) == []
    assert adapt(site, trained, "--rounds", 1).exit_code == 0
    assert runs_with_model(site) == ["adapted-run"]


def test_encoders_that_were_given_away_are_read_from_an_exported_folder(site, trained, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(trained / "sites" / "0", given / "sites" / "0")
    assert encoders_of(given).modalities == ("a", "b", "c")
    adapt(site, trained, "--rounds", 0, "--encoders-from", given, "--name", "one")
    adapt(site, trained, "--rounds", 0, "--name", "two")
    patients = predicting.of_test(cohort(MIX, 11))
    one, two = (site_predictor(site, f"adapted-{name}").outputs(patients).log_p_NC for name in ("one", "two"))
    assert not np.allclose(one, two)
    shutil.copytree(trained / "sites" / "1", given / "sites" / "1")
    with pytest.raises(UserError, match="encoders of 2 hospitals"):
        adapt(site, trained, "--encoders-from", given, "--name", "three")
