"""DICOM files that cannot be read are named, and tell nothing about a patient."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import HEVCMP51, JPEGLosslessSV1, RLELossless

from remind.data.files import Unreadable, dicom, examine_image, read_image, read_volume
from tests.builders.dicoms import SECRET, dataset, slices, table_item, write
from tests.data.files.dicom_pixels import (
    BYTES_HW,
    COLOUR_HW3,
    COLUMNS,
    CT,
    CT_HW,
    FILM_DHW,
    ROWS,
    encapsulated,
    enhanced,
)


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
