"""NumPy's .npy files."""

import numpy as np
import pytest

from remind.data.files import examine_image, fit_image, fit_volume, read_image, read_volume

RNG = np.random.default_rng(17)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i2", "f2", "f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_file_reads_as_its_array(tmp_path, dtype, order, colour):
    array_DHW = np.asarray(RNG.integers(0, 200, (3, 6, 5, 3) if colour else (3, 6, 5)).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array_DHW)
    for size, resize in (((3, 6, 5), False), ((2, 4, 8), True)):
        seen_CDHW = read_volume(tmp_path / "a.npy", size, 3, None, resize)
        np.testing.assert_array_equal(seen_CDHW, fit_volume(array_DHW.copy(order="C"), size, 3, resize))
    np.save(tmp_path / "b.npy", array_DHW[0])
    seen_CHW = read_image(tmp_path / "b.npy", (6, 5), 1, (100, 200), False)
    np.testing.assert_array_equal(seen_CHW, fit_image(array_DHW[0], (6, 5), 1, False, window=(100, 200)))
    assert examine_image(tmp_path / "b.npy", (6, 5), 1, None, False).shape == (1, 6, 5)


def test_what_comes_out_is_no_part_of_the_file(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((6, 5), np.float32))
    image_CHW = read_image(tmp_path / "a.npy", (6, 5), 1, (0.5, 1), False)
    image_CHW += 1
    assert (read_image(tmp_path / "a.npy", (6, 5), 1, (0.5, 1), False) == 1).all()


def test_other_dimensions(tmp_path, refused):
    np.save(tmp_path / "a.npy", np.zeros((4, 6, 5), np.uint8))
    said = refused(read_image, tmp_path / "a.npy", (6, 5), 1, None, True)
    assert "is an array of shape 4×6×5, an image is H×W or H×W×3" in said
    assert "declare it as a volume or video" in said
    np.save(tmp_path / "b.npy", np.zeros((6, 5), np.uint8))
    said = refused(read_volume, tmp_path / "b.npy", (4, 6, 5), 1, None, True)
    assert "is an array of shape 6×5, a volume or video is D×H×W or D×H×W×3" in said
    assert "declare it as an image" in said


@pytest.mark.parametrize("length", [7, 40, 128, 140, -1])
def test_cut_short(tmp_path, refused, length):
    np.save(tmp_path / "a.npy", np.zeros((6, 5), np.uint8))
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:length])
    assert "is truncated" in refused(read_image, path, (6, 5), 1, None, True)


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def test_nothing_is_unpickled(tmp_path, refused, capsys):
    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    assert "not an array of numbers" in refused(read_image, tmp_path / "a.npy", (6, 5), 1, None, True)
    assert not capsys.readouterr().out


def test_no_pixels(tmp_path, refused):
    np.save(tmp_path / "a.npy", np.zeros((0, 5), np.uint8))
    refused(read_image, tmp_path / "a.npy", (6, 5), 1, None, True)
    wrong = np.ones((6, 5))
    wrong[2, 3] = np.inf
    np.save(tmp_path / "b.npy", wrong)
    assert "1 of 30 values are NaN" in refused(read_image, tmp_path / "b.npy", (6, 5), 1, None, True)
