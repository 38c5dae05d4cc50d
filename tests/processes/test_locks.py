"""Locks: one holder at a time, among processes and threads; none left when a holder dies."""

import os
import stat
import subprocess
import sys
from threading import Thread

import pytest

from remind.errors import UserError
from remind.processes.locks import locked

HOLD = """
import sys
from pathlib import Path
from remind.processes.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from remind.processes.locks import locked
lock, number = map(Path, sys.argv[1:])
for _ in range(20):
    with locked(lock):
        number.write_text(str(int(number.read_text()) + 1))
"""


def python(code, *words):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_who_is_busy_is_said_and_a_killed_holder_holds_nothing(tmp_path):
    path = tmp_path / "lock"
    with python(HOLD, path) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"^somebody works here$"), locked(path, "somebody works here"):
            raise AssertionError("two hold it")
        holder.kill()
        holder.wait(60)
    with locked(path, "somebody works here"):
        pass


def test_without_words_one_waits_for_the_other(tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    running = [python(COUNT, tmp_path / "lock", number) for _ in range(2)]
    assert [process.communicate(timeout=240)[0] for process in running] == ["", ""]
    assert number.read_text() == "40"


def test_threads_of_one_process_exclude_each_other(tmp_path):
    seen = []

    def other():
        try:
            with locked(tmp_path / "lock", "busy"):
                seen.append("two hold it")
        except UserError as error:
            seen.append(str(error))

    with locked(tmp_path / "lock"):
        thread = Thread(target=other)
        thread.start()
        thread.join(60)
    assert seen == ["busy"]


def test_the_file_is_its_owners_and_keeps_what_is_in_it(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("of another program")
    for path in (new, old):
        with locked(path):
            pass
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert old.read_text() == "of another program"


def test_an_error_within_ends_the_lock_and_passes(tmp_path):
    with pytest.raises(TimeoutError, match="of the work"), locked(tmp_path / "lock"):
        raise TimeoutError("of the work")
    with locked(tmp_path / "lock", "busy"):
        pass


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=os.strerror(2)), locked(tmp_path / "nowhere" / "lock", "busy"):
        pass
    assert not (tmp_path / "nowhere").exists()
