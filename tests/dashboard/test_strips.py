"""A row of the expert map: every expert's shade is that of its weight."""

import re
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from remind_server.dashboard.drawing.strips import LEVELS, most_used, scale, strip, strip_width

WEIGHTS = st.lists(st.sampled_from([0.0, 0.001, 0.05, 0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=300)


def drawn(svg: str, experts: int) -> list[int]:
    """Shade of each expert, read off the picture."""
    wide = strip_width(experts) // experts
    found = np.zeros(experts, dtype=int)
    for level, path in re.findall(r'<path class="u(\d)" d="([^"]*)"/>', svg):
        for x, length, back in re.findall(r"M(\d+) 0h(\d+)v\d+h-(\d+)z", path):
            assert length == back
            assert int(x) % wide == int(length) % wide == 0
            place = slice(int(x) // wide, (int(x) + int(length)) // wide)
            assert not found[place].any(), "drawn once"
            found[place] = int(level)
    return found.tolist()


@given(WEIGHTS, st.sampled_from([0.0, 0.25, 1.0, 2.0]))
def test_shades(use, top):
    svg = str(strip(use, top))
    expected = [min(int(w / top * LEVELS), LEVELS - 1) if top else 0 for w in use]
    assert drawn(svg, len(use)) == expected
    assert svg.count("<path") <= LEVELS - 1, "few paths, however many experts"
    assert f'width="{strip_width(len(use))}"' in svg


def test_in_words():
    assert most_used([0.1, 0.5, 0.1, 0.3]) == "2 (50.0 %), 4 (30.0 %), 1 (10.0 %)"
    assert most_used([0.0, 1.0]) == "2 (100.0 %)"
    assert most_used([0.0, 0.0]) == "none in use"
    assert 'aria-label="weights of 2 experts; most used: 2 (100.0 %)"' in strip([0.0, 1.0], 1.0)
    assert 'aria-label="&lt;b&gt;"' in strip([0.0, 1.0], 1.0, "<b>")


@given(st.integers(1, 2000))
def test_numbers_above_do_not_overlap(experts):
    svg = str(scale(experts))
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)"', svg)]
    assert re.search(r">1</text>", svg)
    assert all(after - before >= 24 for before, after in pairwise(places))
    assert places[-1] <= strip_width(experts)
