"""The readers' errors: light to import, usable in worker processes, without content of files."""

import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from remind.data import files
from remind.data.cohort.problems import Problem
from remind.data.files.errors import Unreadable, inside, reading


def test_libraries_wait_until_a_file_needs_them():
    heavy = "{'torch', 'PIL', 'pydicom', 'nibabel'}"
    code = f"import sys, remind.data.files; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readers_and_errors_travel_to_worker_processes(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(4, dtype=np.uint8) * 255)
    with ProcessPoolExecutor(1, get_context("spawn")) as workers:
        image_CHW = workers.submit(files.read_image, tmp_path / "a.npy", (4, 4), 1, None, False).result()
        np.testing.assert_array_equal(image_CHW[0], np.eye(4))
        failed = workers.submit(files.examine_volume, tmp_path / "a.npy", (4, 4, 4), 1, None, False)
        error = failed.exception()
    assert isinstance(error, Unreadable)
    assert error.what.startswith("is an array of shape 4×4")
    assert error.remedy
    for function in (files.fit_image, files.fit_volume, files.read_note, files.examine_image, files.read_volume):
        assert pickle.loads(pickle.dumps(function)) is function


def test_an_error_is_fit_for_a_problem():
    error = Unreadable("is empty", "export it again")
    assert str(Problem("a.png", error.what, error.remedy)) == "a.png: is empty; export it again"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (KeyError("SECRET"), "is damaged (KeyError)"),
        (OSError("SECRET"), "is damaged (OSError)"),
        (RecursionError("SECRET"), "is damaged (RecursionError)"),
        (MemoryError(), "does not fit into memory"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "SECRET"), "cannot be opened: permission denied"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "SECRET"), "cannot be opened: input/output error"),
        (IsADirectoryError(errno.EISDIR, "SECRET"), "is a folder"),
    ],
)
def test_a_library_s_words_are_not_repeated(raised, said):
    with pytest.raises(Unreadable) as caught, reading():
        raise raised
    assert caught.value.what == said
    assert "SECRET" not in str(caught.value)
    with pytest.raises(Unreadable) as caught, inside("003.dcm"):
        raise raised
    assert caught.value.what == f"003.dcm in it: {said}"


def test_what_is_no_exception_of_a_file_passes():
    with pytest.raises(KeyboardInterrupt), reading():
        raise KeyboardInterrupt
