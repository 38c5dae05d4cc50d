"""One way to write a duration, everywhere."""

import re
from pathlib import Path

import pytest

from remind.durations import duration

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.21, "3.2 s"),
        (9.96, "10 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (172_000, "47.8 h"),
        (172_800, "2 days"),
        (1e7, "116 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_nothing_else_formats_durations():
    """An own formatter divides seconds by 60 or 3600 in a text."""
    formats = re.compile(r"\{[^{}\n]*/ ?(60|3600|86400)\b[^{}\n]*\} ?(s|min|h|days)\b")
    found = [
        str(path.relative_to(ROOT))
        for package in ("remind", "server", "client", "studies")
        for path in (ROOT / package).rglob("*.py")
        if formats.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
