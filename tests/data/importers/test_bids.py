"""BIDS folders: a small one of NIfTI files; the first session with images, labels of classes and numbers, mistakes."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from remind.cli import app
from remind.data.cohort.read import read_cohort
from remind.data.importers.bids import BidsSettings, import_bids
from remind.errors import UserError

TABLE = """participant_id\tage\tsex\tsite\tdiagnosis\tscore
sub-01\t70\tF\tA\tAD\t12.5
sub-02\tn/a\tM\tB\tCN\t28
sub-03\t65\tF\tB\tAD\t15
sub-04\t66\tM\tA\tn/a\t20
sub-05\t60\tF\tA\tCN\tn/a
sub-06\tn/a\tn/a\tA\tCN\t3
"""
IMAGES = (
    "sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz",
    "sub-02/anat/sub-02_T1w.nii",
    "sub-02/anat/sub-02_FLAIR.nii",
    "sub-02/anat/sub-02_T1w.json",
    "sub-03/anat/sub-03_FLAIR.nii.gz",
    "sub-04/anat/sub-04_T1w.nii.gz",
    "sub-05/anat/sub-05_T2starw.nii.gz",
)


@pytest.fixture
def bids(tmp_path):
    root = tmp_path / "study"
    for name in IMAGES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text("{}")
        else:
            nibabel.Nifti1Image(np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6), np.eye(4)).to_filename(path)
    (root / "participants.tsv").write_text(TABLE)
    return root


def settings(bids, tmp_path, **changes):
    given = {"label": "diagnosis", "suffixes": ("T1w", "FLAIR", "T2w"), "size": (8, 8, 8), "site": "site"}
    return BidsSettings(bids, tmp_path / "out", **(given | changes))


def test_participants_their_images_and_their_table(bids, tmp_path):
    summary = import_bids(settings(bids, tmp_path, columns=("age", "sex")))
    patients = pd.read_parquet(tmp_path / "out/patients.parquet").set_index("patient_id")
    assert patients["label"].to_dict() == {"sub-01": "AD", "sub-02": "CN", "sub-03": "AD", "sub-05": "CN"}
    assert patients["site"].tolist() == ["A", "B", "B", "A"]
    left = dict(summary.left_out)
    assert left == {
        "participants without a label": 1,
        "participants without any of the modalities": 1,
        "later sessions with images": 1,
    }
    cohort = read_cohort(tmp_path / "out")
    assert cohort.schema.names == ("T1w", "FLAIR", "T2w", "participant")
    expected = {"sub-01": [1, 0, 0, 1], "sub-02": [1, 1, 0, 1], "sub-03": [0, 1, 0, 1], "sub-05": [0, 0, 0, 1]}
    found = dict(zip(cohort.patient_id_N.tolist(), cohort.presence_Nm.astype(int).tolist(), strict=True))
    assert found == expected
    paths = pd.read_parquet(tmp_path / "out/T1w.parquet")["path"].tolist()
    assert [path.rpartition("/")[2] for path in paths] == ["sub-01_ses-1_run-1_T1w.nii.gz", "sub-02_T1w.nii"]
    table = pd.read_parquet(tmp_path / "out/participant.parquet").set_index("patient_id")
    assert "diagnosis" not in table.columns
    assert list(table.loc["sub-01"]) == [70, "F"]


def test_a_number_is_a_label_too(bids, tmp_path):
    import_bids(settings(bids, tmp_path, label="score", range=(0.0, 30.0)))
    cohort = read_cohort(tmp_path / "out")
    assert cohort.schema.predicts.kind == "regression"
    assert cohort.target_NT[:, 0].tolist() == [12.5, 28.0, 15.0, 20.0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "grade"}, r"column 'grade'.*no such column|no such column"),
        ({"columns": ("age", "diagnosis")}, "has the label 'diagnosis'"),
        ({"classes": ("CN", "MCI")}, "'AD' is none of --classes"),
        ({"label": "score", "range": (0.0, 20.0)}, "28 is outside of --range 0,20"),
        ({"range": (0.0, 20.0)}, "leave --range out"),
        ({"suffixes": ("T1w.nii",)}, "--suffixes 'T1w.nii'"),
        ({"suffixes": ("PDw",)}, "no participant with a label has an image of PDw"),
    ],
)
def test_mistakes_are_one_message(bids, tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        import_bids(settings(bids, tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_the_command(bids, tmp_path):
    words = ["--bids", str(bids), "--label", "score", "--range", "0,30", "--suffixes", "T1w,FLAIR", "--columns", "age"]
    done = CliRunner().invoke(app, ["data", "import", "bids", *words, "--size", "8,8,8", "--out", str(tmp_path / "c")])
    assert done.exit_code == 0, done.output
    assert "wrote 4 examples of 4 persons" in done.output
    done = CliRunner().invoke(app, ["data", "import", "bids", *words, "--size", "8,8", "--out", str(tmp_path / "d")])
    assert "--size 8,8" in str(done.exception)


def test_a_table_of_nobody_is_said(bids):
    (bids / "participants.tsv").write_text(TABLE.splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"participants\.tsv: has no participants below its header; add a row for each"):
        import_bids(BidsSettings(bids, bids.parent / "none", "diagnosis"))
    assert not (bids.parent / "none").exists()
