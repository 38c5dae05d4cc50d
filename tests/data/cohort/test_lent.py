"""No thread of Arrow's drops the last reference to an object of Python: if Python ended meanwhile, it would abort."""

import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

from remind.data.cohort import csv_file
from remind.data.cohort.csv_file import open_csv
from remind.data.cohort.lent import lent


def whole(file):
    csv_file._parse(file.body, file.names, file.layout)


def streamed(file):
    for _ in file.batches():
        pass


def left_early(file):
    next(file.batches())


@pytest.mark.parametrize("read", [whole, streamed, left_early])
def test_what_arrow_read_is_dropped_here(read, tmp_path, monkeypatch):
    """Without waiting, half of these are dropped by another thread."""
    monkeypatch.setattr(csv_file, "STREAMED", 1 << 12)
    path, threads = tmp_path / "labs.csv", []
    path.write_text("patient_id,a\n" + "p,1.5\n" * 20_000)
    for _ in range(20):
        file = open_csv(path, [])
        body = np.array(file.body)
        weakref.finalize(body, lambda: threads.append(threading.current_thread()))
        file = replace(file, body=body)
        del body
        read(file)
        del file
    assert threads == [threading.main_thread()] * 20


def test_an_object_that_is_never_given_back_does_not_block_for_ever(monkeypatch):
    monkeypatch.setattr("remind.data.cohort.lent.LONGEST", 0.01)
    kept, thing = [], object()
    with lent(thing):
        kept.append(thing)
    assert kept == [thing]


def test_an_error_inside_is_raised_after_the_wait():
    thing = object()
    with pytest.raises(ZeroDivisionError), lent(thing):
        _ = 1 / 0
