"""PNG, JPEG, TIFF, GIF, BMP: pixels of correct files, and messages about others."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from remind.data.files import Unreadable, examine_image, examine_volume, read_image, read_volume

# What Pillow itself says of damaged files and of bombs.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Image size", "ignore:Metadata Warning")

ROWS, COLUMNS = 12, 9
RNG = np.random.default_rng(7)
GREY_HW = RNG.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
DEEP_HW = RNG.integers(0, 65536, (ROWS, COLUMNS), dtype=np.uint16)
COLOUR_HW3 = RNG.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
FILM_DHW = RNG.integers(0, 256, (4, ROWS, COLUMNS), dtype=np.uint8)


def read(path, channels=1, window=None, size=(ROWS, COLUMNS)):
    return read_image(path, size, channels, window, False)


def save(path, array, mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_film(path, film, **options):
    first, *others = [Image.fromarray(frame) for frame in film]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif"])
def test_grey(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", GREY_HW)
    np.testing.assert_allclose(read(path), GREY_HW[None] / 255, atol=1e-6)
    np.testing.assert_allclose(read(path, channels=3), np.broadcast_to(GREY_HW / 255, (3, ROWS, COLUMNS)), atol=1e-6)
    assert examine_image(path, (ROWS, COLUMNS), 1, None, False).shape == (1, ROWS, COLUMNS)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_colour(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", COLOUR_HW3)
    np.testing.assert_allclose(read(path, channels=3), COLOUR_HW3.transpose(2, 0, 1) / 255, atol=1e-6)
    np.testing.assert_allclose(read(path)[0], COLOUR_HW3 @ [0.299, 0.587, 0.114] / 255, atol=1e-6)


def test_the_content_counts_and_not_the_name(tmp_path):
    path = save(tmp_path / "scan.jpg", GREY_HW, format="PNG")
    np.testing.assert_array_equal(read(path), read(save(tmp_path / "scan", GREY_HW, format="PNG")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", DEEP_HW)
    np.testing.assert_allclose(read(path), DEEP_HW[None] / 65535, atol=1e-6)
    expected = np.clip((DEEP_HW[None] - 1000.0) / 2000, 0, 1)
    np.testing.assert_allclose(read(path, window=(2000, 2000)), expected, atol=1e-6)


def test_16_bits_with_white_at_zero(tmp_path):
    path = save(tmp_path / "a.tif", DEEP_HW)
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<HHIHH", 262, 3, 1, 1, 0))  # PhotometricInterpretation: BlackIsZero
    content[entry + 8 : entry + 10] = struct.pack("<H", 0)
    path.write_bytes(content)
    np.testing.assert_allclose(read(path), 1 - DEEP_HW[None] / 65535, atol=1e-6)


def test_floats_have_their_own_range(tmp_path):
    values_HW = np.linspace(-3, 5, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
    low, high = np.sort(values_HW.ravel())[[1, -2]]  # a half percent of 108 values
    path = save(tmp_path / "a.tif", values_HW)
    expected = np.clip((values_HW[None] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(read(path), expected, atol=1e-6)


def test_one_bit(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(GREY_HW > 99))
    np.testing.assert_array_equal(read(path)[0], GREY_HW > 99)


def test_palette(tmp_path):
    image = Image.fromarray(GREY_HW % 4, mode=None)
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250, 50, 50, 50])
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [50, 50, 50]])
    expected = colours[GREY_HW % 4].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(read(save(tmp_path / "a.png", image), channels=3), expected, atol=1e-6)
    see_through = save(tmp_path / "b.png", image, transparency=0)
    expected = np.where(GREY_HW % 4 == 0, 0, expected)
    np.testing.assert_allclose(read(see_through, channels=3), expected, atol=1e-6)


def test_what_is_transparent_lies_on_black(tmp_path):
    alpha_HW = RNG.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
    path = save(tmp_path / "a.png", np.dstack([COLOUR_HW3, alpha_HW]))
    expected = (COLOUR_HW3 / 255 * alpha_HW[..., None] / 255).transpose(2, 0, 1)
    np.testing.assert_allclose(read(path, channels=3), expected, atol=1 / 255)
    path = save(tmp_path / "b.png", np.dstack([GREY_HW, alpha_HW]))
    np.testing.assert_allclose(read(path)[0], GREY_HW / 255 * alpha_HW / 255, atol=1 / 255)


def test_jpeg(tmp_path):
    smooth_HW = (np.add.outer(np.arange(40), np.arange(56)) * 2).astype(np.uint8)
    path = save(tmp_path / "a.jpg", smooth_HW, quality=95)
    np.testing.assert_allclose(read(path, size=(40, 56))[0], smooth_HW / 255, atol=0.02)
    print_ink = Image.fromarray(np.dstack([smooth_HW] * 3)).convert("CMYK")
    path = save(tmp_path / "b.jpg", print_ink, quality=95)
    np.testing.assert_allclose(read(path, 3, size=(40, 56))[1], smooth_HW / 255, atol=0.03)


@pytest.mark.parametrize(
    ("orientation", "upright"),  # of the stored rows, EXIF 2.32 section 4.6.4 A
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).T),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("array_HW", [GREY_HW, DEEP_HW])
def test_exif_turns_the_image(tmp_path, orientation, upright, array_HW):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", array_HW, exif=exif)
    expected_HW = upright(array_HW) / np.iinfo(array_HW.dtype).max
    np.testing.assert_allclose(read(path, size=expected_HW.shape)[0], expected_HW, atol=1e-6)


def test_a_phone_s_jpeg_with_a_preview(tmp_path):
    photo = Image.fromarray(np.full((16, 24), 77, np.uint8))
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    np.testing.assert_allclose(read(tmp_path / "a.jpg", size=(16, 24)), 77 / 255, atol=0.01)


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.tif", {}), ("a.tif", {"compression": "tiff_deflate"}), ("a.gif", {})]
)
def test_films(tmp_path, refused, name, options):
    path = save_film(tmp_path / name, FILM_DHW, **options)
    film_CDHW = read_volume(path, (4, ROWS, COLUMNS), 1, None, False)
    np.testing.assert_allclose(film_CDHW[0], FILM_DHW / 255, atol=1e-6)
    assert examine_volume(path, (4, ROWS, COLUMNS), 1, None, False).shape == (4, ROWS, COLUMNS)
    said = refused(read, path)
    assert "holds 4 frames, an image is one" in said
    assert "declare it as a volume or a video" in said
    # However many bytes are missing: never another film. (Behind the last frame there may be a few that mean nothing.)
    content = path.read_bytes()
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        try:
            seen_CDHW = read_volume(path, (4, ROWS, COLUMNS), 1, None, True)
        except Unreadable:
            continue
        np.testing.assert_array_equal(seen_CDHW, film_CDHW)
        assert length > 0.9 * len(content)


def test_a_still_picture_is_no_volume(tmp_path, refused):
    path = save(tmp_path / "a.png", GREY_HW)
    said = refused(read_volume, path, (4, ROWS, COLUMNS), 1, None, True)
    assert "holds a single frame" in said
    assert "declare it as an image" in said


def test_pages_of_different_sizes(tmp_path, refused):
    save_film(tmp_path / "a.tif", [GREY_HW, GREY_HW[:5]])
    assert "pages of different sizes" in refused(read_volume, tmp_path / "a.tif", (2, 4, 4), 1, None, True)


def test_pages_of_different_kinds(tmp_path, refused):
    save_film(tmp_path / "a.tif", [GREY_HW, DEEP_HW])
    assert "pages of different kinds" in refused(read_volume, tmp_path / "a.tif", (2, 4, 4), 1, None, True)
    save_film(tmp_path / "b.tif", [GREY_HW, COLOUR_HW3])
    mixed = read_volume(tmp_path / "b.tif", (2, ROWS, COLUMNS), 3, None, False)
    np.testing.assert_allclose(mixed[:, 0], np.broadcast_to(GREY_HW / 255, (3, ROWS, COLUMNS)), atol=1e-6)
    np.testing.assert_allclose(mixed[:, 1], COLOUR_HW3.transpose(2, 0, 1) / 255, atol=1e-6)


def test_pages_in_a_circle(tmp_path, refused):
    path = save_film(tmp_path / "a.tif", FILM_DHW)
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(content)
    assert "in a circle" in refused(read_volume, path, (4, ROWS, COLUMNS), 1, None, True)


def test_big_tiff(tmp_path):
    path = save_film(tmp_path / "a.tif", FILM_DHW, big_tiff=True)
    assert path.read_bytes()[2] == 43
    np.testing.assert_allclose(read_volume(path, FILM_DHW.shape, 1, None, False)[0], FILM_DHW / 255, atol=1e-6)


SMOOTH_HW = ((np.sin(np.arange(70) / 5)[:, None] + np.cos(np.arange(50) / 7) + 2) * 60).astype(np.uint8)
STILLS: list[tuple[str, dict[str, Any]]] = [
    ("png", {}),
    ("jpg", {}),
    ("jpg", {"progressive": True}),
    ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}),
    ("bmp", {}),
]


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stills")
    paths = [save(folder / f"{i}.{suffix}", SMOOTH_HW, **options) for i, (suffix, options) in enumerate(STILLS)]
    return [(path, path.read_bytes(), read(path, size=SMOOTH_HW.shape)) for path in paths]


@given(st.data())
def test_a_file_that_is_cut_short_is_never_another_image(stills, data):
    path, content, whole = data.draw(st.sampled_from(stills))
    length = data.draw(st.integers(0, len(content) - 1))
    cut = path.with_name("cut" + path.suffix)
    cut.write_bytes(content[:length])
    try:
        seen = read(cut, size=SMOOTH_HW.shape)
    except Unreadable:
        return
    np.testing.assert_array_equal(seen, whole)
    assert length > 0.9 * len(content)


@given(st.data())
def test_a_damaged_file_is_an_image_or_unreadable(stills, data):
    path, content, _ = data.draw(st.sampled_from(stills))
    spoiled = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        spoiled[place] = data.draw(st.integers(0, 255))
    cut = path.with_name("spoiled" + path.suffix)
    cut.write_bytes(spoiled)
    try:
        image_CHW = read_image(cut, (8, 8), 1, None, True)
    except Unreadable:
        return
    assert image_CHW.shape == (1, 8, 8)
    assert 0 <= image_CHW.min() <= image_CHW.max() <= 1


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("side", [8300, 12000, 40000])
def test_a_bomb(tmp_path, refused, side):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    assert "is too large" in refused(read_image, tmp_path / "a.png", (8, 8), 1, None, True)


def test_what_is_no_picture(tmp_path, refused):
    (tmp_path / "empty.png").touch()
    assert "is empty" in refused(read, tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("SECRET, JANE")
    said = refused(read, tmp_path / "text.png")
    assert "no format that is read" in said
    assert "PNG, JPEG" in said
    assert "SECRET" not in said
    assert "no such file" in refused(read, tmp_path / "absent.png")
    assert "no such file" in refused(read_volume, tmp_path / "absent.png", (1, 1, 1), 1, None, True)
    assert "is a folder" in refused(read, tmp_path)
    (tmp_path / "a.MP4").write_bytes(b"\0\0\0\x18ftypmp42")
    said = refused(read_volume, tmp_path / "a.MP4", (2, 4, 4), 1, None, True)
    assert "film file" in said
    assert "multi-frame DICOM or to .npy" in said
    (tmp_path / "a.dcm").write_bytes(b"\0" * 200)
    assert "is no DICOM file" in refused(read, tmp_path / "a.dcm")
