"""The rows of `pairwise` are few, allowed, and hold every pair."""

from itertools import combinations, product

from tests.pairwise import pairwise

FACTORS = (range(7), range(9), range(5), "abcd")


def test_every_two_allowed_values_meet_in_few_rows():
    def allowed(a, b, *_):
        return (a + b) % 4 != 0

    rows = pairwise(FACTORS, allowed)
    assert all(allowed(*row) for row in rows)
    for i, j in combinations(range(4), 2):
        met = {(row[i], row[j]) for row in rows}
        assert met == {(a, b) for a, b in product(FACTORS[i], FACTORS[j]) if (i, j) != (0, 1) or allowed(a, b)}
    assert len(rows) < 1.3 * 7 * 9
