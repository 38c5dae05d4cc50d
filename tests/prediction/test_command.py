"""`remind predict`: a run's own test patients, read from files without labels, get the numbers of its test table."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from remind.cli import app
from remind.errors import UserError
from remind.metrics.scores import scores
from remind.metrics.statistics import collect


def predict(*words) -> None:
    done = CliRunner().invoke(app, ["predict", *map(str, words)], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


def table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"patient_id": str})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_test_patients_get_the_numbers_of_the_test_table(trained, suffix, tmp_path):
    out = tmp_path / f"out.{suffix}"
    predict(trained.run.folder, "--cohort", trained.test_folder, "--out", out)
    found, final = table(out), trained.run.final
    assert out.stat().st_mode & 0o077 == 0, "about single patients"
    for site, of in trained.test.items():
        mine = found[found["site"] == site]
        assert mine["patient_id"].tolist() == of.patient_id_N.tolist(), "in the order of the file"
        p_NC = mine[[c for c in mine if c.startswith("p_")]].to_numpy()
        nothing = np.zeros(len(of))
        own = collect(of.groups_N, of.label_N, nothing, np.log(p_NC), mine["gate_open"].to_numpy(float))
        for k, statistics in own.items():
            row = final[(final["site"] == site) & (final["mask"] == k)].iloc[0]
            expected = scores(statistics)
            assert row["n"] == expected.n
            assert row["accuracy"] == expected.accuracy
            assert row["macro_f1"] == expected.macro_f1 or (expected.macro_f1 is None and np.isnan(row["macro_f1"]))
            assert row["auroc"] == expected.auroc or (expected.auroc is None and np.isnan(row["auroc"]))
            assert row["log_loss"] == pytest.approx(expected.log_loss, rel=1e-14)


@pytest.fixture
def new(trained, tmp_path) -> Path:
    """The test patients, as files that a test may spoil: .csv, and no labels."""
    folder = tmp_path / "new"
    shutil.copytree(trained.test_folder, folder)
    for path in folder.glob("*.parquet"):
        frame = pd.read_parquet(path)
        frame.drop(columns=[c for c in ("label",) if c in frame]).to_csv(path.with_suffix(".csv"), index=False)
        path.unlink()
    return folder


def test_labels_and_the_section_of_the_label_are_not_needed(trained, new, tmp_path):
    predict(trained.run.folder, "--cohort", trained.test_folder, "--out", tmp_path / "a.csv")
    text = (new / "cohort.toml").read_text()
    start = text.index("[label]")
    (new / "cohort.toml").write_text(text[:start] + text[text.index("\n[", start) :])
    predict(trained.run.folder, "--cohort", new, "--out", tmp_path / "b.csv")
    pd.testing.assert_frame_equal(table(tmp_path / "a.csv"), table(tmp_path / "b.csv"))


def test_a_modality_without_a_file_is_one_that_nobody_has(trained, new, tmp_path):
    (new / "M4.csv").unlink()
    predict(trained.run.folder, "--cohort", new, "--out", tmp_path / "out.csv")
    found = table(tmp_path / "out.csv")
    assert not found["group"].fillna("").str.contains("M4").any()
    lost = found[found["status"] != "ok"]
    assert lost["status"].str.contains("has no modality").all()


def test_without_a_site_column_the_hospital_must_be_named(trained, new, tmp_path):
    patients = pd.read_csv(new / "patients.csv", dtype=str).drop(columns="site")
    patients.to_csv(new / "patients.csv", index=False)
    (new / "cohort.toml").write_text((new / "cohort.toml").read_text().replace('site = "site"\n', ""))
    with pytest.raises(UserError, match="name the hospital with --site: north, south"):
        predict(trained.run.folder, "--cohort", new, "--out", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    predict(trained.run.folder, "--cohort", new, "--site", "north", "--out", tmp_path / "out.csv")
    assert set(table(tmp_path / "out.csv")["site"]) == {"north"}


def test_an_unknown_hospital_is_said_of_its_patients_and_the_others_are_served(trained, new, tmp_path):
    patients = pd.read_csv(new / "patients.csv", dtype=str)
    patients.loc[0, "site"] = "noth"
    patients.to_csv(new / "patients.csv", index=False)
    predict(trained.run.folder, "--cohort", new, "--out", tmp_path / "out.csv")
    status = table(tmp_path / "out.csv")["status"]
    assert "contains no encoders of hospital 'noth'; did you mean 'north'?" in status[0]
    assert (status[1:] == "ok").all()


def test_no_such_run_hospital_or_kind_of_file(trained, tmp_path):
    cohort = trained.test_folder
    with pytest.raises(UserError, match="give the results folder of a run"):
        predict(tmp_path, "--cohort", cohort)
    with pytest.raises(UserError, match="did you mean 'south'"):
        predict(trained.run.folder, "--cohort", cohort, "--site", "sout")
    with pytest.raises(UserError, match=r"name a \.csv or a \.parquet file"):
        predict(trained.run.folder, "--cohort", cohort, "--out", tmp_path / "out.xlsx")
    with pytest.raises(UserError, match="there is no folder"):
        predict(trained.run.folder, "--cohort", cohort, "--out", tmp_path / "no" / "out.csv")


@pytest.mark.parametrize("option", ["--out", "--next-test"])
def test_a_file_that_is_there_is_not_written_over(trained, tmp_path, option):
    (tmp_path / "patients.csv").write_text("somebody's data")
    with pytest.raises(UserError, match=f"{option} .*patients.csv: the file exists already; name a new file"):
        predict(trained.run.folder, "--cohort", trained.test_folder, option, tmp_path / "patients.csv")
    assert (tmp_path / "patients.csv").read_text() == "somebody's data"


@pytest.mark.parametrize("changed", ["weight", "text", "end"])
def test_a_site_part_that_was_changed_is_not_used(changed, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.run.folder, folder)
    path = folder / "sites" / "0" / "model.pt"
    content = torch.load(path, weights_only=True)
    if changed == "weight":
        next(iter(content["tensors"].values())).view(-1)[0] += 1
    elif changed == "text":
        content["about"] = content["about"].replace('"routing": ', '"routing":  ')
    torch.save(content, path)
    if changed == "end":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.pt: (was changed|cannot be read)"):
        predict(folder, "--cohort", trained.test_folder, "--site", "north")


def test_a_coordinators_results_hold_no_encoders(trained, new, tmp_path):
    """As of a consortium of real hospitals, or of a simulation that was stopped."""
    folder = tmp_path / "run"
    shutil.copytree(trained.run.folder, folder)
    shutil.rmtree(folder / "sites")
    for words in ((), ("--site", "north")):
        with pytest.raises(UserError, match="They stay at the hospitals; each hospital predicts"):
            predict(folder, "--cohort", new, *words)
    patients = pd.read_csv(new / "patients.csv", dtype=str).drop(columns="site")
    patients.to_csv(new / "patients.csv", index=False)
    (new / "cohort.toml").write_text((new / "cohort.toml").read_text().replace('site = "site"\n', ""))
    with pytest.raises(UserError, match="remind-site predict"):
        predict(folder, "--cohort", new)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data.replace(b"p0", b"p\xe9", 1), "not UTF-8 text"),
        (lambda data: data.decode().encode("utf-16"), "UTF-16 text"),
        (lambda data: data.replace(b",", b";"), "separated by semicolons"),
        (lambda data: b"", "the file is empty"),
        (lambda data: bytes(range(256)) * 20, "no text at all"),
        (lambda data: data + b"x,1,2,3,4,5,6,7,8,9,10,11,12\n", "cells, where the header has"),
    ],
)
@pytest.mark.parametrize("file", ["patients.csv", "M1.csv"])
def test_a_file_that_is_no_table_ends_the_command_with_one_message(trained, new, tmp_path, file, spoil, words):
    path = new / file
    data = path.read_bytes()
    path.write_bytes(spoil(data))
    with pytest.raises(UserError) as caught:
        predict(trained.run.folder, "--cohort", new, "--out", tmp_path / "out.csv")
    assert file in str(caught.value)
    assert words in str(caught.value)
    assert not (tmp_path / "out.csv").exists()
