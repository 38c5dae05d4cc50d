"""NIfTI: position, scale and time, against nibabel and against places in space."""

import gzip
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.data.files import examine_volume, read_image, read_volume

RNG = np.random.default_rng(13)
VALUES_XYZ = RNG.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
WINDOW = (0, 2000)


def save(path, values, affine=None, kind=nibabel.Nifti1Image, slope=None, inter=0):
    image = kind(values, np.eye(4) if affine is None else affine)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_volume_lies_as_an_axial_dicom_series(tmp_path, suffix, kind):
    path = save(tmp_path / f"a{suffix}", VALUES_XYZ, kind=kind)  # x to the right, y to the front, z to the head
    expected_DHW = VALUES_XYZ[::-1, ::-1].transpose(2, 1, 0) / 2000 + 0.5
    np.testing.assert_allclose(read_volume(path, (6, 5, 4), 1, WINDOW, False)[0], expected_DHW, atol=1e-6)
    assert examine_volume(path, (6, 5, 4), 1, WINDOW, False).shape == (6, 5, 4)


def test_flipped_axes_change_nothing(tmp_path):
    """The same head, stored with x to the left."""
    path = save(tmp_path / "a.nii", VALUES_XYZ)
    flipped = save(tmp_path / "b.nii", VALUES_XYZ[::-1], np.diag([-1, 1, 1, 1]))
    one, other = (read_volume(p, (6, 5, 4), 1, WINDOW, False) for p in (path, flipped))
    np.testing.assert_array_equal(one, other)


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.integers(0, 119))
def test_a_place_in_space_is_found_however_it_is_stored(tmp_path_factory, axes, signs, place):
    affine = np.zeros((4, 4))
    for stored, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, stored] = sign * (stored + 1.5)
    affine[:, 3] = 10, -20, 30, 1
    affine[:3, :3] += 0.05  # a little oblique
    values = np.zeros((4, 5, 6), dtype=np.int16)
    voxel = np.unravel_index(place, values.shape)
    values[voxel] = 1000
    path = save(tmp_path_factory.getbasetemp() / "place.nii", values, affine)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    shape = canonical.shape[::-1]
    seen_DHW = read_volume(path, shape, 1, (500, 1000), False)[0]
    np.testing.assert_array_equal(seen_DHW, canonical.get_fdata()[::-1, ::-1].transpose(2, 1, 0) / 1000)
    d, h, w = (int(i) for i in np.argwhere(seen_DHW)[0])
    right_anterior_superior = [canonical.shape[0] - 1 - w, canonical.shape[1] - 1 - h, d, 1]
    np.testing.assert_allclose(canonical.affine @ right_anterior_superior, affine @ [*voxel, 1], atol=1e-4)


def test_slope_and_intercept(tmp_path):
    path = save(tmp_path / "a.nii.gz", VALUES_XYZ, slope=0.5, inter=100)
    image: Any = nibabel.load(path)
    stored_XYZ = np.asarray(image.dataobj.get_unscaled())
    expected_DHW = (stored_XYZ * 0.5 + 100)[::-1, ::-1].transpose(2, 1, 0) / 2000 + 0.5
    np.testing.assert_allclose(read_volume(path, (6, 5, 4), 1, WINDOW, False)[0], expected_DHW, atol=1e-6)


def test_without_a_window_the_own_range(tmp_path):
    least, most = np.sort(VALUES_XYZ.ravel())[[1, -2]]  # a half percent of 120 values
    expected_DHW = np.clip((VALUES_XYZ - float(least)) / (most - least), 0, 1)[::-1, ::-1].transpose(2, 1, 0)
    path = save(tmp_path / "a.nii", VALUES_XYZ)
    np.testing.assert_allclose(read_volume(path, (6, 5, 4), 1, None, False)[0], expected_DHW, atol=1e-6)


def test_one_slice_over_time_is_a_video(tmp_path, refused):
    film_XYT = VALUES_XYZ
    path = save(tmp_path / "a.nii", film_XYT[:, :, None])
    expected_DHW = film_XYT[::-1, ::-1].transpose(2, 1, 0) / 2000 + 0.5
    np.testing.assert_allclose(read_volume(path, (6, 5, 4), 1, WINDOW, False)[0], expected_DHW, atol=1e-6)
    coronal = save(tmp_path / "b.nii", film_XYT[:, None])  # X×1×Z×T
    expected_DHW = film_XYT[::-1].transpose(2, 1, 0) / 2000 + 0.5
    np.testing.assert_allclose(read_volume(coronal, (6, 5, 4), 1, WINDOW, False)[0], expected_DHW, atol=1e-6)
    assert "holds 6 frames" in refused(read_image, path, (5, 4), 1, WINDOW, False)


def test_volumes_over_time_are_refused(tmp_path, refused):
    path = save(tmp_path / "a.nii", RNG.integers(0, 9, (4, 5, 6, 3)).astype(np.int16))
    said = refused(read_volume, path, (6, 5, 4), 1, None, True)
    assert "is 4×5×6×3: several volumes" in said
    assert "one volume per file" in said
    once = save(tmp_path / "b.nii", VALUES_XYZ[..., None])
    assert read_volume(once, (6, 5, 4), 1, None, False).shape == (1, 6, 5, 4)
    vectors = save(tmp_path / "c.nii", RNG.integers(0, 9, (4, 5, 1, 1, 3)).astype(np.int16))
    assert "several volumes" in refused(read_volume, vectors, (6, 5, 4), 1, None, True)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 1, 1)])
def test_one_slice_is_an_image(tmp_path, refused, shape):
    values = RNG.integers(0, 100, (4, 5)).astype(np.int16)
    path = save(tmp_path / "a.nii", values.reshape(shape))
    expected_HW = values[::-1, ::-1].T / 2000 + 0.5
    np.testing.assert_allclose(read_image(path, (5, 4), 1, WINDOW, False)[0], expected_HW, atol=1e-6)
    assert "single frame" in refused(read_volume, path, (2, 5, 4), 1, WINDOW, True)


def test_a_volume_is_no_image(tmp_path, refused):
    path = save(tmp_path / "a.nii", VALUES_XYZ)
    said = refused(read_image, path, (5, 4), 1, None, True)
    assert "holds 6 frames, an image is one" in said


def test_what_is_no_volume(tmp_path, refused):
    volume = VALUES_XYZ.astype(np.float32)
    volume[1, 2, 3] = np.nan
    said = refused(read_volume, save(tmp_path / "a.nii", volume), (6, 5, 4), 1, None, True)
    assert "1 of 120 values are NaN or infinite" in said
    colours = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colours" in refused(read_volume, save(tmp_path / "b.nii", colours), (6, 5, 4), 1, None, True)
    image = nibabel.Nifti1Image(VALUES_XYZ, np.eye(4))
    image.header["srow_z"] = 0  # two of three axes
    image.header["sform_code"] = 1
    (tmp_path / "c.nii").write_bytes(image.header.binaryblock + bytes(4) + VALUES_XYZ.tobytes(order="F"))
    path = tmp_path / "c.nii"
    assert "affine" in refused(read_volume, path, (6, 5, 4), 1, None, True)
    (tmp_path / "d.nii").write_text("SECRET")
    assert "is damaged" in refused(read_volume, tmp_path / "d.nii", (6, 5, 4), 1, None, True)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_cut_short(tmp_path, refused, suffix):
    path = save(tmp_path / f"a{suffix}", RNG.integers(0, 1000, (8, 9, 10)).astype(np.int16))
    content = path.read_bytes()
    for length in (1, 100, 360, len(content) // 2, len(content) - 20):
        path.write_bytes(content[:length])
        assert "is damaged" in refused(read_volume, path, (10, 9, 8), 1, None, True)


def test_a_bomb(tmp_path, refused):
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    with gzip.open(tmp_path / "a.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(1000))
    assert "is too large" in refused(read_volume, tmp_path / "a.nii.gz", (6, 5, 4), 1, None, True)
