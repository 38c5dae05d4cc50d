"""Cohorts to disk and back: what encoders see is the same, whatever the kind."""

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest

from remind.config import SyntheticConfig
from remind.data.batches.lazy import LazyModalities, Request
from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.kinds.pictures import Files, ImageSchema, Reading, VolumeSchema
from remind.data.cohort.kinds.text import Texts, TextSchema
from remind.data.cohort.read import read_cohort
from remind.data.cohort.schema import CohortSchema
from remind.data.synthetic.generate import LAWS, generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from tests.builders.cohorts import contents

KINDS = "table, series, image, volume, video, text, codes"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def every_kind(patients=40):
    missing = ", ".join(["0.3"] * 7)
    return generate(SyntheticConfig(patients=patients, law="independent", missing=missing, kinds=KINDS, size=12), 0)


def loaded(cohort):
    """What encoders get of pictures and notes."""
    return LazyModalities(cohort)[Request(np.arange(len(cohort)))]


def assert_same(back, cohort):
    """Equal in all but where pictures lie."""
    lazy = [name for name, one in cohort.modalities.items() if isinstance(one, Files)]
    assert replace(back, modalities={}) == replace(cohort, modalities={})
    for name in set(cohort.schema.names) - set(lazy):
        assert contents(back, name).digest() == contents(cohort, name).digest(), name
    pictures, expected = loaded(back), loaded(cohort)
    for name in lazy:
        assert contents(back, name).reading == contents(cohort, name).reading
        np.testing.assert_array_equal(pictures[name], expected[name], err_msg=name)


@pytest.mark.parametrize("law", [*LAWS, "independent"])
def test_tables_and_series(law, tmp_path):
    cohort = generate(SyntheticConfig(patients=150, law=law), 0)
    write_cohort(cohort, tmp_path / "c")
    assert read_cohort(tmp_path / "c") == cohort


def test_every_kind(tmp_path):
    cohort = every_kind()
    write_cohort(cohort, tmp_path / "c")
    back = read_cohort(tmp_path / "c")
    assert_same(back, cohort)
    assert back.schema.fingerprint == cohort.schema.fingerprint
    assert {path.suffix for path in (tmp_path / "c" / "M3").iterdir()} == {".png"}
    assert {path.suffix for path in (tmp_path / "c" / "M4").iterdir()} == {".npy"}


def test_a_cohort_can_be_moved(tmp_path):
    cohort = every_kind()
    write_cohort(cohort, tmp_path / "c")
    for name in ("M3", "M4", "M5"):
        paths = pq.read_table(tmp_path / "c" / f"{name}.parquet")["path"].to_pylist()
        assert all(not Path(path).is_absolute() and path.startswith(f"{name}/") for path in paths)
    shutil.move(tmp_path / "c", tmp_path / "elsewhere")
    assert_same(read_cohort(tmp_path / "elsewhere"), cohort)


def test_a_cohort_that_was_read_is_written_whole(tmp_path):
    cohort = every_kind()
    write_cohort(cohort, tmp_path / "c")
    write_cohort(read_cohort(tmp_path / "c").take(np.arange(5, 30)), tmp_path / "d")
    shutil.rmtree(tmp_path / "c")
    assert_same(read_cohort(tmp_path / "d"), cohort.take(np.arange(5, 30)))


def test_with_all_there_is(tmp_path):
    cohort = every_kind()
    n = len(cohort)
    schema = cohort.schema.model_copy(update={"classes": ("no", 'quoted "ä" \\')})
    cohort = replace(
        cohort,
        schema=schema,
        person_N=np.array([f"person {i // 2}" for i in range(n)]),
        site_N=np.array(["Ä, b", "c"])[np.arange(n) % 2],
        split_N=(np.arange(n) // 2 % 3).astype(np.int8),
    )
    write_cohort(cohort, tmp_path / "c")
    assert_same(read_cohort(tmp_path / "c"), cohort)


@pytest.mark.parametrize("there", ["M1", "M3", "M6", "M7"])
def test_what_nobody_has_is_declared(there, tmp_path):
    whole = every_kind()
    cohort = whole.without(*(set(whole.schema.names) - {there}))
    cohort = cohort.take(np.flatnonzero(cohort.groups_N))
    write_cohort(cohort, tmp_path / "c")
    back = read_cohort(tmp_path / "c")
    assert back.schema.fingerprint == whole.schema.fingerprint
    assert_same(back, cohort)


def files_cohort(**modalities):
    """Cohort of Files and Texts, given as pairs of schema and contents."""
    schema = CohortSchema(name="c", classes=("no", "yes"), modalities=tuple(s for s, _ in modalities.values()))
    contents = {name: data for name, (_, data) in modalities.items()}
    n = len(next(iter(contents.values())).source_N)
    ids = np.array([f"p/{i}" for i in range(n)])  # no part of a file name
    label_N = np.arange(n, dtype=np.int64) % 2
    return Cohort(schema, ids, ids, label_N, None, None, presence(schema, contents), contents)


def sources(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_pixels_of_any_type_and_colour(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    deep = rng.integers(0, 65536, (5, 6), dtype=np.uint16)
    real = rng.normal(size=(5, 6)).astype(np.float32)
    film = rng.integers(0, 256, (2, 5, 3), dtype=np.uint8)  # three columns, not three colours
    cohort = files_cohort(
        x=(ImageSchema(name="x", size=(5, 6), channels=3), Files(sources(colour, deep, real), Reading(resize=False))),
        y=(VolumeSchema(name="y", size=(2, 5, 3), channels=1), Files(sources(film, None, film), Reading(resize=False))),
    )
    write_cohort(cohort, tmp_path / "c")
    assert_same(read_cohort(tmp_path / "c"), cohort)


def test_a_window_is_kept(tmp_path):
    ct = np.linspace(-1000, 1000, 30).reshape(5, 6)
    files = Files(sources(ct), Reading((40.0, 400.0), resize=False))
    write_cohort(files_cohort(x=(ImageSchema(name="x", size=(5, 6), channels=1), files)), tmp_path / "c")
    back = read_cohort(tmp_path / "c")
    assert contents(back, "x").reading == files.reading
    np.testing.assert_allclose(loaded(back)["x"][0, 0], np.clip((ct + 160) / 400, 0, 1), atol=1e-6)


def test_files_and_notes_are_copied(tmp_path):
    scan, note = tmp_path / "a.scan.nii.gz", tmp_path / "note.txt"
    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32), np.eye(4)), scan
    )
    note.write_text("\ufeffEin Befund, älter.\n", encoding="utf-8")
    cohort = files_cohort(
        scan=(VolumeSchema(name="scan", size=(6, 5, 4), channels=1), Files(sources(scan), Reading(resize=False))),
        note=(TextSchema(name="note"), Texts(sources(note))),
    )
    before = loaded(cohort)
    write_cohort(cohort, tmp_path / "c")
    scan.unlink()
    note.unlink()
    after = loaded(read_cohort(tmp_path / "c"))
    np.testing.assert_array_equal(after["scan"], before["scan"])
    assert after["note"] == before["note"] == ("Ein Befund, älter.",)


def test_only_an_empty_folder_is_written_to(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(UserError, match="not empty"):
        write_cohort(generate(SyntheticConfig(patients=10), 0), tmp_path)


def test_a_note_that_is_gone_is_named(tmp_path):
    cohort = files_cohort(note=(TextSchema(name="note"), Texts(sources(tmp_path / "gone.txt"))))
    with pytest.raises(UserError, match=r"gone\.txt: no such file"):
        write_cohort(cohort, tmp_path / "c")
