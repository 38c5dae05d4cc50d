"""Which update of a round is far larger than the others'."""

import pytest

from remind_server.outliers import Outliers


def problems(sizes, ratio=5.0):
    outliers = Outliers(ratio)
    for name, size in sizes.items():
        outliers.add(name, size)
    return {name: problem for name in sizes if (problem := outliers.problem(name))}


@pytest.mark.parametrize("last", [0.0, 0.1, 0.5, 100.0])
def test_against_the_median_of_the_round(last):
    found = problems({"a": 0.1, "b": 0.11, "c": 0.09, "liar": last})
    assert set(found) == ({"liar"} if last == 100.0 else set())


def test_who_and_how_much_is_said():
    (words,) = problems({"a": 0.1, "b": 0.2, "c": 2.0}).values()
    assert "2 times as large as the model" in words
    assert "10 times the median of 3" in words
    assert "max-update-ratio allows 5" in words


@pytest.mark.parametrize(
    "sizes", [{"a": 0.1, "b": 9.0}, {"a": 0.0, "b": 0.0, "c": 9.0}, {"a": 0.0, "b": 0.1, "c": 9.0}]
)
def test_fewer_than_three_that_moved_judge_nobody(sizes):
    assert problems(sizes) == {}


def test_no_site_is_an_outlier_among_its_like():
    assert problems({str(i): size for i, size in enumerate([0.01, 0.03, 0.04, 0.06, 0.05])}) == {}
