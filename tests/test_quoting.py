"""Text from outside: bounded, printable, and what is cut off is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.quoting import LONGEST, listed, printable, quoted, reason


@given(st.text(max_size=50), st.integers(1, 20))
def test_whatever_is_quoted_prints_and_is_bounded(text, most):
    shown = quoted(text, most)
    assert shown.isprintable()
    assert len(shown) <= most + 30
    assert shown.startswith(printable(text[:most]))


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\r", "\x00", "\u202e", "\u2028", "\x9b31m", "\x07"])
def test_codes_that_move_a_terminal_become_spaces(nasty):
    assert quoted(f"a{nasty[0]}b") == "a b"
    assert nasty[0] not in reason(f"a{nasty}b")


def test_what_is_cut_off_is_said():
    assert quoted("x" * 1000, 10) == "x" * 10 + "… (1000 characters)"
    assert listed(["a", "b" * 300, "c", "d", "e"], 3) == "a, " + "b" * 200 + "… (300 characters), c and 2 more"
    assert listed(["a"]) == "a"


def test_a_reason_keeps_its_lines():
    assert reason("several:\n  - one\x1b") == "several:\n  - one "
    assert len(reason("x" * 10**6)) < LONGEST + 40
