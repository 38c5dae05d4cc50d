"""The operations of every kind of contents, compared with lists of the patients' data."""

from pathlib import Path

import numpy as np
import pytest

from remind.data.cohort.contents import join
from remind.data.cohort.kinds.codes import Codes
from remind.data.cohort.kinds.pictures import Files, Reading
from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.table import Table
from remind.data.cohort.kinds.text import Texts


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def series(lists):
    count = [len(one) for one in lists]
    flat = [value for one in lists for value in one]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    values = np.array(flat, dtype=np.float32)
    return Series(offsets, values, np.arange(len(flat)) % 2, values)


def codes(lists):
    names = tuple(sorted({name for one in lists for name in one}))
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return Codes(offsets, np.array([names.index(n) for one in lists for n in one], dtype=np.int64), names)


def table(rows):
    return Table(np.array([[np.nan if v is None else v] for v in rows], dtype=np.float32))


def pixels(values):
    return Files(objects(*(None if v is None else np.full((2, 2), v, dtype=np.uint8) for v in values)))


def listed(contents):
    """What each patient has."""
    if isinstance(contents, Table):
        return [None if np.isnan(v) else float(v) for v in contents.values_NF[:, 0]]
    if isinstance(contents, Series):
        parts = np.split(contents.value_O, contents.offsets_N1[1:-1])
        return [part.tolist() or None for part in parts]
    if isinstance(contents, Codes):
        parts = np.split(contents.code_O, contents.offsets_N1[1:-1])
        return [[contents.names[i] for i in part] or None for part in parts]
    if isinstance(contents, Files):
        return [None if p is None else int(p[0, 0]) for p in contents.source_N]
    return list(contents.source_N)


KINDS = {
    "table": table([1.0, None, 3.0, 4.0]),
    "series": series([[1, 2], [], [3], [4, 5, 6]]),
    "codes": codes([["x", "y"], [], ["z"], ["x"]]),
    "texts": Texts(objects("one", None, "three", "four")),
    "files": pixels([1, None, 3, 4]),
}


@pytest.mark.parametrize("contents", KINDS.values(), ids=KINDS)
def test_taking_hiding_and_joining_are_those_of_a_list(contents):
    has = listed(contents)
    assert contents.present().tolist() == [one is not None for one in has] == [True, False, True, True]
    for index in ([3, 0, 0], [], [1]):
        taken = contents.take(np.array(index, dtype=np.int64))
        assert listed(taken) == [has[i] for i in index] or not index
    assert listed(contents.take(np.array([True, False, False, True]))) == [has[0], has[3]]
    hidden = contents.hide(np.array([True, False, False, False]))
    assert listed(hidden) == [None, *has[1:]]
    assert listed(contents) == has, "the original stays"
    parts = [contents.take(np.array([2, 3])), contents.take(np.array([0]))]
    assert listed(join(parts)) == [has[2], has[3], has[0]]


@pytest.mark.parametrize("contents", KINDS.values(), ids=KINDS)
def test_equality_and_digest_go_by_what_patients_have(contents):
    same = contents.take(np.arange(4))
    assert same == contents
    assert same.digest() == contents.digest()
    for other in (contents.take(np.array([0, 1, 3, 2])), contents.hide(np.arange(4) == 3), KINDS["table"].take([0])):
        assert other != contents
        assert other.digest() != contents.digest()


def test_codes_of_sites_with_other_codes_join_by_name():
    joined = join([codes([["b"]]), codes([["a", "b"], []]), codes([[]])])
    assert listed(joined) == [["b"], ["a", "b"], None, None]


def test_the_digest_of_a_file_changes_with_the_file(tmp_path):
    path = Path(tmp_path / "note.txt")
    path.write_text("one")
    notes = Texts(objects(path))
    before = notes.digest()
    assert notes.digest() == before
    path.write_text("other")
    assert notes.digest() != before


def test_the_digest_of_files_depends_on_how_they_are_read():
    same = objects(np.zeros((2, 2), dtype=np.uint8))
    digests = {Files(same, reading).digest() for reading in (Reading(), Reading((40.0, 80.0)), Reading(None, False))}
    assert len(digests) == 3


def test_files_that_are_read_differently_are_not_one_modality():
    with pytest.raises(ValueError, match="different ways"):
        join([pixels([1]), Files(pixels([2]).source_N, Reading((40.0, 80.0)))])
