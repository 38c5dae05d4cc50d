"""DICOM files: from stored values to black and white, against the formulas of PS3.3 and against pydicom."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from remind.data.files import read_image
from tests.builders.dicoms import dataset, table_item, write
from tests.data.files.dicom_pixels import BYTES_HW, COLUMNS, CT, CT_HW, HU_HW, ROWS, SYNTAXES, linear


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (1000, 1), (0, 2)])
def test_the_file_s_own_window(image, syntax, centre, width):
    made = dataset(CT_HW, **CT, WindowCenter=centre, WindowWidth=width)
    if syntax is RLELossless:
        made.compress(RLELossless)
    elif syntax is ExplicitVRBigEndian:
        made = dataset(CT_HW, **CT, WindowCenter=centre, WindowWidth=width, syntax=syntax)
    else:
        made.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_allclose(image(made)[0], linear(HU_HW, centre, width), atol=1e-6)


def test_the_first_of_several_windows(image):
    made = dataset(CT_HW, **CT, WindowCenter=[40, -600], WindowWidth=[400, 1500])
    np.testing.assert_allclose(image(made)[0], linear(HU_HW, 40, 400), atol=1e-6)


@given(
    c=st.floats(-2000, 4000),
    w=st.floats(1.5, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.floats(0.01, 10),
    inverted=st.booleans(),
)
def test_windows_as_pydicom_applies_them(tmp_path_factory, c, w, function, slope, inverted):
    c, w, slope = (round(v, 3) for v in (c, w, slope))
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    attributes = {"bits": 12, "RescaleSlope": slope, "RescaleIntercept": -5, "VOILUTFunction": function}
    made = dataset(CT_HW, photometric, **attributes, WindowCenter=c, WindowWidth=w)
    lowest, highest = -5, 4095 * slope - 5
    seen = (apply_windowing(apply_modality_lut(CT_HW, made), made) - lowest) / (highest - lowest)
    path = write(tmp_path_factory.getbasetemp() / "window.dcm", made)
    read_CHW = read_image(path, (ROWS, COLUMNS), 1, None, False)
    np.testing.assert_allclose(read_CHW[0], 1 - seen if inverted else seen, atol=2e-3 if w < 10 else 2e-5)


def test_a_negative_slope_is_a_negative(image):
    made = dataset(CT_HW, bits=12, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(image(made)[0], linear(4095.0 - CT_HW, 2048, 4096), atol=1e-6)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "BENT"},
    ],
)
def test_without_a_usable_window_the_own_range(image, attributes):
    low, high = HU_HW.min(), HU_HW.max()  # of 30 values the percentiles 0.5 and 99.5 are the first and the last
    np.testing.assert_allclose(image(dataset(CT_HW, **CT, **attributes))[0], (HU_HW - low) / (high - low), atol=1e-6)


def test_the_caller_s_window_comes_first(image):
    made = dataset(CT_HW, **CT, WindowCenter=-600, WindowWidth=1500)
    made.VOILUTSequence = [table_item(0, 16, range(4096))]
    expected_HW = np.clip((HU_HW - 40) / 400 + 0.5, 0, 1)  # LINEAR_EXACT, as for every other format
    np.testing.assert_allclose(image(made, window=(40, 400))[0], expected_HW, atol=1e-6)
    made.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_allclose(image(made, window=(40, 400))[0], 1 - expected_HW, atol=1e-6)


def test_monochrome1_is_the_exact_negative(image):
    seen = image(dataset(BYTES_HW))
    np.testing.assert_array_equal(seen[0], BYTES_HW / np.float32(255))
    np.testing.assert_array_equal(image(dataset(255 - BYTES_HW, "MONOCHROME1")), seen)


def test_up_to_eight_bits_are_shown_over_their_range(image):
    np.testing.assert_allclose(image(dataset(BYTES_HW // 8, bits=5))[0], (BYTES_HW // 8) / 31, atol=1e-6)
    made = dataset(BYTES_HW, RescaleSlope=1, RescaleIntercept=0)
    np.testing.assert_allclose(image(made)[0], BYTES_HW / 255, atol=1e-6)
    made = dataset(BYTES_HW, RescaleSlope=2, RescaleIntercept=0)  # in units of something: not a picture
    least, most = BYTES_HW.min(), BYTES_HW.max()
    np.testing.assert_allclose(image(made)[0], (BYTES_HW - float(least)) / (most - float(least)), atol=1e-6)


def test_one_bit_per_pixel(image):
    bits_HW = BYTES_HW > 99
    made = dataset(bits_HW.astype(np.uint8))
    made.BitsAllocated, made.BitsStored, made.HighBit = 1, 1, 0
    made.PixelData = np.packbits(bits_HW.ravel(), bitorder="little").tobytes()
    np.testing.assert_array_equal(image(made)[0], bits_HW)


def test_floats(image):
    made = dataset(CT_HW)
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.BitsAllocated = 32
    made.FloatPixelData = (HU_HW / 7).astype("<f4").tobytes()
    expected_HW = np.clip((HU_HW / 7 - 10) / 100 + 0.5, 0, 1)
    np.testing.assert_allclose(image(made, window=(10, 100))[0], expected_HW, atol=1e-5)


def test_bits_beside_the_stored_ones_do_not_count(image):
    made = dataset(CT_HW | 0x8000, bits=12, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(image(made)[0], linear(CT_HW.astype(float), 2048, 4096), atol=1e-6)


PYDICOM_FILES = [
    ("MR_small.dcm", "MR_small_RLE.dcm", 0),
    ("MR_small.dcm", "MR_small_jp2klossless.dcm", 0),
    ("MR_small.dcm", "MR_small_bigendian.dcm", 0),
    ("MR_small.dcm", "MR_small_implicit.dcm", 0),
    ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm", 0),
    ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", 0.1),
]


@pytest.mark.parametrize(("one", "other", "atol"), PYDICOM_FILES)
def test_one_image_in_two_codings(one, other, atol):
    """Files of real devices that come with pydicom."""
    folder = Path(pydicom.data.data_manager.DATA_ROOT) / "test_files"
    if not (folder / one).exists():
        pytest.skip("this pydicom comes without its test files")
    first, second = (read_image(folder / name, (64, 64), 3, None, True) for name in (one, other))
    assert np.ptp(first) > 0.3
    np.testing.assert_allclose(first, second, atol=atol)
