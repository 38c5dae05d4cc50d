"""`remind data import`: options reach the importer, the summary is printed, the docs name every option."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from remind.data.importers.command import import_app
from remind.errors import UserError
from tests.builders.mimic import draw

DOCS = (Path(__file__).parents[3] / "docs" / "importing.md").read_text(encoding="utf-8")


def run(*arguments):
    app = typer.Typer()
    app.add_typer(import_app, name="import")
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw(11, 60).write(tmp_path_factory.mktemp("mimic"))


def test_mimic_iv(root, tmp_path):
    folders = ["--hosp", root / "hosp", "--icu", root / "icu", "--note", root / "note"]
    result = run("mimic-iv", *folders, "--label", "one-year", "--notes", "history", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert re.search(r"wrote \d+ examples of \d+ persons", result.stdout)
    assert "left out:" in result.stdout
    assert "reading labevents.csv.gz" in result.stderr
    assert "notes history, codes all" in (tmp_path / "out" / "cohort.toml").read_text()


def test_a_users_mistake_is_a_user_error(root, tmp_path):
    result = run("mimic-iv", "--hosp", root / "hosp", "--label", "48h", "--codes", "all", "--out", tmp_path / "out")
    assert isinstance(result.exception, UserError)
    assert run("mimic-iv", "--hosp", root, "--label", "tomorrow", "--out", tmp_path).exit_code == 2


def test_embed_and_fprm(tmp_path):
    (tmp_path / "clinical.csv").write_text("empi_anon,acc_anon,desc,side,tissueden\np,1,screening,,2\n")
    header = "empi_anon,acc_anon,FinalImageType,ImageLateralityFinal,ViewPosition,spot_mag,anon_dicom_path"
    (tmp_path / "metadata.csv").write_text(f"{header}\np,1,2D,L,CC,,cohort_1/a.dcm\n")
    tables = ["--clinical", tmp_path / "clinical.csv", "--metadata", tmp_path / "metadata.csv"]
    result = run("embed", *tables, "--images", tmp_path, "--out", tmp_path / "out")
    assert "not on this disk" in str(result.exception)
    (tmp_path / "cohort_1").mkdir()
    (tmp_path / "cohort_1" / "a.dcm").touch()
    result = run("embed", *tables, "--images", tmp_path, "--out", tmp_path / "out", "--screening")
    assert "wrote 1 example of 1 person" in result.stdout
    (tmp_path / "index.csv").write_text("id,patient_id,grade,fundus,flow,oxygen,age\n1,1,a,,,,1\n2,1,b,,,,2\n")
    result = run("fprm", "--index", tmp_path / "index.csv", "--data", tmp_path, "--out", tmp_path / "two")
    assert "wrote 2 examples of 1 person" in result.stdout


def test_every_option_is_documented():
    for command in typer.main.get_group(import_app).commands.values():
        for parameter in command.params:
            for option in parameter.opts:
                if option != "--help":
                    assert f"`{option}" in DOCS, (command.name, option)
