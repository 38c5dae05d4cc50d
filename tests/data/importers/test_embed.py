"""EMBED: picture and density of each example, and messages about files that do not fit."""

import gzip
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.importers.embed import EmbedSettings, import_embed
from remind.errors import UserError

STORE = "/mnt/NAS2/mammo/anon_dicom"
VIEWS = {"cview_cc": ("cview", "CC"), "cview_mlo": ("cview", "MLO"), "ffdm_cc": ("2D", "CC"), "ffdm_mlo": ("2D", "MLO")}


class Tables:
    """Rows of the two tables, with some of the columns that the release has besides."""

    def __init__(self, root: Path) -> None:
        self.root, self.clinical, self.metadata = root, [], []
        (root / "images").mkdir()

    def finding(self, exam, side, density, person="p1", desc="MG Screening Bilateral w/CAD"):
        row = {"empi_anon": person, "acc_anon": exam, "desc": desc, "side": side, "tissueden": density}
        self.clinical.append({"Unnamed: 0": len(self.clinical), **row, "asses": "N", "numfind": 1})

    def picture(self, exam, side, view, person="p1", spot=None, name=None, there=True):
        kind, position = VIEWS.get(view, view)
        inside = f"cohort_1/{person}/{exam}/{name or f'{side}-{kind}-{position}'}.npy"
        row = {"empi_anon": person, "acc_anon": exam, "anon_dicom_path": f"{STORE}/{inside}", "FinalImageType": kind}
        row |= {"ImageLateralityFinal": side, "ViewPosition": position, "spot_mag": spot}
        self.metadata.append({"Unnamed: 0": len(self.metadata), **row, "ROI_coords": '()\n"'})
        if there:
            path = self.root / "images" / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.arange(64, dtype=np.uint8).reshape(8, 8))
        return inside

    def run(self, out="cohort", zipped=False, **options):
        paths: dict[str, Any] = {}
        for name in ("clinical", "metadata"):
            paths[name] = self.root / f"EMBED_OpenData_{name}.csv{'.gz' if zipped else ''}"
            text = pd.DataFrame(getattr(self, name)).to_csv(index=False).encode()
            paths[name].write_bytes(gzip.compress(text) if zipped else text)
        return import_embed(EmbedSettings(**paths, images=self.root / "images", out=self.root / out, **options))

    def found(self, out="cohort"):
        folder = self.root / out
        views = {}
        for view in VIEWS:
            if (folder / f"{view}.parquet").exists():
                rows = pd.read_parquet(folder / f"{view}.parquet")
                for example, path in zip(rows.patient_id, rows.path, strict=True):
                    inside = Path(path).relative_to((self.root / "images").resolve())
                    views.setdefault(example, {})[view] = str(inside)
        patients = pd.read_parquet(folder / "patients.parquet")
        return {row.patient_id: (row.person, row.label, views[row.patient_id]) for row in patients.itertuples()}


@pytest.fixture
def tables(tmp_path) -> Tables:
    return Tables(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_an_example_is_a_breast_in_an_exam(tables, zipped):
    tables.finding("10", None, 2)
    tables.finding("20", "B", "3.0", person="p2")
    paths = {view: tables.picture("10", "L", view) for view in VIEWS}
    right = tables.picture("10", "R", "ffdm_cc")
    other = tables.picture("20", "R", "ffdm_mlo", person="p2")
    summary = tables.run(zipped=zipped)
    assert tables.found() == {
        "10-L": ("p1", "B", paths),
        "10-R": ("p1", "B", {"ffdm_cc": right}),
        "20-R": ("p2", "C", {"ffdm_mlo": other}),
    }
    assert summary.modalities == tuple(VIEWS)
    assert summary.persons == 2
    assert "0.333  cview_cc+cview_mlo+ffdm_cc+ffdm_mlo" in summary.to_text()
    assert "labels: A 0, B 2, C 1, D 0" in summary.to_text()


def test_the_cohort_reads_with_its_pictures(tables):
    tables.finding("10", "B", 1)
    tables.picture("10", "L", "ffdm_cc")
    tables.picture("10", "R", "ffdm_mlo")
    summary = tables.run()
    assert check_cohort(tables.root / "cohort", alone=False).problems == ()
    cohort = read_cohort(tables.root / "cohort")
    assert cohort.schema.names == tuple(VIEWS)
    assert (cohort.presence_Nm == summary.presence_Nm).all()
    assert cohort.person_N.tolist() == ["p1", "p1"]
    declared = tomllib.loads((tables.root / "cohort" / "cohort.toml").read_text())
    assert declared["modalities"]["ffdm_cc"] == {"kind": "image", "size": [224, 224], "channels": 1}
    assert declared["modalities"]["cview_cc"]["absent"] is True


def test_findings_of_one_side_speak_for_it_and_else_for_both(tables):
    tables.finding("10", "L", 2)
    tables.finding("10", "R", 3)
    tables.finding("20", "L", 4)  # of the right breast nothing is said: the density of the exam
    tables.finding("30", "L", 1)
    tables.finding("30", "L", 2)
    tables.finding("30", "R", 2)
    tables.finding("40", "L", None)
    tables.finding("50", "B", 5)
    for exam in ("10", "20", "30", "40", "50", "60"):
        for side in "LR":
            tables.picture(exam, side, "ffdm_cc")
    summary = tables.run()
    labels = {example: label for example, (_, label, _) in tables.found().items()}
    assert labels == {"10-L": "B", "10-R": "C", "20-L": "D", "20-R": "D", "30-R": "B"}
    left_out = dict(summary.left_out)
    assert left_out["breasts whose rows contradict each other on the density"] == 1
    assert left_out["breasts without a density"] == 2
    assert left_out["breasts with another density than 1 to 4 (5: normal male)"] == 2
    assert left_out["breasts of exams that are not in the clinical table, or left out of it"] == 2


def test_a_finding_of_both_sides_can_contradict_one_of_a_side(tables):
    tables.finding("10", "L", 2)
    tables.finding("10", "B", 3)
    tables.picture("10", "L", "ffdm_cc")
    tables.picture("10", "R", "ffdm_cc")
    tables.run()
    assert {example: label for example, (_, label, _) in tables.found().items()} == {"10-R": "C"}


def test_one_picture_per_view_and_no_special_ones(tables):
    tables.finding("10", "B", 2)
    tables.picture("10", "L", "ffdm_cc", name="b")
    first = tables.picture("10", "L", "ffdm_cc", name="a")
    tables.picture("10", "L", "ffdm_cc", name="0", spot=1)
    plain = tables.picture("10", "L", "ffdm_mlo", spot=0)
    tables.picture("10", "L", ("2D", "XCCL"))
    tables.picture("10", "L", ("3D", "CC"))
    tables.picture("10", None, "ffdm_cc")
    synthetic = tables.picture("10", "L", ("C-view", "CC"))  # as the documentation spells it
    summary = tables.run()
    views = {"ffdm_cc": first, "ffdm_mlo": plain, "cview_cc": synthetic}
    assert tables.found() == {"10-L": ("p1", "B", views)}
    left_out = dict(summary.left_out)
    assert left_out["pictures of another kind or view than the four"] == 2
    assert left_out["spot compressions and magnifications"] == 1
    assert left_out["pictures without exam, person, side or path"] == 1
    assert left_out["further pictures of a view of which one is taken"] == 1


def test_the_order_of_rows_does_not_matter(tables):
    rng = np.random.default_rng(0)
    for exam in range(20):
        for side in "LR":
            tables.finding(str(exam), side, int(rng.integers(1, 5)), person=f"p{exam // 2}")
            for i in range(int(rng.integers(1, 6))):
                view = str(rng.choice(list(VIEWS)))
                tables.picture(str(exam), side, view, person=f"p{exam // 2}", name=f"{side}{view}{i}")
    tables.run()
    before = tables.found()
    rng.shuffle(tables.clinical)
    rng.shuffle(tables.metadata)
    tables.run("again")
    assert tables.found("again") == before
    assert len(before) == 40


def test_persons_must_agree(tables):
    tables.finding("10", "B", 2, person="p1")
    tables.picture("10", "L", "ffdm_cc", person="p9")
    tables.finding("20", "B", 2, person="p1")
    tables.finding("20", "B", 2, person="p2")
    tables.picture("20", "L", "ffdm_cc", person="p1")
    tables.finding("30", "B", 2)
    tables.picture("30", "L", "ffdm_cc")
    assert dict(tables.run().left_out)["breasts of exams whose person differs between rows"] == 2
    assert set(tables.found()) == {"30-L"}


def test_screening_alone(tables):
    tables.finding("10", "B", 2)
    tables.finding("20", "B", 2, desc="MG Diagnostic Left w/CAD")
    tables.finding("30", "B", 2, desc=None)
    for exam in ("10", "20", "30"):
        tables.picture(exam, "L", "ffdm_cc")
    tables.run()
    assert set(tables.found()) == {"10-L", "20-L", "30-L"}
    tables.run("screening", screening=True)
    assert set(tables.found("screening")) == {"10-L"}


def test_a_picture_that_was_not_fetched_is_no_missing_modality(tables):
    tables.finding("10", "B", 2)
    tables.picture("10", "L", "ffdm_cc")
    tables.picture("10", "L", "ffdm_mlo", there=False)
    tables.picture("10", "R", "ffdm_cc")
    with pytest.raises(UserError, match=r"1 of 3 pictures are not on this disk: .*L-2D-MLO.npy; .*--absent-files drop"):
        tables.run()
    assert not (tables.root / "cohort").exists()
    summary = tables.run(absent_files="drop")
    assert set(tables.found()) == {"10-R"}
    assert dict(summary.left_out)["breasts of which a picture is not on this disk"] == 1


def test_paths_without_a_cohort_folder_need_their_prefix(tables):
    tables.finding("10", "B", 2)
    inside = tables.picture("10", "L", "ffdm_cc")
    flat = tables.root / "images" / "deep" / "a.npy"
    flat.parent.mkdir()
    np.save(flat, np.zeros((8, 8), np.uint8))
    tables.metadata[0]["anon_dicom_path"] = "/other/place/deep/a.npy"
    with pytest.raises(UserError, match=r"column 'anon_dicom_path', value '/other/place/deep/a.npy': has no folder"):
        tables.run()
    tables.run(prefix="/other/place")
    assert tables.found()["10-L"][2] == {"ffdm_cc": "deep/a.npy"}
    tables.metadata[0]["anon_dicom_path"] = f"{STORE}/{inside}"
    with pytest.raises(UserError, match="does not begin with --prefix /other/place"):
        tables.run("again", prefix="/other/place")
    tables.metadata[0]["anon_dicom_path"] = "cohort_1/../../secret.npy"
    with pytest.raises(UserError, match="anon_dicom_path"):
        tables.run("again")


def test_all_missing_columns_are_named(tables):
    tables.finding("10", "B", 2)
    tables.picture("10", "L", "ffdm_cc")
    tables.clinical[0]["tissue_den"] = tables.clinical[0].pop("tissueden")
    del tables.metadata[0]["spot_mag"]
    with pytest.raises(UserError) as caught:
        tables.run()
    assert "EMBED_OpenData_clinical.csv, column 'tissueden': no such column; did you mean 'tissue_den'?" in str(
        caught.value
    )
    assert "EMBED_OpenData_metadata.csv, column 'spot_mag': no such column" in str(caught.value)


def test_nothing_left(tables):
    tables.finding("10", "B", None)
    tables.picture("10", "L", "ffdm_cc")
    with pytest.raises(UserError, match="no breast is left"):
        tables.run()
    with pytest.raises(UserError, match=r"--images: there is no folder"):
        import_embed(
            EmbedSettings(
                tables.root / "EMBED_OpenData_clinical.csv",
                tables.root / "EMBED_OpenData_metadata.csv",
                tables.root / "nowhere",
                tables.root / "cohort",
            )
        )
