"""DICOM files: from stored values to black and white, against the formulas of PS3.3 and against pydicom."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    apply_windowing,
    convert_color_space,
)
from pydicom.uid import (
    HEVCMP51,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from remind.data.files import Unreadable, dicom, examine_image, read_image, read_volume
from tests.builders.dicoms import SECRET, dataset, item, slices, table_item, write

ROWS, COLUMNS = 6, 5
RNG = np.random.default_rng(11)
CT_HW = RNG.integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
HU_HW = CT_HW - 1024.0
CT = {"bits": 12, "RescaleSlope": 1, "RescaleIntercept": -1024}
BYTES_HW = RNG.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
COLOUR_HW3 = RNG.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
FILM_DHW = RNG.integers(0, 256, (4, ROWS, COLUMNS), dtype=np.uint8)
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]


@pytest.fixture
def image(tmp_path):
    """Write a dataset and read it as an image."""

    def call(made, channels=1, window=None):
        return read_image(write(tmp_path / "a.dcm", made), (made.Rows, made.Columns), channels, window, False)

    return call


@pytest.fixture
def volume(tmp_path):
    def call(made, channels=1, window=None):
        size = (made.NumberOfFrames, made.Rows, made.Columns)
        return read_volume(write(tmp_path / "a.dcm", made), size, channels, window, False)

    return call


def linear(x, c, w):
    """PS3.3 C.11.2.1.2.1, as it is written there, with y from 0 to 1."""
    y = np.empty(x.shape)
    y[x <= c - 0.5 - (w - 1) / 2] = 0
    y[x > c - 0.5 + (w - 1) / 2] = 1
    inside = (x > c - 0.5 - (w - 1) / 2) & (x <= c - 0.5 + (w - 1) / 2)
    y[inside] = (x[inside] - (c - 0.5)) / (w - 1) + 0.5 if w > 1 else 0
    return y


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


def enhanced(stored_DHW, places, slope=lambda d: 1, window=lambda d: (100, 200)):
    """A multi-frame file with functional groups; frame d at places[d] along x."""
    made = dataset(stored_DHW)
    made.SharedFunctionalGroupsSequence = [
        item(PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 0, 0, 1])])
    ]
    made.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[place, 0, 0])],
            PixelValueTransformationSequence=[item(RescaleSlope=slope(d), RescaleIntercept=0, RescaleType="US")],
            FrameVOILUTSequence=[item(WindowCenter=window(d)[0], WindowWidth=window(d)[1])],
        )
        for d, place in enumerate(places)
    ]
    return made


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


def test_no_pixels(tmp_path, refused):
    made = dataset(CT_HW)
    del made.PixelData
    said = refused(read_image, write(tmp_path / "a.dcm", made), (ROWS, COLUMNS), 1, None, False)
    assert "holds no pixels" in said
    assert SECRET not in said


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_420", "HSV", SECRET])
def test_colours_that_are_not_known(tmp_path, refused, photometric):
    path = write(tmp_path / "a.dcm", dataset(COLOUR_HW3, photometric))
    said = refused(read_image, path, (ROWS, COLUMNS), 3, None, False)
    assert "Photometric Interpretation (0028,0004)" in said
    assert "MONOCHROME2" in said
    assert SECRET not in said


def encapsulated(syntax):
    made = dataset(BYTES_HW)
    made.PixelData = encapsulate([b"\xff\xd8" + BYTES_HW.tobytes()])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    return made


def test_a_compression_without_a_decoder(tmp_path, refused, monkeypatch):
    from pydicom.pixels.decoders.base import get_decoder

    monkeypatch.setattr(get_decoder(JPEGLosslessSV1), "_available", {})
    lacking = {"pylibjpeg": ("pylibjpeg>=2.0", "pylibjpeg-libjpeg>=2.1")}
    monkeypatch.setattr(get_decoder(JPEGLosslessSV1), "_unavailable", lacking)
    path = write(tmp_path / "a.dcm", encapsulated(JPEGLosslessSV1))
    said = refused(read_image, path, (ROWS, COLUMNS), 1, None, False)
    assert "compressed as JPEG Lossless, Non-Hierarchical, First-Order Prediction" in said
    assert "install pylibjpeg>=2.0 and pylibjpeg-libjpeg>=2.1" in said


def test_a_compression_that_is_never_decoded(tmp_path, refused):
    path = write(tmp_path / "a.dcm", encapsulated(HEVCMP51))
    said = refused(read_volume, path, (1, ROWS, COLUMNS), 1, None, False)
    assert "Transfer Syntax (0002,0010) is HEVC/H.265 Main Profile" in said
    assert "save it uncompressed, or as .npy" in said
    path.write_bytes(path.read_bytes().replace(HEVCMP51.encode(), f"1.{SECRET}".encode().ljust(len(HEVCMP51), b"9")))
    said = refused(read_volume, path, (1, ROWS, COLUMNS), 1, None, False)
    assert "Transfer Syntax (0002,0010) is nothing that is known" in said
    assert SECRET not in said


def test_compressed_pixels_that_are_damaged(tmp_path, refused):
    path = write(tmp_path / "a.dcm", encapsulated(RLELossless))
    said = refused(read_image, path, (ROWS, COLUMNS), 1, None, False)
    assert "compressed as RLE Lossless, are damaged" in said


def test_sizes_that_no_machine_should_decode(tmp_path, refused):
    made = encapsulated(RLELossless)
    made.Rows, made.Columns = 60000, 60000
    said = refused(read_image, write(tmp_path / "a.dcm", made), (8, 8), 1, None, True)
    assert "is too large: 1×60000×60000" in said
    made.Rows, made.Columns, made.NumberOfFrames = 0, 5, 7
    assert "holds no pixels: 7×0×5" in refused(read_image, write(tmp_path / "a.dcm", made), (8, 8), 1, None, True)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Files of all kinds, which can be read, and their content."""
    folder = tmp_path_factory.mktemp("dicom")
    compressed = dataset(CT_HW, **CT, WindowCenter=40, WindowWidth=400)
    compressed.compress(RLELossless)
    palette = dataset(BYTES_HW % 4, "PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(palette, f"{name}PaletteColorLookupTableData", bytes([0, 80, 160, 240]))
    looked_up = dataset(CT_HW, bits=12)
    looked_up.VOILUTSequence = [table_item(0, 16, np.arange(4096) * 16)]
    several = [
        compressed,
        palette,
        looked_up,
        dataset(CT_HW, **CT, WindowCenter=40, WindowWidth=400),
        dataset(COLOUR_HW3, "RGB"),
        enhanced(FILM_DHW, range(4)),
    ]
    paths = [write(folder / f"{i}.dcm", made) for i, made in enumerate(several)]
    for path in paths:
        attempt(path)
    return [(path, path.read_bytes()) for path in paths]


def attempt(path):
    return read_volume(path, (1 if path.stem[0] != "5" else 4, ROWS, COLUMNS), 3, None, False)


def attempt_or_words(path):
    try:
        return attempt(path), ""
    except Unreadable as error:
        return None, str(error)


@given(st.data())
def test_a_file_that_is_cut_short_is_unreadable(good, data):
    path, content = data.draw(st.sampled_from(good))
    cut = path.with_name(f"{path.stem}-cut.dcm")
    length = data.draw(st.integers(0, len(content) - 1))
    cut.write_bytes(content[:length])
    seen, said = attempt_or_words(cut)
    assert seen is None or length >= len(content) - 8  # the mark that ends compressed pixels
    assert SECRET not in said


@pytest.mark.filterwarnings("ignore:Expected (im|ex)plicit VR")
@given(st.data())
def test_a_damaged_file_is_an_image_or_unreadable_and_tells_nothing(good, data):
    path, content = data.draw(st.sampled_from(good))
    spoiled = bytearray(content)
    for place in data.draw(st.lists(st.integers(132, len(content) - 1), min_size=1, max_size=6)):
        spoiled[place] = data.draw(st.integers(0, 255))
    other = path.with_name(f"{path.stem}-spoiled.dcm")
    other.write_bytes(spoiled)
    seen, said = attempt_or_words(other)
    assert seen is None or 0 <= seen.min() <= seen.max() <= 1
    assert SECRET not in said


def test_a_patient_s_name_is_not_even_parsed(tmp_path):
    path = write(tmp_path / "a.dcm", dataset(CT_HW, **CT))
    assert SECRET in str(dcmread(path))
    assert SECRET not in str(dicom._read(path))


def test_nothing_is_logged_or_warned_of(tmp_path, caplog, recwarn, capfd):
    made = dataset(CT_HW, **CT, WindowCenter=40, WindowWidth=400)
    made.add_new("SeriesInstanceUID", "UI", "1.2.3")
    path = write(tmp_path / "a.dcm", made)
    path.write_bytes(path.read_bytes().replace(b"1.2.3", b"JANE."))
    examine_image(path, (ROWS, COLUMNS), 1, None, False)
    folder = slices(tmp_path / "folder", FILM_DHW)
    for one in folder.iterdir():
        one.write_bytes(one.read_bytes().replace(b"1.2.3", b"JANE."))
    read_volume(folder, FILM_DHW.shape, 1, None, False)
    path = write(tmp_path / "b.dcm", encapsulated(RLELossless))
    with pytest.raises(Unreadable):
        examine_image(path, (ROWS, COLUMNS), 1, None, False)
    assert not caplog.records
    assert not [w for w in recwarn if "pydicom" in w.filename]
    assert capfd.readouterr() == ("", "")


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
