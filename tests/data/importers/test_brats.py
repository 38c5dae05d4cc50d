"""BraTS: both spellings, one box for all sequences and the mask, numbers of regions, hospitals, mistakes in words."""

from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from remind.cli import app
from remind.data.checks.check import check_cohort
from remind.data.cohort.masks import Masks
from remind.data.cohort.read import read_cohort
from remind.data.importers.brats import BratsSettings, box, cut, grey, import_brats
from remind.errors import UserError
from remind.outcomes.segmentation import Segmentation

SHAPE = (14, 16, 12)  # X, Y, Z of the files
SIZE = (8, 8, 8)  # D, H, W of the cohort
OLD, NEW = ("t1", "t1ce", "t2", "flair"), ("t1n", "t1c", "t2w", "t2f")


def volumes(seed, enhancing=4):
    rng = np.random.default_rng(seed)
    brain = np.zeros(SHAPE, bool)
    brain[4:11, 5:12, 3:10] = True
    mask = np.zeros(SHAPE, np.int16)
    mask[5:9, 6:10, 4:8] = 2
    mask[6:8, 7:9, 5:7] = 1
    mask[6, 7, 5] = enhancing
    values = [np.where(brain, rng.uniform(50, 400, SHAPE) + 100.0 * (mask > 0), 0).astype(np.int16) for _ in range(4)]
    return values, mask


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), path)


def release(folder, without=()):
    """Four patients of the older spelling in HGG and LGG, two visits of a person of the newer one."""
    for i in range(4):
        name = f"BraTS20_Training_{i + 1:03d}"
        values, mask = volumes(i)
        at = folder / ("HGG" if i % 2 else "LGG") / name
        for part, array in zip((*OLD, "seg"), (*values, mask), strict=True):
            if (name, part) not in without:
                save(at / f"{name}_{part}.nii.gz", array)
    for visit in range(2):
        name = f"BraTS-GLI-00007-{visit:03d}"
        values, mask = volumes(10 + visit, enhancing=3)
        for part, array in zip((*NEW, "seg"), (*values, mask), strict=True):
            save(folder / name / f"{name}-{part}.nii", array)


def test_a_release_becomes_a_cohort_whose_voxels_stay_together(tmp_path):
    release(tmp_path / "in", without={("BraTS20_Training_002", "t1ce"), ("BraTS20_Training_003", "seg")})
    summary = import_brats(BratsSettings(tmp_path / "in", tmp_path / "out", SIZE))
    assert summary.left_out == (("patients without a mask", 1), ("patients with a mask and no sequence", 0))
    assert summary.persons == 4
    cohort = read_cohort(tmp_path / "out")
    assert cohort.schema.names == OLD
    assert len(cohort) == 5
    assert cohort.presence_Nm.tolist().count([True, False, True, True]) == 1
    assert cohort.person_N.tolist().count("BraTS-GLI-00007") == 2
    assert isinstance(cohort.schema.predicts, Segmentation)
    assert isinstance(cohort.masks, Masks)
    assert cohort.schema.predicts.parts == ("whole", "core", "enhancing")
    for i in range(5):
        mask = cohort.masks.load(i)
        assert [int((mask == n).sum()) for n in (1, 2, 4)] == [7, 56, 1]
        volumes_of: Any = cohort.modalities["t2"]
        pixels = np.load(volumes_of.source_N[i])
        assert pixels.dtype == np.uint16
        assert pixels[mask > 0].min() > 0
        assert pixels[mask > 0].mean() > 1.2 * pixels[(mask == 0) & (pixels > 0)].mean()
    report = check_cohort(tmp_path / "out")
    assert report.ok
    assert not any("orientation" in line for line in report.warnings)
    assert "5 examples of 4 persons" in summary.to_text()


def test_the_mask_is_cut_where_the_volume_is(tmp_path):
    values, mask = volumes(0)
    marked = np.where(mask > 0, 1000, values[0]).astype(np.int16)
    for part, array in {"t1": marked, "seg": mask}.items():
        save(tmp_path / "in" / "P1" / f"P1_{part}.nii.gz", array)
    import_brats(BratsSettings(tmp_path / "in", tmp_path / "out", SIZE))
    cut_mask, cut_t1 = (np.load(tmp_path / "out" / part / "000000.npy") for part in ("seg", "t1"))
    assert ((cut_t1 == 65535) == (cut_mask > 0)).all()
    assert (cut_mask > 0).sum() == (mask > 0).sum()


def test_the_box_is_around_the_brain_and_may_be_larger_than_the_volume():
    brain = np.zeros((10, 10, 10), bool)
    brain[2:6, 4:10, 0:2] = True
    assert box(brain, (4, 6, 2)) == (2, 4, 0)
    assert box(brain, (12, 2, 4)) == (-2, 6, -1)
    array = np.arange(1000).reshape(10, 10, 10)
    found = cut(array, (-2, 6, -1), (12, 2, 4))
    assert found.shape == (12, 2, 4)
    assert (found[:2] == 0).all()
    assert (found[2:, :, 1:] == array[:, 6:8, :3]).all()
    assert grey(np.zeros((2, 2, 2), np.float32)).max() == 0


def test_hospitals_are_those_of_the_partition(tmp_path):
    release(tmp_path / "in")
    names = [*(f"BraTS20_Training_{i + 1:03d}" for i in range(4)), "BraTS-GLI-00007-000", "BraTS-GLI-00007-001"]
    table = tmp_path / "partitioning_1.csv"
    lines = ["Partition_ID,Subject_ID", *(f"{i % 2 + 1},{name}" for i, name in enumerate(names))]
    table.write_text("\n".join(lines))
    import_brats(BratsSettings(tmp_path / "in", tmp_path / "out", SIZE, table))
    assert sorted(set(read_cohort(tmp_path / "out").site_N.tolist())) == ["1", "2"]
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"1 patient without a hospital: BraTS-GLI-00007-001; add a row"):
        import_brats(BratsSettings(tmp_path / "in", tmp_path / "other", SIZE, table))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: save(f / "P" / "P_t1.nii.gz", np.ones((4, 4, 4), np.int16)), "its volumes have different sizes"),
        (lambda f: save(f / "P" / "P_seg.nii.gz", np.full(SHAPE, 7, np.int16)), "a number that no region has: 7"),
        (lambda f: (f / "P" / "P_t1.nii.gz").write_bytes(b"no"), "P_t1.nii.gz: "),
        (lambda f: (f / "P" / "P_seg.nii.gz").unlink(), "no patient there has a sequence and a mask"),
        (lambda f: save(f / "again" / "P" / "P_t1.nii", np.ones(SHAPE, np.int16)), "two files of t1"),
    ],
)
def test_mistakes_are_told_and_leave_no_cohort(spoil, words, tmp_path):
    values, mask = volumes(0)
    for part, array in zip((*OLD, "seg"), (*values, mask), strict=True):
        save(tmp_path / "in" / "P" / f"P_{part}.nii.gz", array)
    spoil(tmp_path / "in")
    with pytest.raises(UserError, match=words):
        import_brats(BratsSettings(tmp_path / "in", tmp_path / "out", SIZE))
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path):
    release(tmp_path / "in")
    words = ["data", "import", "brats", "--data", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*words, "--size", "8,8,8"])
    assert found.exit_code == 0
    assert "wrote 6 examples of 5 persons" in found.output
    outcome = read_cohort(tmp_path / "out").schema.predicts
    assert isinstance(outcome, Segmentation)
    assert outcome.size == (8, 8, 8)
    wrong = CliRunner().invoke(app, [*words, "--size", "8,8"])
    assert "--size 8,8: give three numbers of 4 to 1024" in str(wrong.exception)
