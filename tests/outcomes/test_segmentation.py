"""Masks: scores against MONAI on the pooled patients, the loss against loops, mistakes in files in words."""

from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import DiceMetric
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from remind.config import Config, SyntheticConfig
from remind.data.batches.augment import augment, augment_mask
from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.data.checks.check import check_cohort
from remind.data.cohort.masks import Masks
from remind.data.files.mask import read_mask
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.metrics.scores import intervals, scores
from remind.metrics.segmentation import of_region
from remind.metrics.statistics import merge, total
from remind.outcomes.base import Seen
from remind.outcomes.segmentation import Segmentation, SegmentationSection
from remind.prediction.masks import MaskFolder
from remind.training.outcome_check import check_outcome
from remind.training.site_model import fusion_of
from tests.builders.masks import SETTINGS, cohort_of_masks, drawn, numbers_of

N = 24


def seen(target_NV, groups=1):
    n = len(target_NV)
    return Seen(np.arange(n) % groups, np.zeros(n, np.int64), target_NV, np.zeros(n), np.zeros(n))


def guesses(outcome, target_NV, seed=0):
    """Logits that are right at most voxels; one region of some patients is never found."""
    rng = np.random.default_rng(seed)
    raw_NRV = np.where(outcome.inside(target_NV), 1.0, -1.0) + 0.8 * rng.standard_normal((len(target_NV), 3, 64))
    raw_NRV[::4, 2] = -3.0
    return raw_NRV.reshape(len(target_NV), -1)


def test_dice_and_hd95_of_merged_sites_are_monais_of_the_pooled_patients():
    outcome, target_NV = drawn(N, np.random.default_rng(0))
    outcome = outcome.model_copy(update={"spacing": (2.0, 1.0, 0.5)})
    raw_NW = guesses(outcome, target_NV)
    parts = [outcome.collect(seen(target_NV[rows], groups=2), raw_NW[rows]) for rows in np.array_split(np.arange(N), 3)]
    together = total(merge(parts))
    assert not outcome.problem(together)
    found, shape = scores(together), (N, 3, *outcome.size)
    y, p = (torch.from_numpy(one.reshape(shape)) for one in (outcome.inside(target_NV), outcome.found(raw_NW)))
    dice_NR = np.array(DiceMetric(reduction="none", ignore_empty=False)(p.float(), y.float()))
    assert found.dice == pytest.approx(dice_NR.mean(), abs=1e-6)
    for r, own in enumerate(dice_NR.mean(axis=0)):
        assert getattr(found, f"dice_{r + 1}") == pytest.approx(own, abs=1e-6)
    assert found.dice_4 is None
    hd = compute_hausdorff_distance(p, y, include_background=True, percentile=95, spacing=outcome.spacing).numpy()
    filled = np.where(np.isfinite(hd), hd, outcome.diagonal)
    filled[~y.flatten(2).any(dim=2).numpy() & ~p.flatten(2).any(dim=2).numpy()] = 0.0
    assert (filled == outcome.diagonal).any()
    assert found.hd95 == pytest.approx(filled.mean(), abs=1e-5)
    assert found.hd95_3 == pytest.approx(filled[:, 2].mean(), abs=1e-5)
    inside = (y & p).sum().item() / N
    assert sum(of_region(together, r)["both"] for r in range(3)) / N == pytest.approx(inside)
    low, high = intervals(together)["dice"]
    assert low < found.dice < high
    of_patients = dice_NR.mean(axis=1)
    width = 2 * 2.07 * of_patients.std() / (N - 1) ** 0.5  # Student's; `mean_interval` adds half a patient on each side
    assert width < high - low < 1.5 * width


def test_hd95_is_the_percentile_of_all_distances_between_borders():
    outcome = Segmentation(size=(6, 6, 6), regions=(("one", (1,)),), spacing=(3.0, 1.0, 1.0))
    rng = np.random.default_rng(1)
    masks = [np.zeros((6, 6, 6), bool) for _ in range(2)]
    masks[0][1:4, 1:5, 2:5] = True
    masks[1][2:5, 0:4, 2:6] = True
    masks[1] &= rng.random((6, 6, 6)) < 0.9
    borders = [np.argwhere(one & ~binary_erosion(one)) * outcome.spacing for one in masks]
    away = cdist(*borders)
    expected = max(np.percentile(away.min(axis=axis), 95) for axis in (0, 1))
    y, p = (one.reshape(1, 1, -1) for one in masks)
    assert outcome.hd95(y, p)[0, 0] == pytest.approx(expected, rel=1e-6)


def test_empty_regions_count_as_in_brats():
    outcome = Segmentation(size=(4, 4, 4), regions=(("one", (1,)),))
    target_NV = np.zeros((3, 64), np.uint8)
    target_NV[2, :8] = 1
    raw_NW = np.full((3, 64), -1.0)
    raw_NW[1, 0] = 1.0
    one = outcome.collect(seen(target_NV, groups=3), raw_NW)
    found = {k: scores(own) for k, own in one.items()}
    assert [found[k].dice for k in range(3)] == [1.0, 0.0, 0.0]
    assert [found[k].hd95 for k in range(3)] == [0.0, outcome.diagonal, outcome.diagonal]


def test_the_loss_is_entropy_and_dice_of_each_patient_and_of_nobody_else():
    outcome, target_NV = drawn(3, np.random.default_rng(2))
    raw_NW = np.random.default_rng(3).standard_normal((3, outcome.width))
    expected = []
    for target_V, raw_W in zip(target_NV, raw_NW, strict=True):
        of_regions = []
        for (_, numbers), raw_V in zip(outcome.regions, raw_W.reshape(3, 64), strict=True):
            p_V, y_V = 1 / (1 + np.exp(-raw_V)), np.isin(target_V, numbers).astype(float)
            entropy = -np.mean(y_V * np.log(p_V) + (1 - y_V) * np.log(1 - p_V))
            dice = (2 * (p_V * y_V).sum() + 1) / ((p_V**2).sum() + y_V.sum() + 1)
            of_regions.append(entropy + 1 - dice)
        expected.append(np.mean(of_regions))
    raw = torch.from_numpy(raw_NW).requires_grad_()
    loss = outcome.loss(raw, torch.from_numpy(target_NV))
    assert loss.tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: outcome.loss(x, torch.from_numpy(target_NV)), raw)
    loss[0].backward()
    assert raw.grad[0].any()
    assert not raw.grad[1:].any()


def test_nested_regions_are_sets_of_numbers_and_volumes_are_in_ml():
    outcome, target_NV = drawn(4, np.random.default_rng(0))
    inside = outcome.inside(target_NV)
    assert (inside[:, 2] <= inside[:, 1]).all()
    assert (inside[:, 1] <= inside[:, 0]).all()
    outcome = outcome.model_copy(update={"spacing": (2.0, 5.0, 1.0)})
    raw_NW = np.where(inside, 1.0, -1.0).reshape(4, -1)
    assert outcome.predict(raw_NW)[:, 0] == pytest.approx((target_NV > 0).sum(axis=1) * 0.01)
    assert outcome.values == ("volume_whole", "volume_core", "volume_enhancing")


def test_sums_that_no_patients_can_have_are_named():
    outcome, target_NV = drawn(N, np.random.default_rng(0))
    one = total(outcome.collect(seen(target_NV), guesses(outcome, target_NV)))
    assert not outcome.problem(one)
    for place in range(len(one.sums_S)):
        for value in (-1.0, 1e9):
            sums_S = one.sums_S.copy()
            sums_S[place] = value
            assert outcome.problem(replace(one, sums_S=sums_S)), (place, value)


def test_pictures_and_mask_of_a_patient_move_alike():
    masks = cohort_of_masks(1, side=32).masks
    assert isinstance(masks, Masks)
    mask = torch.from_numpy(masks.load(0))
    seen_as = (mask > 0).float().unsqueeze(0)
    elsewhere = 0
    for seed in range(5):
        moved = augment_mask(mask, seed) > 0
        picture = augment(seen_as, seed)[0]
        agree = ((picture > 0.4) == moved).float().mean().item()
        assert agree > 0.995
        elsewhere += not torch.equal(moved, mask > 0)
    assert elsewhere >= 3  # a draw may be too small for a voxel


def test_every_sequence_of_a_step_is_moved_by_one_seed():
    data = SiteData(cohort_of_masks(12, side=32), torch.float64)
    index_B, elsewhere = np.array([3, 0, 5]), 0
    (still,) = data.batches([Request(index_B)])
    for seed in range(6):
        whole, alone = data.batches([Request(index_B, seed), Request(index_B, seed, only=("flair",))])
        assert torch.equal(whole.inputs["flair"], alone.inputs["flair"])
        assert torch.equal(whole.target, alone.target)
        elsewhere += not torch.equal(whole.target, still.target)
    assert elsewhere >= 3  # a draw may be too small for a voxel
    assert still.target.numpy().tolist() == numbers_of(data.cohort)[index_B].tolist()


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        (lambda m: m[:4], "is 4×8×8, not 8×8×8", "label.resize = true"),
        (lambda m: m * 1.5, "holds numbers that are not whole", "not one that was interpolated"),
        (lambda m: np.where(m > 0, np.inf, 0.0), "values are NaN or infinite", "replace them"),
        (lambda m: np.where(m == 4, 3, m), "holds a number that no region has: 3", "label.regions"),
        (lambda m: np.stack([m] * 3, axis=-1), "has colours", "one number per voxel"),
        (lambda m: None, "no such file", "put it there"),
    ],
)
def test_a_mistake_in_a_mask_is_told_with_its_patient_and_remedy(change, what, remedy, tmp_path):
    write_cohort(cohort_of_masks(60), tmp_path / "c")
    file = tmp_path / "c" / "masks" / "000003.npy"
    changed = change(np.load(file))
    file.unlink() if changed is None else np.save(file, changed)
    (problem,) = check_cohort(tmp_path / "c").problems
    assert what in problem.what
    assert "patient p000003" in problem.what
    assert remedy in problem.remedy


def test_masks_of_another_size_are_resampled_to_the_nearest_number(tmp_path):
    write_cohort(cohort_of_masks(60), tmp_path / "c")
    toml = tmp_path / "c" / "cohort.toml"
    text = toml.read_text().replace("size = [8, 8, 8]", "size = [4, 8, 16]").replace("resize = false", "resize = true")
    toml.write_text(text.replace("[label]\n", "[label]\nresize = true\n"))
    assert not check_cohort(tmp_path / "c").problems


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size = [8, 8, 8]\nregions", "size = [8, 8, 9]\nregions", "modalities.t1.size is 8, 8, 8, and the mask's"),
        ('kind = "volume"', 'kind = "video"', "a mask is learned from volumes"),
        ("[4] }", "[4, 4] }", "region enhancing lists a number twice"),
        ("[4] }", "[0] }", "label.regions"),
        ('"whole" = [1, 2, 4], "core" = [1, 4], "enhancing" = [4]', "", "give at least 1"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(old, new, words, tmp_path):
    write_cohort(cohort_of_masks(60), tmp_path / "c")
    toml = tmp_path / "c" / "cohort.toml"
    assert old in toml.read_text()
    toml.write_text(toml.read_text().replace(old, new))
    with pytest.raises(UserError, match=words):
        check_cohort(tmp_path / "c")


def test_a_patient_without_a_mask_is_an_error_or_left_out(tmp_path):
    write_cohort(cohort_of_masks(60), tmp_path / "c")
    (tmp_path / "c" / "patients.parquet").unlink()
    rows = [f"p{i:06d},{f'masks/{i:06d}.npy' if i else ''}\n" for i in range(60)]
    (tmp_path / "c" / "patients.csv").write_text("patient_id,mask\n" + "".join(rows))
    (problem,) = check_cohort(tmp_path / "c").problems
    assert "no label" in problem.what
    toml = tmp_path / "c" / "cohort.toml"
    toml.write_text(toml.read_text().replace("[label]\n", '[label]\nmissing = "drop"\n'))
    report = check_cohort(tmp_path / "c")
    assert report.ok
    assert report.patients == 59


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"privacy.mode": "site", "evaluation.calibration": "none"}, "privacy.mode"),
        ({"method.fusion": "mmformer"}, "mmformer"),
        ({"method.fusion": "muse"}, "muse"),
        ({"method.objective": "fairmixup"}, "fairmixup"),
        ({"evaluation.operating-point": "youden"}, "operating-point"),
    ],
)
def test_what_predicts_no_mask_is_refused_with_a_reason(settings, words):
    outcome = cohort_of_masks(12).schema.predicts
    with pytest.raises(UserError, match=words) as caught:
        check_outcome(outcome, Config.from_flat(settings))
    assert "choose one of" in str(caught.value) or "leave it" in str(caught.value)


def test_an_encoder_without_feature_maps_is_refused_with_the_setting():
    schema = cohort_of_masks(12).schema
    config = Config.from_flat(SETTINGS | {"model.encoders.choice": "volume: stack"})
    with pytest.raises(UserError, match=r"gives no feature maps; set model.encoders.choice = 'volume: unet'"):
        fusion_of(schema, config)


def test_a_section_is_what_its_outcome_says():
    outcome = cohort_of_masks(12).schema.predicts
    assert SegmentationSection.of(outcome).outcome == outcome


def test_a_written_mask_is_read_as_the_numbers_that_were_predicted(tmp_path):
    schema = cohort_of_masks(12).schema
    assert isinstance(schema.predicts, Segmentation)
    outcome = schema.predicts.model_copy(update={"spacing": (3.0, 1.0, 2.0)})
    schema = schema.model_copy(update={"outcome": outcome})
    folder = MaskFolder(tmp_path / "masks", schema)
    assert not folder.folder.exists(), "nothing is predicted yet, and perhaps nothing can be"
    numbers_NV = numbers_of(cohort_of_masks(12))[:2]
    raw_NW = np.where(outcome.inside(numbers_NV), 2.0, -2.0).reshape(2, -1)
    assert outcome.numbers(raw_NW).tolist() == numbers_NV.tolist()
    for name, raw_W in zip(("=a/b", "p2"), raw_NW, strict=True):
        folder.write(name, raw_W)
    folder.finish()
    lines = (tmp_path / "masks" / "masks.csv").read_text().splitlines()
    assert lines == ["patient_id,path", "'=a/b,000000.nii.gz", "p2,000001.nii.gz"]
    for i in range(2):
        file = tmp_path / "masks" / f"{i:06d}.nii.gz"
        assert read_mask(file, outcome.size, outcome.mask.values, False).ravel().tolist() == numbers_NV[i].tolist()
        header: Any = nibabel.load(file).header
        assert header.get_zooms() == (2.0, 1.0, 3.0)
        assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="not a new or empty folder"):
        MaskFolder(tmp_path / "masks", schema)


def test_a_model_without_masks_writes_none(tmp_path):
    classes = generate(SyntheticConfig(patients=20), 0).schema
    with pytest.raises(UserError, match=r"--masks: this model predicts no mask but one of several classes; leave"):
        MaskFolder(tmp_path / "masks", classes)
    assert not (tmp_path / "masks").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    folder = MaskFolder(tmp_path / "file" / "masks", cohort_of_masks(12).schema)
    with pytest.raises(UserError, match=r"masks: cannot be made: .*; name another folder"):
        folder.finish()


def test_voxels_whose_regions_contradict_each_other_get_the_likelier_number():
    outcome = Segmentation(size=(4, 4, 4), regions=(("whole", (1, 2)), ("core", (1,))))
    raw_NRV = np.full((1, 2, 64), -1.0)
    raw_NRV[0, :, 0] = -1.0, 3.0  # core without whole: 3 − 1 > 0
    raw_NRV[0, :, 1] = -3.0, 1.0
    raw_NRV[0, :, 2] = 2.0, -1.0
    assert outcome.numbers(raw_NRV.reshape(1, -1))[0, :4].tolist() == [1, 0, 2, 0]
