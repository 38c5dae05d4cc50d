"""DICOM files: lookup tables, padding, colours and frames, against pydicom."""

import numpy as np
import pytest
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from remind.data.files import read_image, read_volume
from tests.builders.dicoms import dataset, table_item, write
from tests.data.files.dicom_pixels import (
    BYTES_HW,
    COLOUR_HW3,
    COLUMNS,
    CT,
    CT_HW,
    FILM_DHW,
    HU_HW,
    RNG,
    ROWS,
    enhanced,
    linear,
)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_modality_lut(image, syntax):
    table = (np.arange(4000) * 16 % 60000).astype(np.uint16)
    made = dataset(CT_HW, bits=12, WindowCenter=30000, WindowWidth=50000, syntax=syntax)
    made.ModalityLUTSequence = [table_item(50, 16, table)]
    values_HW = table[np.clip(CT_HW.astype(int) - 50, 0, 3999)]
    np.testing.assert_array_equal(apply_modality_lut(CT_HW, made), values_HW)
    np.testing.assert_allclose(image(made)[0], linear(values_HW.astype(float), 30000, 50000), atol=1e-6)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_lut(image, syntax, bits):
    table = np.arange(4096)[::-1] * (2**bits - 1) // 4095
    made = dataset(CT_HW, **CT, WindowCenter=40, WindowWidth=400, syntax=syntax)
    made.VOILUTSequence = [table_item(-1024, bits, table)]
    np.testing.assert_allclose(image(made)[0], table[CT_HW] / (2**bits - 1), atol=1e-6)
    if bits > 8:  # pydicom 3.0 wraps 8-bit tables
        seen_HW = apply_voi_lut(HU_HW.astype(np.int32), made) / (2**bits - 1)
        np.testing.assert_allclose(image(made)[0], seen_HW, atol=1e-6)


def test_a_voi_lut_of_packed_bytes(image):
    made = dataset(BYTES_HW)
    made.VOILUTSequence = [table_item(0, 8, np.zeros(256))]
    made.VOILUTSequence[0].LUTData = bytes(range(255, -1, -1))
    np.testing.assert_allclose(image(made)[0], 1 - BYTES_HW / 255, atol=1e-6)


@pytest.mark.parametrize("bits", [0, 17])
def test_a_lookup_table_of_nothing(image, refused, bits):
    made = dataset(BYTES_HW)
    made.VOILUTSequence = [table_item(0, bits, np.zeros(256))]
    assert f"entries of {bits} bits" in refused(image, made)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_padding_is_black_and_does_not_count(image, syntax):
    values_HW = HU_HW.astype(np.int16)
    values_HW[0], values_HW[1, 0] = -2000, -1999
    made = dataset(values_HW, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1999, syntax=syntax)
    made["PixelPaddingValue"].VR = made["PixelPaddingRangeLimit"].VR = "SS"
    kept = HU_HW.ravel()[COLUMNS + 1 :]
    expected_HW = np.clip((HU_HW - kept.min()) / (kept.max() - kept.min()), 0, 1)
    expected_HW[0], expected_HW[1, 0] = 0, 0
    np.testing.assert_allclose(image(made)[0], expected_HW, atol=1e-6)
    made.PhotometricInterpretation = "MONOCHROME1"
    negative_HW = 1 - expected_HW
    negative_HW[0], negative_HW[1, 0] = 0, 0
    np.testing.assert_allclose(image(made)[0], negative_HW, atol=1e-6)


def test_padding_that_a_device_wrote_unsigned(image):
    values_HW = HU_HW.astype(np.int16)
    values_HW[0] = -2000
    made = dataset(values_HW)
    made.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert image(made)[0, 1:].min() == 0  # the lowest value beside the padding
    assert not image(made)[0, 0].any()


def test_rgb(image):
    expected = COLOUR_HW3.transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(image(dataset(COLOUR_HW3, "RGB"), channels=3), expected)
    by_plane = dataset(COLOUR_HW3, "RGB", PlanarConfiguration=1)
    by_plane.PixelData = COLOUR_HW3.transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(image(by_plane, channels=3), expected)
    compressed = dataset(COLOUR_HW3, "RGB")
    compressed.compress(RLELossless)
    np.testing.assert_array_equal(image(compressed, channels=3), expected)
    np.testing.assert_allclose(image(compressed)[0], COLOUR_HW3 @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    deep = dataset(COLOUR_HW3.astype(np.uint16) * 16, "RGB", bits=12)
    np.testing.assert_allclose(image(deep, channels=3), expected * 255 * 16 / 4095, atol=1e-6)


def test_ybr(image):
    coded_HW3 = convert_color_space(COLOUR_HW3, "RGB", "YBR_FULL")
    seen = image(dataset(coded_HW3, "YBR_FULL"), channels=3)
    np.testing.assert_allclose(seen, COLOUR_HW3.transpose(2, 0, 1) / 255, atol=3 / 255)  # to and fro in whole numbers


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette(tmp_path, frames, bits):
    stored = RNG.integers(0, 4, (frames, ROWS, COLUMNS), dtype=np.uint8)
    made = dataset(stored, "PALETTE COLOR")
    most = 2**bits - 1
    colours = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5], [1, 1, 1]], dtype=f"<u{bits // 8}") * (most // 5)
    for name, entries in zip(("Red", "Green", "Blue"), colours.T, strict=True):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [4, 0, bits])
        setattr(made, f"{name}PaletteColorLookupTableData", entries.tobytes())
    np.testing.assert_array_equal(apply_color_lut(stored, made), colours[stored])
    path = write(tmp_path / "a.dcm", made)
    expected = colours[stored].transpose(3, 0, 1, 2) / most
    np.testing.assert_allclose(read_volume(path, stored.shape, 3, None, False), expected, atol=1e-6)


def test_frames(volume, tmp_path, refused):
    np.testing.assert_allclose(volume(dataset(FILM_DHW))[0], FILM_DHW / 255, atol=1e-6)
    compressed = dataset(FILM_DHW)
    compressed.compress(RLELossless)
    np.testing.assert_allclose(volume(compressed, channels=3)[2], FILM_DHW / 255, atol=1e-6)
    said = refused(read_image, tmp_path / "a.dcm", (ROWS, COLUMNS), 1, None, False)
    assert "holds 4 frames, an image is one" in said
    assert "declare it as a volume or a video" in said


def test_functional_groups(volume):
    seen = volume(enhanced(FILM_DHW, [3, 1, 2, 0], slope=lambda d: d + 1))
    scaled_DHW = FILM_DHW * np.arange(1, 5)[:, None, None]
    np.testing.assert_allclose(seen[0], linear(scaled_DHW.astype(float), 100, 200)[[3, 1, 2, 0]], atol=1e-6)


def test_frames_with_windows_of_their_own_stay_comparable(volume):
    seen = volume(enhanced(FILM_DHW.astype(np.uint16), range(4), window=lambda d: (100 + d, 200)))
    shown = set(zip(FILM_DHW.ravel().tolist(), seen.ravel().tolist(), strict=True))
    assert len(shown) == len(np.unique(FILM_DHW))  # one value is shown in one way
    assert [grey for _, grey in sorted(shown)] == sorted(grey for _, grey in shown)


def test_frames_at_one_place_keep_their_order(volume):
    seen = volume(enhanced(FILM_DHW, [5, 5, 5, 5], window=lambda d: (128, 256)))
    np.testing.assert_allclose(seen[0], FILM_DHW / 255, atol=1e-6)


def test_several_times_in_one_file(volume, refused):
    assert "several slices lie at one place" in refused(volume, enhanced(FILM_DHW, [0, 1, 0, 1]))
