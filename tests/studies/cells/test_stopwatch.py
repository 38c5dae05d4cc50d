"""Candidates are timed in turns, and their ratio is computed per turn."""

from functools import partial

import pytest

from remind_studies.cells import stopwatch
from remind_studies.cells.stopwatch import FEWEST, Candidate, Lap, ratio, seconds, take_turns


def test_turns_alternate_with_an_untimed_step_before_each(monkeypatch):
    order = []
    clock = iter(range(1000))
    monkeypatch.setitem(stopwatch.NOW, "wall", lambda: float(next(clock)))
    sides = {name: Candidate(partial(order.append, name)) for name in ("a", "b")}
    laps = take_turns(sides, turns=3, steps=2, clock="wall")
    assert "".join(order) == "aaabbbbbbaaaaaabbb"
    assert [lap.seconds for lap in laps["a"]] == [1.0] * 6
    assert len(laps["b"]) == 6
    assert seconds(laps, "a") == 1.0


def test_a_turn_happens_in_its_context_and_is_cleared():
    order = []

    class Inside:
        def __enter__(self):
            order.append("in")

        def __exit__(self, *error):
            order.append("out")

    one = Candidate(lambda: order.append("step"), Inside, lambda: order.append("clear"))
    take_turns({"one": one}, turns=1, steps=1, clock="cpu")
    assert order == ["in", "step", "step", "out", "clear"]


@pytest.mark.parametrize(("turns", "most", "expected"), [(1000, -1.0, FEWEST), (3, -1.0, 3), (8, 1000.0, 8)])
def test_no_turn_begins_when_time_is_over_but_the_fewest_do(turns, most, expected):
    sides = {name: Candidate(lambda: None) for name in ("a", "b")}
    laps = take_turns(sides, turns, 1, "wall", most)
    assert len(laps["a"]) == len(laps["b"]) == expected


def test_ratio_is_taken_turn_by_turn():
    def laps(mine, others):
        return {"a": [Lap(float(s), 0) for s in mine], "b": [Lap(float(s), 0) for s in others]}

    assert ratio(laps([2, 4, 6], [1, 2, 3]), "a", "b") == (2.0, 2.0, 2.0)
    assert ratio(laps(range(1, 101), [1] * 100), "a", "b") == (50.5, 41.0, 60.0)
