"""Arrays in memory: shape, channels and range, against slow and plain formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from remind.data.files import fit_image, fit_volume

SIDES = st.integers(1, 12)


def kernel(after, before):
    """Weights (after, before) of antialiased linear resampling: a triangle as wide as the step, at least as a pixel."""
    step = before / after
    distance = (np.arange(before) + 0.5)[None] - (np.arange(after) + 0.5)[:, None] * step
    weights = np.maximum(0, 1 - np.abs(distance) / max(step, 1))
    return weights / weights.sum(axis=1, keepdims=True)


@given(hnp.arrays(np.uint8, st.tuples(SIDES, SIDES)), SIDES, SIDES)
def test_an_image_is_resampled_along_both_sides(array_HW, rows, columns):
    fitted_CHW = fit_image(array_HW, (rows, columns), 1, True)
    expected_HW = kernel(rows, len(array_HW)) @ (array_HW / 255) @ kernel(columns, array_HW.shape[1]).T
    np.testing.assert_allclose(fitted_CHW, expected_HW[None], atol=2e-6)
    assert fitted_CHW.dtype == np.float32
    assert fitted_CHW.flags.c_contiguous


@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 7), SIDES, SIDES)), st.tuples(SIDES, SIDES, SIDES))
def test_a_volume_is_resampled_along_three_sides(array_DHW, size):
    kernels = [kernel(after, before) for after, before in zip(size, array_DHW.shape, strict=True)]
    expected_DHW = np.einsum("aD,bH,cW,DHW->abc", *kernels, array_DHW / 255)
    np.testing.assert_allclose(fit_volume(array_DHW, size, 1, True)[0], expected_DHW, atol=3e-6)


def test_shrinking_averages_and_does_not_pick():
    stripes_HW = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    assert abs(fit_image(stripes_HW, (8, 8), 1, True)[0, :, 1:-1] - 0.5).max() < 0.02
    flicker_DHW = np.tile(np.array([0, 255], dtype=np.uint8)[:, None, None], (16, 4, 4))
    assert abs(fit_volume(flicker_DHW, (4, 4, 4), 1, True)[0, 1:-1] - 0.5).max() < 0.04


@given(st.sampled_from([np.uint8, np.uint16, np.float32]), st.integers(0, 255), st.booleans(), st.sampled_from([1, 3]))
def test_an_even_surface_stays_even(dtype, grey, colour, channels):
    array = np.full((5, 9, 3) if colour else (5, 9), grey, dtype=dtype)
    fitted_CHW = fit_image(array, (7, 4), channels, True, window=(127.5, 255))
    assert fitted_CHW.shape == (channels, 7, 4)
    np.testing.assert_allclose(fitted_CHW, grey / 255, atol=1e-6)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.float32, np.float64, np.bool_, np.int64]),
        st.tuples(st.integers(2, 4), SIDES, SIDES),
    ).filter(lambda a: a.dtype.kind != "f" or bool(np.isfinite(a).all() and (np.abs(a) < 1e37).all())),
    st.sampled_from([1, 3]),
    st.one_of(st.none(), st.tuples(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300))),
)
def test_whatever_the_numbers_the_result_lies_in_0_1(array_DHW, channels, window):
    fitted_CDHW = fit_volume(array_DHW, (2, 5, 6), channels, True, window)
    assert fitted_CDHW.shape == (channels, 2, 5, 6)
    assert fitted_CDHW.min() >= 0
    assert fitted_CDHW.max() <= 1


def test_the_range_of_the_type():
    for dtype, most in ((np.uint8, 255), (np.uint16, 65535)):
        array_HW = np.array([[0, most // 3, most]], dtype=dtype)
        np.testing.assert_allclose(fit_image(array_HW, (1, 3), 1, False), [[[0, 1 / 3, 1]]], atol=1e-6)
    assert fit_image(np.array([[False, True]]), (1, 2), 1, False).tolist() == [[[0, 1]]]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float16, np.float32, np.float64])
def test_the_own_range_is_robust(dtype):
    array_HW = np.arange(1000).reshape(20, 50).astype(dtype)
    low, high = 5, 994  # a half percent of the values lies beyond each
    expected = np.clip((array_HW.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(fit_image(array_HW, (20, 50), 1, False)[0], expected, atol=1e-5)
    array_HW[0, 0] = 30000  # one hot pixel
    np.testing.assert_allclose(fit_image(array_HW, (20, 50), 1, False)[0, 1:], expected[1:], atol=3e-3)


def test_a_small_lesion_in_a_mask_is_seen():
    mask_DHW = np.zeros((10, 30, 30), dtype=np.float32)
    mask_DHW[4, 5:8, 5:8] = 7
    np.testing.assert_array_equal(fit_volume(mask_DHW, (10, 30, 30), 1, False)[0], mask_DHW / 7)


def test_one_value_only_is_black():
    assert not fit_image(np.full((3, 4), -7.5), (3, 4), 3, False).any()


def test_a_window_is_centre_and_width():
    array_HW = np.array([[-1000, -160, 40, 140, 240, 3000]], dtype=np.int16)
    fitted = fit_image(array_HW, (1, 6), 1, False, window=(40, 400))
    np.testing.assert_allclose(fitted, [[[0, 0, 0.5, 0.75, 1, 1]]], atol=1e-6)


def test_channels():
    colour_HW3 = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(fit_image(colour_HW3, (1, 4), 1, False)[0], [[0.299, 0.587, 0.114, 1]], atol=1e-6)
    np.testing.assert_array_equal(fit_image(colour_HW3, (1, 4), 3, False)[:, 0], colour_HW3[0].T / np.float32(255))
    grey_CHW = fit_image(np.array([[0, 51]], dtype=np.uint8), (1, 2), 3, False)
    np.testing.assert_allclose(grey_CHW, np.broadcast_to(np.array([[[0, 0.2]]], np.float32), (3, 1, 2)))
    film_DHW3 = np.stack([colour_HW3, colour_HW3[:, ::-1]])
    film_CDHW = fit_volume(film_DHW3, (2, 1, 4), 3, False)
    np.testing.assert_array_equal(film_CDHW[:, 1, 0], colour_HW3[0, ::-1].T / np.float32(255))


def test_another_size_is_refused_with_both_sizes(refused):
    said = refused(fit_image, np.zeros((8, 9), np.uint8), (4, 5), 1, False)
    assert "is 8×9, not 4×5" in said
    assert "resize = true" in said
    assert "is 2×8×9, not 2×8×8" in refused(fit_volume, np.zeros((2, 8, 9), np.uint8), (2, 8, 8), 1, False)


@pytest.mark.parametrize("shape", [(), (4,), (2, 4, 4), (4, 4, 4), (4, 4, 1), (1, 4, 4, 3)])
def test_no_image(refused, shape):
    said = refused(fit_image, np.zeros(shape, np.uint8), (4, 4), 1, True)
    assert "an image is H×W or H×W×3" in said


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4, 1), (2, 4, 4, 4), (2, 2, 4, 4, 3)])
def test_no_volume(refused, shape):
    said = refused(fit_volume, np.zeros(shape, np.uint8), (2, 4, 4), 1, True)
    assert "a volume or video is D×H×W or D×H×W×3" in said


def test_one_slice_is_not_stretched_to_a_volume(refused):
    assert "single frame" in refused(fit_volume, np.zeros((1, 4, 4), np.uint8), (2, 4, 4), 1, True)
    assert fit_volume(np.zeros((1, 4, 4), np.uint8), (1, 2, 2), 1, True).shape == (1, 1, 2, 2)


def test_what_are_no_pixels(refused):
    assert "holds no pixels: 1×0×4" in refused(fit_image, np.zeros((0, 4), np.uint8), (4, 4), 1, True)
    assert "is too large: 1×1×67108865" in refused(fit_image, np.empty((1, 2**26 + 1), np.uint8), (4, 4), 1, True)
    huge = np.broadcast_to(np.uint8(0), (2**10, 2**10, 2**11))
    assert "is too large: 1024×1024×2048" in refused(fit_volume, huge, (4, 4, 4), 1, True)
    assert "holds complex64, not numbers" in refused(fit_image, np.zeros((4, 4), np.complex64), (4, 4), 1, True)
    assert "not numbers" in refused(fit_image, np.full((4, 4), "SECRET"), (4, 4), 1, True)
    wrong_HW = np.ones((4, 5))
    wrong_HW[1, 2:4] = np.nan, np.inf
    assert "2 of 20 values are NaN or infinite" in refused(fit_image, wrong_HW, (4, 5), 1, False, window=(0, 1))
    assert "too large to compute" in refused(fit_image, np.array([[-1.7e308, 1.7e308]]), (1, 2), 1, False)
