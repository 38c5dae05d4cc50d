"""Tests that would begin too late are not run, and are named."""

import pytest

from tests import deadline

TESTS = """
import pytest, time

@pytest.fixture(scope="module")
def dear():
    print("the fixture is made")

def test_in_time():
    time.sleep(.3)

def test_late(dear):
    raise AssertionError
"""


@pytest.mark.parametrize(("within", "code"), [("0.2", 0), ("60", 1)])
def test_late_tests_are_not_run_and_named(within, code, tmp_path, capsys):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = [
        str(tmp_path),
        "-c",
        str(tmp_path / "pytest.ini"),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--import-mode=importlib",
    ]
    assert pytest.main([*words, deadline.OPTION, within], plugins=[deadline]) == code
    said = capsys.readouterr().out
    assert ("NOT RUN: 1 tests" in said) == (code == 0)
    assert ("the fixture is made" in said) == (code == 1)
    assert "1 passed, 1 skipped" in said or code
