"""The cache about files: a repaired file is noticed, so is a removed decoder, and no path is stored."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.uid import JPEGLSLossless

from remind.data.checks.check import check_cohort
from remind.data.cohort import verdicts
from remind.data.cohort.examine import examine
from remind.data.cohort.kinds import pictures, text
from remind.data.cohort.kinds.pictures import Files, ImageSchema
from remind.data.cohort.kinds.text import TextSchema
from remind.data.cohort.verdicts import UserMemory, environment_digest
from tests.builders.dicoms import AXIAL, dataset, slices, write

SCHEMA = ImageSchema(name="xray", size=(8, 8), channels=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "federated-remind" / "examined"


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that are really opened."""
    names = []
    real = getattr(pictures, "examine_image")  # noqa: B009

    def counting(path, *rest):
        names.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(pictures, "examine_image", counting)
    return names


def png(path, value=200):
    Image.effect_noise((8, 8), 50).point(lambda v: min(v, value)).save(path)
    return path


def jpeg_ls(path):
    """A DICOM file compressed as JPEG-LS; its pixels are never decoded in these tests."""
    made = dataset(np.zeros((8, 8), dtype=np.uint8))
    made.file_meta.TransferSyntaxUID = JPEGLSLossless
    made.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0\xff\xd8\xff\xd9\xfe\xff\xdd\xe0\0\0\0\0"
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    return write(path, made)


def found(*paths):
    return examine(SCHEMA, Files(np.array(paths, dtype=object))).findings


def test_good_files_are_opened_once(tmp_path, opened):
    paths = [png(tmp_path / name) for name in ("a.png", "b.png")]
    assert not found(*paths)
    assert not found(*paths)
    assert opened == ["a.png", "b.png"]


def test_what_was_wrong_is_never_remembered(tmp_path, opened, monkeypatch):
    path = png(tmp_path / "a.png")
    with monkeypatch.context() as without:
        without.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
        assert "permission denied" in found(path)[0].what
    assert not found(path)
    assert opened == ["a.png"] * 2


def test_a_decoder_that_comes_is_used(tmp_path, monkeypatch):
    path = jpeg_ls(tmp_path / "a.dcm")
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    assert "no decoder is installed" in found(path)[0].what
    monkeypatch.undo()
    _with_decoder(monkeypatch)
    assert not found(path)


def test_a_good_verdict_does_not_outlive_the_decoder(tmp_path, monkeypatch):
    path = jpeg_ls(tmp_path / "a.dcm")
    with monkeypatch.context() as patch:
        _with_decoder(patch)
        assert not found(path)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    assert "no decoder is installed" in found(path)[0].what


def _with_decoder(patch):
    patch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", True)
    patch.setattr("pydicom.pixels.utils.pixel_array", lambda made: np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.mark.parametrize("change", ["installed", "upgraded", "code", "version"])
def test_a_good_verdict_does_not_outlive_what_read_it(tmp_path, opened, monkeypatch, change):
    site = tmp_path / "site"
    (site / "decoder-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    path = png(tmp_path / "a.png")
    found(path)
    if change == "installed":
        (site / "another-2.0.dist-info").mkdir()
    elif change == "upgraded":
        (site / "decoder-1.0.dist-info").rename(site / "decoder-1.1.dist-info")
    elif change == "code":
        monkeypatch.setattr(verdicts, "readers_code", lambda: "other code")
    else:
        monkeypatch.setattr(verdicts, "VERSION", "99")
    found(path)
    found(path)
    assert opened == ["a.png"] * 2


def test_what_is_installed_is_part_of_the_surroundings(tmp_path, monkeypatch):
    before = environment_digest()
    assert environment_digest() == before
    (tmp_path / "pylibjpeg-9.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert environment_digest() != before


def test_another_file_with_the_same_size_and_time_is_opened(tmp_path, opened):
    path = tmp_path / "a.png"
    Image.new("L", (8, 8), 10).save(path)
    old = path.stat()
    found(path)
    content = path.read_bytes()
    path.write_bytes(b"X" * len(content))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size
    assert "no format" in found(path)[0].what


def test_a_permission_that_is_taken_away_is_noticed(tmp_path, opened):
    path = png(tmp_path / "a.png")
    found(path)
    path.chmod(0o400)  # still readable here; the change alone must suffice
    found(path)
    assert opened == ["a.png"] * 2


def test_a_slice_that_changes_in_a_folder_changes_what_encoders_are_said_to_see(tmp_path):
    folder = slices(tmp_path / "ct", np.random.default_rng(0).integers(0, 255, (3, 4, 4), dtype=np.uint8))
    contents = Files(np.array([folder], dtype=object))
    before = contents.digest()
    made = dataset(np.ones((4, 4), dtype=np.uint8), SeriesInstanceUID="1.2.3", ImageOrientationPatient=AXIAL)
    made.InstanceNumber, made.ImagePositionPatient = 2, [-5, 7, -1]
    write(folder / "001.dcm", made)
    assert contents.digest() != before


def test_no_path_is_kept_and_nobody_else_can_read_it(tmp_path, cache):
    folder = tmp_path / "JaneDoe"
    folder.mkdir()
    cache.mkdir(parents=True)
    (cache / "old.json").write_text('{"/data/JaneDoe/a.png": ["1", "", ""]}')
    found(png(folder / "4711-doe.png"))
    (file,) = cache.iterdir()
    content = file.read_bytes()
    assert b"doe" not in content.lower()
    assert b"4711" not in content
    assert file.stat().st_mode & 0o077 == 0
    assert "doe" not in file.name.lower()


def test_the_same_path_is_remembered_under_another_name_elsewhere(tmp_path, monkeypatch):
    """A plain hash of a path could be looked up in a table of guesses."""
    path = png(tmp_path / "a.png")
    names = []
    for cache in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        found(path)
        (file,) = UserMemory().folder.iterdir()
        names.append(file.read_text().split('"files": {"')[1][:32])
    assert names[0] != names[1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": "zz"}', b'{"key": "00", "files": {"a": [1]}}'])
def test_a_memory_that_is_damaged_is_none(tmp_path, cache, opened, content):
    path = png(tmp_path / "a.png")
    found(path)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert not found(path)
    assert opened == ["a.png"] * 2


def test_without_a_place_to_remember_everything_is_opened(tmp_path, opened, monkeypatch):
    (tmp_path / "no-folder").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-folder"))
    path = png(tmp_path / "a.png")
    assert not found(path)
    assert not found(path)
    assert opened == ["a.png"] * 2


def test_notes_are_remembered_too(tmp_path, cache, monkeypatch):
    note = tmp_path / "a.txt"
    note.write_text("chest pain")
    texts = Files(np.array([note], dtype=object))
    read = []
    real = getattr(text, "read_note")  # noqa: B009
    monkeypatch.setattr(text, "read_note", lambda path: read.append(path) or real(path))
    for _ in range(2):
        assert not examine(TextSchema(name="note"), texts).findings
    assert read == [note]
    note.write_text("")
    assert "empty" in examine(TextSchema(name="note"), texts).findings[0].what


def test_a_check_reads_a_mended_file(tmp_path):
    """The whole way, with broken = "drop": the patient comes back."""
    folder = Path(tmp_path / "c")
    (folder / "x").mkdir(parents=True)
    for i in range(4):
        png(folder / "x" / f"{i}.png")
    pd.DataFrame({"patient_id": range(4), "label": [0, 1, 0, 1]}).to_csv(folder / "patients.csv", index=False)
    pd.DataFrame({"patient_id": range(4), "path": [f"x/{i}.png" for i in range(4)]}).to_csv(
        folder / "xray.csv", index=False
    )
    (folder / "cohort.toml").write_text(
        'name = "c"\n[patients]\nempty = "drop"\n[label]\nclasses = ["no", "yes"]\n'
        '[modalities.xray]\nkind = "image"\nsize = [8, 8]\nchannels = 1\nbroken = "drop"\n'
    )
    good = (folder / "x" / "2.png").read_bytes()
    shutil.copyfile(folder / "xray.csv", folder / "x" / "2.png")
    assert check_cohort(folder).patients == 3
    (folder / "x" / "2.png").write_bytes(good)
    assert check_cohort(folder).patients == 4
