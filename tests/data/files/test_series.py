"""Folders of DICOM slices: their order, and slices that do not belong together."""

import numpy as np
import pytest

from remind.data.files import examine_volume, read_image, read_volume
from tests.builders.dicoms import SECRET, dataset, slices, write

VOLUME_DHW = np.random.default_rng(3).integers(0, 256, (5, 6, 4), dtype=np.uint8)
SIZE = VOLUME_DHW.shape


def read(folder, window=None):
    return read_volume(folder, SIZE, 1, window, False)[0]


def test_slices_lie_along_their_normal_whatever_their_names(tmp_path):
    names = [f"{name}" for name in ("c.dcm", "a", "e.dcm", "b.dcm", "d")]
    folder = slices(tmp_path, VOLUME_DHW, names, InstanceNumber=lambda d: 5 - d)
    (folder / "DICOMDIR").write_text("no slice")
    (folder / ".hidden").write_text("no slice")
    np.testing.assert_allclose(read(folder), VOLUME_DHW / 255, atol=1e-6)
    assert examine_volume(folder, SIZE, 1, None, False).shape == SIZE


def test_an_oblique_stack_and_its_reverse(tmp_path):
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    row, column, normal = turn[0], turn[1], np.cross(turn[0], turn[1])
    axes = [float(v) for v in (*row, *column)]
    for sign, expected_DHW in ((1, VOLUME_DHW), (-1, VOLUME_DHW[::-1])):

        def place(d, sign=sign):
            return [round(float(v), 6) for v in sign * 2.5 * d * normal + 40 * row]

        folder = slices(
            tmp_path / str(sign),
            VOLUME_DHW,
            ImageOrientationPatient=[round(v, 9) for v in axes],
            ImagePositionPatient=place,
        )
        np.testing.assert_allclose(read(folder), expected_DHW / 255, atol=1e-6)


def test_axes_that_a_device_has_rounded(tmp_path):
    axes = [0.706, 0.706, 0, -0.706, 0.706, 0]  # cut off after three digits: a little short
    folder = slices(
        tmp_path,
        VOLUME_DHW,
        ImageOrientationPatient=axes,
        InstanceNumber=None,
        ImagePositionPatient=lambda d: [0, 0, d],
    )
    np.testing.assert_allclose(read(folder), VOLUME_DHW / 255, atol=1e-6)


@pytest.mark.parametrize("lacking", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_without_geometry_the_instance_number(tmp_path, lacking):
    folder = slices(tmp_path, VOLUME_DHW, InstanceNumber=lambda d: 10 - d, **{lacking: None})
    np.testing.assert_allclose(read(folder), VOLUME_DHW[::-1] / 255, atol=1e-6)


def test_a_film_of_one_slice_goes_by_instance_number(tmp_path):
    folder = slices(tmp_path, VOLUME_DHW, InstanceNumber=lambda d: 10 - d, ImagePositionPatient=[1, 2, 3])
    np.testing.assert_allclose(read(folder), VOLUME_DHW[::-1] / 255, atol=1e-6)


def test_every_slice_has_its_own_slope(tmp_path):
    """As in PET."""
    folder = slices(tmp_path, VOLUME_DHW, RescaleSlope=lambda d: 0.5 * (d + 1), RescaleIntercept=0)
    activity_DHW = VOLUME_DHW * 0.5 * np.arange(1, 6)[:, None, None]
    np.testing.assert_allclose(read(folder, (200, 400)), np.clip(activity_DHW / 400, 0, 1), atol=1e-6)


def test_one_range_for_the_whole_volume(tmp_path):
    folder = slices(tmp_path, VOLUME_DHW, WindowCenter=lambda d: 100 + d, WindowWidth=100)
    np.testing.assert_allclose(read(folder), VOLUME_DHW / 255, atol=1e-6)


def test_one_file_with_frames_in_a_folder(tmp_path):
    write(tmp_path / "cine", dataset(VOLUME_DHW))
    np.testing.assert_allclose(read(tmp_path), VOLUME_DHW / 255, atol=1e-6)


def spoil_text(folder):
    (folder / "notes.txt").write_text(SECRET)


def spoil_folder(folder):
    (folder / "other").mkdir()


def spoil_frames(folder):
    write(folder / "cine.dcm", dataset(VOLUME_DHW, SeriesInstanceUID="1.2.3"))


def spoil_size(folder):
    write(folder / "x.dcm", dataset(VOLUME_DHW[0].T, SeriesInstanceUID="1.2.3"))


def spoil_kind(folder):
    write(folder / "x.dcm", dataset(VOLUME_DHW[0], "MONOCHROME1", SeriesInstanceUID="1.2.3"))


def spoil_end(folder):
    path = folder / "003.dcm"
    path.write_bytes(path.read_bytes()[:-3])


def spoil_start(folder):
    path = folder / "003.dcm"
    path.write_bytes(path.read_bytes()[:100])


def spoil_all(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "what", "remedy"),
    [
        (spoil_text, "notes.txt in it: is no DICOM file", "slices of one series alone"),
        (spoil_folder, "other in it: is no DICOM file", "slices of one series alone"),
        (spoil_frames, "cine.dcm in it holds several frames", "name that file itself"),
        (spoil_size, "000.dcm and x.dcm in it differ in Rows", "slices of one series alone"),
        (spoil_kind, "000.dcm and x.dcm in it differ in PhotometricInterpretation", "slices of one series alone"),
        (spoil_end, "003.dcm in it: ", "export it again"),
        (spoil_start, "003.dcm in it: is no DICOM file", "slices of one series alone"),
        (spoil_all, "is a folder without files", "put the DICOM slices"),
    ],
)
def test_what_does_not_belong_together(tmp_path, refused, spoil, what, remedy):
    folder = slices(tmp_path, VOLUME_DHW)
    spoil(folder)
    said = refused(read_volume, folder, SIZE, 1, None, True)
    assert what in said
    assert remedy in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"SeriesInstanceUID": lambda d: f"1.2.{d // 3}"}, "holds slices of 2 series"),
        ({"ImageOrientationPatient": lambda d: [1, 0, 0, 0, 0, -1] if d == 2 else [1, 0, 0, 0, 1, 0]}, "not parallel"),
        ({"ImagePositionPatient": lambda d: [0, 0, d // 2]}, "several slices lie at one place"),
        ({"ImagePositionPatient": None, "InstanceNumber": None}, "cannot be put in order"),
        ({"ImagePositionPatient": None, "InstanceNumber": lambda d: d // 2}, "cannot be put in order"),
    ],
)
def test_slices_that_are_no_volume(tmp_path, refused, attributes, what):
    folder = slices(tmp_path, VOLUME_DHW, **attributes)
    assert what in refused(read_volume, folder, SIZE, 1, None, True)


def test_a_folder_is_no_image(tmp_path, refused):
    slices(tmp_path, VOLUME_DHW)
    assert "declare it as a volume" in refused(read_image, tmp_path, SIZE[1:], 1, None, True)
