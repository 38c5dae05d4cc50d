"""`remind data check`: problems name patient and file, suspicious data give warnings, small groups are counted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from typer.testing import CliRunner

from remind.cli import app
from remind.config import EncoderConfig, SyntheticConfig
from remind.data.checks.check import check_cohort
from remind.data.checks.report_text import ranges, wrapped
from remind.data.cohort.problems import MOST, PER_KIND, Problem, shortened
from remind.data.cohort.read import load
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort

KINDS = "table, series, image, volume, video, text, codes"
DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


class Folder:
    """A cohort of twelve patients, p000000 to p000011, who have everything, that a test can spoil."""

    def __init__(self, path: Path) -> None:
        self.path = path
        missing = ", ".join(["0"] * 7)
        config = SyntheticConfig(patients=12, law="independent", missing=missing, kinds=KINDS, size=8)
        write_cohort(generate(config, 0), path)

    def declare(self, kind: str, *lines: str) -> None:
        """Add lines to the section of that kind."""
        file = self.path / "cohort.toml"
        text, head = file.read_text(), f'kind = "{kind}"'
        assert head in text
        file.write_text(text.replace(head, "\n".join([head, *lines]), 1))

    def edit(self, name: str, column: str, row: int, value: Any) -> None:
        """Change one cell of a .parquet."""
        table = pd.read_parquet(self.path / f"{name}.parquet")
        table[column] = table[column].astype(object if isinstance(value, str | None) else float)
        table.loc[row, column] = value
        table.to_parquet(self.path / f"{name}.parquet")

    def notes_as_files(self) -> None:
        """Let the notes lie in files of their own."""
        table = pd.read_parquet(self.path / "M6.parquet")
        (self.path / "M6").mkdir()
        for i, note in enumerate(table.pop("text")):
            (self.path / "M6" / f"{i:06d}.txt").write_text(note)
        table["path"] = [f"M6/{i:06d}.txt" for i in range(len(table))]
        table.to_parquet(self.path / "M6.parquet")
        self.declare("text", 'path = "path"')


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "c")


def pixelless(path):
    """A DICOM file without pixels, where another file was."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=["remind"])
    made.Rows, made.Columns = 8, 8
    made.save_as(path, enforce_file_format=True)


# What happens to the file of patient p000003: the modality's kind, its name, the file, what is done, what is said.
DAMAGE = {
    "truncated PNG": ("image", "M3/000003.png", lambda p: p.write_bytes(p.read_bytes()[:40]), "is damaged"),
    "no file": ("image", "M3/000003.png", Path.unlink, "no such file"),
    "nothing in it": ("image", "M3/000003.png", lambda p: p.write_bytes(b""), "is empty"),
    "text": ("image", "M3/000003.png", lambda p: p.write_text("no picture"), "no format that is read"),
    "DICOM without pixels": ("image", "M3/000003.png", pixelless, "pixels"),
    "other shape": ("volume", "M4/000003.npy", lambda p: np.save(p, np.zeros((5, 8, 8), np.uint8)), "5×8×8, not 8×8×8"),
    "not finite": ("volume", "M4/000003.npy", lambda p: np.save(p, np.full((8, 8, 8), np.nan)), "512 of 512 values"),
    "pickle": (
        "video",
        "M5/000003.npy",
        lambda p: np.save(p, np.array([{}]), allow_pickle=True),
        "not an array of numbers",
    ),
    "a single frame": ("video", "M5/000003.npy", lambda p: np.save(p, np.zeros((8, 8))), "array of shape 8×8"),
    "empty note": ("text", "M6/000003.txt", lambda p: p.write_text(" \n"), "the note is empty"),
    "note not UTF-8": ("text", "M6/000003.txt", lambda p: p.write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_named_with_its_patient(case, folder):
    kind, file, damage, words = DAMAGE[case]
    if kind == "text":
        folder.notes_as_files()
    damage(folder.path / file)
    report = check_cohort(folder.path)
    assert not report.ok
    (problem,) = report.problems
    text = str(problem)
    assert all(part in text for part in (file.split("/")[1], file[:2], "p000003", words, 'broken = "drop"')), text
    assert text in report.to_text()


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_left_out_where_asked(case, folder):
    kind, file, damage, words = DAMAGE[case]
    if kind == "text":
        folder.notes_as_files()
    folder.declare(kind, 'broken = "drop"')
    damage(folder.path / file)
    cohort = load(folder.path).cohort
    lacking = [name for name, here in zip(cohort.schema.names, cohort.presence_Nm[3], strict=True) if not here]
    assert lacking == [file[:2]]
    report = check_cohort(folder.path)
    assert report.ok
    assert [row.patients for row in report.groups] == [11, 1]
    assert {name: len(lines) for name, lines in report.broken.items()} == {file[:2]: 1}
    text = report.to_text()
    assert f"{file[:2]}: 1 file left out" in text
    assert "p000003" in text
    assert words in text
    assert json.loads(report.to_json())["broken"][file[:2]][0]["file"] == file.split("/")[1]


def test_a_patient_left_with_nothing_is_a_problem(folder):
    folder.declare("image", 'broken = "drop"')
    toml = folder.path / "cohort.toml"
    before, *sections = toml.read_text().split("[modalities.")
    toml.write_text(before + "[modalities." + sections[2])  # the images alone
    (folder.path / "M3" / "000003.png").unlink()
    report = check_cohort(folder.path)
    assert "1 patient has no modality at all: p000003" in report.to_text()
    assert "M3: 1 file left out" in report.to_text()


@pytest.mark.parametrize(
    ("name", "column", "value", "parts"),
    [
        ("M1", "x2", float("inf"), ("M1.parquet, row 4", "'x2'", "finite")),
        ("M2", "time", -1.0, ("M2.parquet, row 4", "'time'", "negative time")),
        ("M2", "value", float("-inf"), ("M2.parquet, row 4", "'value'", "finite")),
        ("M3", "patient_id", "nobody", ("M3.parquet, row 4", "nobody", "not in the patients file")),
        ("M7", "code", "Z99", ("M7.parquet, row 4", "'code'", "Z99", "vocabulary")),
        ("M3", "patient_id", "p000000", ("M3.parquet, row 4", "p000000", "more than one row")),
    ],
)
def test_a_wrong_cell_is_named(name, column, value, parts, folder):
    folder.edit(name, column, 3, value)
    report = check_cohort(folder.path)
    assert not report.ok
    assert all(part in report.to_text() for part in parts), report.to_text()


def test_an_empty_cell_is_missing(folder):
    folder.edit("M1", "x2", 3, float("nan"))
    assert check_cohort(folder.path).ok


def test_all_kinds_of_damage_at_once(folder):
    (folder.path / "M3" / "000003.png").unlink()
    (folder.path / "M4" / "000005.npy").write_bytes(b"")
    folder.edit("M2", "time", 3, -1.0)
    folder.edit("M1", "x2", 3, float("inf"))
    text = check_cohort(folder.path).to_text()
    assert text.startswith(f"cohort 'synthetic-independent' ({folder.path})\n4 problems\n")
    assert all(part in text for part in ("p000003", "p000005", "negative time", "finite"))


@pytest.mark.parametrize("kind", ["table", "series", "image", "text", "codes"])
def test_a_table_that_is_a_header_alone_is_named_with_its_folder(kind, tmp_path):
    (tmp_path / "cohort.toml").write_text(
        f'name = "c"\n[label]\nclasses = ["no", "yes"]\n[modalities.a]\nkind = "{kind}"\n'
    )
    (tmp_path / "patients.csv").write_text("patient_id,label\n1,no\n2,yes\n")
    (tmp_path / "a.csv").write_text("patient_id,time,item,value,path,text,code\n")
    report = check_cohort(tmp_path)
    assert report.folder == str(tmp_path)
    assert str(tmp_path) in report.to_text().splitlines()[0]
    assert "a.csv: has no rows; add rows" in report.to_text()


def test_an_empty_note_counts_as_none(folder):
    folder.edit("M6", "text", 3, "  ")
    folder.edit("M6", "text", 4, None)
    report = check_cohort(folder.path)
    assert any("M6: 2 rows hold an empty note" in w for w in report.warnings)
    assert [row.patients for row in report.groups] == [10, 2]


def test_a_long_note_is_read_in_part(folder):
    note = "word " * 25_000  # 125 kB
    folder.edit("M6", "text", 3, note)
    report = check_cohort(folder.path)
    assert report.ok
    large, cut = report.warnings
    assert "M6: 1 note of more than 100 kB: patient p000003" in large
    assert f"at most {EncoderConfig().text_length} are read" in cut
    assert f"{EncoderConfig().text_length / 25_000:.1%} of the longest, patient p000003's" in cut
    assert note[:100] not in report.to_text()


def test_a_long_note_in_a_file(folder):
    folder.notes_as_files()
    (folder.path / "M6" / "000003.txt").write_text("x" * 200_000)
    (warning,) = check_cohort(folder.path).warnings
    assert "100 kB: patient p000003" in warning


def test_odd_pictures(folder):
    Image.new("L", (8, 8), 77).save(folder.path / "M3" / "000003.png")
    Image.new("L", (20, 10), 0).save(folder.path / "M3" / "000004.png")
    Image.effect_noise((4, 4), 50).save(folder.path / "M3" / "000005.png")
    report = check_cohort(folder.path)
    flat, smaller, stretched = report.warnings
    assert "M3: 2 of 12 files show one grey value all over: patient p000003, p000004" in flat
    assert "M3: 1 of 12 files are smaller than 8×8" in smaller
    assert "M3: 1 of 12 files have other proportions than 8×8" in stretched
    assert "files of 3 sizes, most often 8×8 (10 of 12 files)" in report.to_text()
    assert "M4: volume, 8×8×8, grey; files of 8×8×8" in report.to_text()


def test_every_picture_is_looked_at(tmp_path):
    config = SyntheticConfig(patients=120, law="independent", missing="0", kinds="image", size=8)
    write_cohort(generate(config, 0), tmp_path / "c")
    assert check_cohort(tmp_path / "c").files["M1"] == "; files of 8×8"
    Image.new("L", (8, 8), 77).save(tmp_path / "c" / "M1" / "000117.png")
    (warning,) = check_cohort(tmp_path / "c").warnings
    assert "1 of 120 files show one grey value all over: patient p000117" in warning


def test_hundreds_of_broken_files_are_counted(tmp_path):
    config = SyntheticConfig(patients=200, law="independent", missing="0, 0", kinds="image, text", size=8)
    write_cohort(generate(config, 0), tmp_path / "many")
    files = sorted((tmp_path / "many" / "M1").iterdir())
    for i, file in enumerate(files[:150]):
        file.write_bytes(b"") if i % 3 else np.save(file.open("wb"), np.zeros((i + 2, 2, 2, 2, 2)))
    report = check_cohort(tmp_path / "many")
    text = report.to_text()
    assert len(report.problems) == 150
    assert len(json.loads(report.to_json())["problems"]) == 150
    listed = [line for line in text.splitlines() if "of patient" in line]
    assert len(listed) == MOST
    assert f"and {150 - MOST} more files of modality M1:" in text
    assert "87 × is empty" in text
    assert "43 × is an array of shape 23×2×2×2×2, an image is H×W or H×W×3, and the like" in text
    toml = tmp_path / "many" / "cohort.toml"
    toml.write_text(toml.read_text().replace('kind = "image"', 'kind = "image"\nbroken = "drop"'))
    text = check_cohort(tmp_path / "many").to_text()
    assert "M1: 150 files left out" in text
    assert sum("of patient" in line for line in text.splitlines()) == PER_KIND


def test_problems_of_other_kinds_are_never_cut_short():
    others = [Problem("a.csv", f"wrong {i}", "mend it") for i in range(100)]
    assert shortened(others) == [f"  - {problem}" for problem in others]


def with_sites(cohort, *sizes):
    names = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
    return replace(cohort, site_N=names)


def test_what_a_minimum_count_would_suppress(tmp_path):
    cohort = generate(SyntheticConfig(patients=300, law="mimic-iv"), 0)
    write_cohort(with_sites(cohort, 200, 90, 10), tmp_path / "c")
    report = check_cohort(tmp_path / "c", min_count=20)
    names = [row.name for row in report.groups]
    assert report.below.groups == tuple(row.name for row in report.groups if row.patients < 20)
    for site, part in (("s0", slice(0, 200)), ("s1", slice(200, 290)), ("s2", slice(290, 300))):
        here = pd.Series(cohort.groups_N[part]).value_counts()
        below = report.below_at[site]
        assert (len(below.groups), below.of_groups, below.patients) == (
            (here < 20).sum(),
            len(here),
            here[here < 20].sum(),
        )
    text = report.to_text()
    assert "groups below the minimum count of 20" in text
    numbers = ", ".join(ranges([names.index(name) + 1 for name in report.below_at["s1"].groups]))
    assert f"site s1: {len(report.below_at['s1'].groups)} of " in text
    assert text.count(f"patients: {numbers}") >= 1
    assert json.loads(report.to_json())["below_at"]["s2"]["patients"] == 10
    assert check_cohort(tmp_path / "c", min_count=1).below.groups == ()


def test_group_table_has_classes_and_sites(tmp_path):
    cohort = generate(SyntheticConfig(patients=300, law="mimic-iv"), 0)
    write_cohort(with_sites(cohort, 290, 10), tmp_path / "c")
    report = check_cohort(tmp_path / "c")
    row = report.groups[0]
    own_N = cohort.groups_N == 7
    assert (row.name, row.patients, row.classes) == (
        "M1+M2+M3",
        own_N.sum(),
        (int((cohort.label_N[own_N] == 0).sum()), int((cohort.label_N[own_N] == 1).sum())),
    )
    assert row.sites == (own_N[:290].sum(), own_N[290:].sum())
    line = next(line for line in report.to_text().splitlines() if line.startswith("1 M1+M2+M3"))
    assert f"{row.classes[1]} ({row.classes[1] / row.patients:.0%})" in line


def test_many_sites_are_laid_into_several_tables():
    rows = [["group", *(f"site {i:02d}" for i in range(50))], ["1", *map(str, range(50))]]
    lines = wrapped(rows, width=60)
    assert max(map(len, lines)) <= 60
    assert [word for line in lines if line.startswith("1") for word in line.split()[1:]] == rows[1][1:]
    assert all(line.startswith(("group", "1", "")) for line in lines)


def test_ranges():
    assert ranges([2, 5, 6, 7, 9]) == ["2", "5–7", "9"]
    assert ranges([]) == []


def test_commands(folder, tmp_path):
    run = CliRunner().invoke
    assert run(app, ["data", "check", str(folder.path)]).exit_code == 0
    found = run(app, ["data", "check", str(folder.path), "--json", "--min-count", "13"])
    assert json.loads(found.stdout)["below"]["patients"] == 12
    (folder.path / "M3" / "000003.png").unlink()
    found = run(app, ["data", "check", str(folder.path)])
    assert (found.exit_code, "p000003" in found.stdout) == (1, True)
    assert json.loads(run(app, ["data", "check", str(folder.path), "--json"]).stdout)["ok"] is False
    assert run(app, ["data", "check", str(folder.path), "--min-count", "0"]).exit_code == 2
    options = ["--patients", "30", "--kinds", "image, text, codes, table", "--size", "10"]
    assert run(app, ["data", "synth", str(tmp_path / "new"), *options]).exit_code == 0
    content = json.loads(run(app, ["data", "check", str(tmp_path / "new"), "--json"]).stdout)
    assert [m["kind"] for m in content["schema"]["modalities"]] == ["image", "text", "codes", "table"]
    assert content["schema"]["modalities"][0]["size"] == [10, 10]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the development cohorts are not at {DATA}")
def test_the_x_rays():
    cohorts = Path(__file__).parents[3] / "simulation" / "cohorts"
    report = check_cohort(cohorts / "cxr_ccby.toml")
    assert report.ok
    assert (report.patients, report.persons) == (108, 58)
    assert sum(row.classes[1] for row in report.groups) == 63
    assert report.warnings == ('4 patients without a label left out (label.missing = "drop")',)
    patients = pd.read_csv(DATA / "cxr_ccby" / "patients.csv").dropna(subset="went_icu_y")
    has_Nm = patients[[f"has_{m.name}" for m in report.schema.modalities]].to_numpy(dtype=bool)
    np.testing.assert_array_equal(load(cohorts / "cxr_ccby.toml").cohort.presence_Nm, has_Nm)
    features = {column for m in report.schema.modalities for column in getattr(m, "columns", ())}
    assert not features & {"label", "finding", "covid_y", "went_icu_y", "survival_y", "intubated_y", "needed_O2"}
