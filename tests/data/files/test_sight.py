"""Warnings about readable files: holes, tilt, directions, and values that use a small part of their range."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from remind.data.checks.check import check_cohort
from remind.data.files import examine_image, examine_volume
from tests.builders.dicoms import AXIAL, dataset, item, slices, write

RNG = np.random.default_rng(1)
SIX = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)


def remarks(path, kind="volume", window=None):
    sight = examine_volume(path, (4, 4, 4), 1, window, True) if kind == "volume" else image(path, window)
    return {remark.kind: remark.seen for remark in sight.remarks}


def image(path, window=None):
    return examine_image(path, (4, 4), 1, window, True)


def at(places):
    return {"ImagePositionPatient": lambda d: [0, 0, places[d]], "InstanceNumber": None}


@pytest.mark.parametrize(
    ("places", "seen"),
    [
        ([0, 1, 2, 5, 6, 7], "distances of 1 to 3 mm between slices"),
        ([0, 4, 5, 6, 7, 8], "distances of 1 to 4 mm between slices"),
        ([0, 3, 4, 7, 8, 11], "distances of 1 to 3 mm between slices"),
        ([0, -2.5, -5, -10, -12.5, -15], "distances of 2.5 to 5 mm between slices"),
        ([0, 1.0, 2.1, 3.0, 4.2, 5.1], None),
    ],
)
def test_uneven_distances(tmp_path, places, seen):
    assert remarks(slices(tmp_path / "s", SIX, **at(places))).get("hole") == seen


def test_gaps_in_the_instance_numbers(tmp_path):
    """Every other slice is missing: the distances are even. And a series without geometry."""
    every_other = slices(tmp_path / "a", SIX, InstanceNumber=lambda d: 2 * d + 1)
    assert remarks(every_other) == {"hole": "the Instance Numbers of 6 slices leave out 5"}
    bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    numbers = [4, 5, 6, 9, 10, 11]
    assert remarks(slices(tmp_path / "b", SIX, InstanceNumber=lambda d: numbers[d], **bare)) == {
        "hole": "the Instance Numbers of 6 slices leave out 2"
    }
    assert remarks(slices(tmp_path / "c", SIX, InstanceNumber=lambda d: d + 7, **bare)) == {}
    assert remarks(slices(tmp_path / "d", SIX, InstanceNumber=lambda d: 6 - d)) == {}


def test_a_film_of_one_place_that_lacks_frames(tmp_path):
    numbers = [1, 2, 3, 6, 7, 8]
    film = slices(tmp_path / "s", SIX, ImagePositionPatient=[0, 0, 0], InstanceNumber=lambda d: numbers[d])
    assert remarks(film) == {"hole": "the Instance Numbers of 6 slices leave out 2"}


def test_a_multi_frame_file_with_a_hole(tmp_path):
    def frame(z):
        return item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])])

    shared = item(PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)])
    for places, expected in (([0, 9, 1, 10, 2, 11], {"hole"}), ([5, 4, 3, 2, 1, 0], set())):
        made = dataset(SIX, SharedFunctionalGroupsSequence=[shared])
        made.PerFrameFunctionalGroupsSequence = [frame(z) for z in places]
        assert remarks(write(tmp_path / "m.dcm", made)).keys() == expected


def test_a_multi_frame_file_without_positions_that_lacks_slices(tmp_path):
    def frame(number):
        return item(FrameContentSequence=[item(InStackPositionNumber=number)])

    for stack, expected in (([1, 2, 3, 6, 7, 8], 2), ([3, 1, 2, 4, 6, 5], 0)):
        made = dataset(SIX)
        made.PerFrameFunctionalGroupsSequence = [frame(number) for number in stack]
        seen = {"hole": f"the In-Stack Position Numbers of 6 slices leave out {expected}"} if expected else {}
        assert remarks(write(tmp_path / "m.dcm", made)) == seen


def test_a_tilted_gantry_is_no_hole_but_is_said(tmp_path):
    tilted = slices(tmp_path / "s", SIX, ImagePositionPatient=lambda d: [0, 2 * d * np.tan(0.3), 2 * d])
    assert remarks(tilted) == {"tilt": "by 17 degrees"}
    straight = slices(tmp_path / "t", SIX, ImagePositionPatient=lambda d: [0, 0.02 * d, 2 * d])
    assert remarks(straight) == {}


@pytest.mark.parametrize("suffix", ["npy", "nii.gz", "tif"])
def test_a_slice_of_one_value_between_others(tmp_path, suffix):
    hole = SIX.copy()
    hole[2:4] = 0
    padded = SIX.copy()
    padded[[0, 5]] = 0  # air above the head is no hole
    for stack, expected in ((hole, {"hole": "slices 3, 4 of 6 hold one value all over"}), (padded, {})):
        path = tmp_path / f"a.{suffix}"
        if suffix == "npy":
            np.save(path, stack)
        elif suffix == "tif":
            pages = [Image.fromarray(page) for page in stack]
            pages[0].save(path, save_all=True, append_images=pages[1:])
        else:
            nibabel.save(nibabel.Nifti1Image(stack.transpose(2, 1, 0), np.eye(4)), path)
        assert remarks(path) == expected


def used(path, values):
    """Grey `values` in a file of the kind that the name says."""
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".dcm":
        write(path, dataset(values))
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
@pytest.mark.parametrize(
    ("bits", "kind", "little"),
    [
        *((10, np.uint16, True), (12, np.uint16, True), (14, np.uint16, True), (16, np.uint16, False)),
        *((4, np.uint8, True), (8, np.uint8, False)),
    ],
)
def test_few_bits_in_a_larger_type(tmp_path, suffix, bits, kind, little):
    values = (np.arange(16).reshape(4, 4) * (2**bits - 1) // 15).astype(kind)
    path = used(tmp_path / f"a.{suffix}", values)
    top = np.iinfo(kind).max
    expected = {"range": f"values 0 … {2**bits - 1} of 0 … {top}"} if little else {}
    assert remarks(path, "image") == expected
    assert remarks(path, "image", (2 ** (bits - 1), 2**bits)) == {}, "with a window nothing is odd"


def test_little_contrast_far_from_black_is_said_and_a_flat_picture_is_another_matter(tmp_path):
    high = (np.arange(16).reshape(4, 4) + 60000).astype(np.uint16)
    assert "range" in remarks(used(tmp_path / "a.png", high), "image")
    assert remarks(used(tmp_path / "b.png", np.full((4, 4), 7, dtype=np.uint16)), "image") == {}
    assert remarks(used(tmp_path / "c.npy", np.eye(4, dtype=bool)), "image") == {}


def test_eight_stored_bits_of_dicom(tmp_path):
    assert "range" in remarks(used(tmp_path / "a.dcm", np.arange(16, dtype=np.uint8).reshape(4, 4)), "image")
    assert remarks(used(tmp_path / "b.dcm", (17 * np.arange(16)).astype(np.uint8).reshape(4, 4)), "image") == {}


def test_nifti_without_orientation(tmp_path):
    values = RNG.integers(0, 99, (4, 4, 4)).astype(np.int16)
    for sform, qform, said in ((0, 0, True), (1, 0, False), (0, 2, False)):
        nifti = nibabel.Nifti1Image(values, np.eye(4))
        nifti.set_sform(np.eye(4), code=sform)
        nifti.set_qform(np.eye(4), code=qform)
        nibabel.save(nifti, tmp_path / "a.nii")
        assert ("nowhere" in remarks(tmp_path / "a.nii")) == said
        assert examine_volume(tmp_path / "a.nii", (4, 4, 4), 1, None, True).orientation == ("" if said else "SPL")


def test_where_axes_point(tmp_path):
    for axes, expected in ((AXIAL, "SPL"), ([0, 1, 0, 0, 0, -1], "RIP"), ([1, 0, 0, 0, 0, -1], "PIL")):
        made = dataset(SIX[0], ImageOrientationPatient=axes, ImagePositionPatient=[0, 0, 0])
        assert image(write(tmp_path / "a.dcm", made)).orientation == expected
    affine = np.diag([-1.0, 1, 1, 1])
    for shape, expected in (((4, 4, 1), "SPL"), ((4, 1, 4), "PSL"), ((1, 4, 4), "LSP")):
        nibabel.save(nibabel.Nifti1Image(RNG.integers(0, 9, shape).astype(np.int16), affine), tmp_path / "a.nii")
        assert image(tmp_path / "a.nii").orientation == expected


@pytest.fixture
def cohort(tmp_path):
    """Makes a cohort of one modality of files; returns the warnings of its check."""

    def make(kind, make_files, suffix=""):
        folder = tmp_path / "c"
        (folder / "f").mkdir(parents=True)
        paths = [folder / "f" / f"{i}{suffix}" for i in range(4)]
        for i, path in enumerate(paths):
            make_files(i, path)
        size = "[4, 4]" if kind == "image" else "[4, 4, 4]"
        pd.DataFrame({"patient_id": range(4), "label": [0, 1, 0, 1]}).to_csv(folder / "patients.csv", index=False)
        pd.DataFrame({"patient_id": range(4), "path": paths}).to_csv(folder / "scan.csv", index=False)
        (folder / "cohort.toml").write_text(
            'name = "c"\n[label]\nclasses = ["no", "yes"]\n'
            f'[modalities.scan]\nkind = "{kind}"\nsize = {size}\nchannels = 1\nresize = true\n'
        )
        report = check_cohort(folder)
        assert report.ok
        return SimpleNamespace(text="\n".join(report.warnings), report=report)

    return make


@pytest.mark.parametrize("kind", ["volume", "video"])
def test_the_check_says_who_lacks_slices(cohort, kind):
    places = [0, 1, 2, 7, 8, 9]
    made = cohort(kind, lambda i, path: slices(path, SIX, **(at(places) if i in (1, 3) else {})))
    assert (
        "scan: 2 of 4 files seem to lack slices, so that the volume is squeezed: patient 1, 3 (distances" in made.text
    )


def test_the_check_names_window_for_twelve_bits(cohort):
    values = (np.arange(16).reshape(4, 4) * 273).astype(np.uint16)
    made = cohort("image", lambda i, path: used(path, values), ".png")
    assert "4 of 4 files use a small part" in made.text
    assert "values 0 … 4095 of 0 … 65535" in made.text
    assert "set window = [centre, width] in [modalities.scan]" in made.text


def test_the_check_says_that_files_lie_differently(cohort):
    turned = [-1, 0, 0, 0, -1, 0]
    made = cohort("volume", lambda i, path: slices(path, SIX, ImageOrientationPatient=turned if i == 2 else AXIAL))
    assert "1 of 4 files lie in another direction than the rest" in made.text
    assert "SPL in 3, SAR in 1" in made.text


def test_flipped_nifti_is_turned_by_the_reader_and_one_without_orientation_is_named(cohort):
    def make(i, path):
        nifti = nibabel.Nifti1Image(RNG.integers(0, 99, (4, 4, 4)).astype(np.int16), np.diag([(-1) ** i, 1, 1, 1]))
        if i == 3:
            nifti.set_sform(None, code=0)
            nifti.set_qform(None, code=0)
        nibabel.save(nifti, path)

    made = cohort("volume", make, ".nii")
    assert "another direction" not in made.text
    assert "1 of 4 files do not say how they lie in the patient: patient 3" in made.text


def test_the_check_says_that_only_some_files_bring_a_window(cohort):
    stored = (np.arange(16).reshape(4, 4) * 100).astype(np.uint16)
    window = {"WindowCenter": 800, "WindowWidth": 1600}
    made = cohort("image", lambda i, path: write(path, dataset(stored, **(window if i else {}))), ".dcm")
    assert "1 of 4 files do not say what is black and white" in made.text
    assert "set window" in made.text
