"""No small count follows from published numbers: every small count could also be as large as the minimum."""

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import vstack

from remind.privacy.cell_suppression import margin, withhold
from tests.attacker import Attacker

SIZES = st.sampled_from([0, 0, 1, 2, 5, 9, 10, 11, 40, 300])


def axes_of(dimensions):
    return [keep for n in range(dimensions + 1) for keep in combinations(range(dimensions), n)]


def every_margin(table):
    """All margins of a table: their matrix, and the cells of each."""
    cells = list(product(*map(range, table.shape)))
    sets = []
    for keep in axes_of(table.ndim):
        for fixed in product(*(range(table.shape[axis]) for axis in keep)):
            sets += [[c for c in cells if tuple(c[axis] for axis in keep) == fixed]]
    return vstack([margin(table.shape, keep) for keep in axes_of(table.ndim)], format="csr"), sets


def attacker_of(table, sets, hidden_V):
    attacker = Attacker({cell: int(n) for cell, n in np.ndenumerate(table)})
    for atoms, hidden in zip(sets, hidden_V, strict=True):
        if not hidden:
            attacker.hears(atoms, sum(int(table[cell]) for cell in atoms))
    return attacker


@st.composite
def tables(draw):
    shape = draw(st.sampled_from([(3,), (2, 3), (4, 4), (3, 2, 2), (3, 3, 2)]))
    return np.array([draw(SIZES) for _ in range(int(np.prod(shape)))], dtype=np.int64).reshape(shape)


@settings(max_examples=25)
@given(tables(), st.sampled_from([2, 5, 10]))
def test_every_small_count_might_be_the_minimum(table, minimum):
    parts_VA, sets = every_margin(table)
    hidden_V = withhold(table.ravel(), parts_VA, minimum)
    attacker = attacker_of(table, sets, hidden_V)
    assert not attacker.finds_below(minimum, sets)
    for atoms, hidden in zip(sets, hidden_V, strict=True):
        assert not (hidden and attacker.follows(atoms)), "withheld, but to be worked out"


@given(tables())
def test_nothing_is_withheld_without_need(table):
    parts_VA, _ = every_margin(table)
    assert not withhold(table.ravel(), parts_VA, 1).any()
    assert not withhold(table.ravel() + 10, parts_VA, 10).any()


def test_a_margin_is_the_sum_over_the_other_axes():
    table = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(margin(table.shape, (0, 2)) @ table.ravel(), table.sum(axis=1).ravel())
    np.testing.assert_array_equal(margin(table.shape, ()) @ table.ravel(), [table.sum()])


def test_one_cell_that_joins_two_hidden_blocks_does_not_follow():
    """Rows and columns lack two numbers or three each, and yet one of them is known: the cell at (2, 2)."""
    table = np.full((4, 5), 50, dtype=np.int64)
    for cell in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (0, 2)):
        table[cell] = 4
    parts_VA, sets = every_margin(table)
    small_V = np.array([0 < sum(table[c] for c in atoms) < 10 for atoms in sets])
    assert attacker_of(table, sets, small_V).follows([(0, 2)]), "enough hidden in each line, and not enough in all"
    hidden_V = withhold(table.ravel(), parts_VA, 10)
    assert not attacker_of(table, sets, hidden_V).finds_below(10, sets)


def test_two_hidden_counts_of_one_patient_do_not_show_their_sum():
    table = np.array([[1, 1, 80, 90], [70, 60, 50, 40]])
    parts_VA, sets = every_margin(table)
    hidden_V = withhold(table.ravel(), parts_VA, 10)
    attacker = attacker_of(table, sets, hidden_V)
    assert attacker.at_most([(0, 0), (0, 1)]) >= 10
    assert not hidden_V[: 1 + 2].any(), "the totals of the rows stay"


def test_what_is_out_stays_out_and_what_comes_later_gives_way():
    """A round without a site: the difference to the round before would be that site's two patients."""
    site_A = np.array([100, 60, 2])
    parts_VA = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1]])
    out_V = np.array([True, False, False])
    hidden_V = withhold(site_A, parts_VA, 10, published_V=out_V)
    assert hidden_V.tolist() == [False, True, True]
    assert not withhold(np.array([100, 60, 20]), parts_VA, 10, published_V=out_V).any()


def test_a_bundle_is_published_whole_or_not_at_all():
    class_A = np.array([4, 30, 40])
    parts_VA = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    apart = withhold(class_A, parts_VA, 10)
    together = withhold(class_A, parts_VA, 10, bundle_V=np.array([0, 1, 1, 1]))
    assert apart.tolist() == [False, True, True, False]
    assert together.tolist() == [False, True, True, True]


def test_small_for_another_reason_than_its_number():
    """Twenty visits of one person: their number must not follow either."""
    visits_A = np.array([20, 300, 400])
    parts_VA = np.vstack([np.ones((1, 3)), np.eye(3)])
    hidden_V = withhold(visits_A, parts_VA, 10, small_V=np.array([False, True, False, False]))
    assert hidden_V.tolist() == [False, True, True, False]


def test_a_hundred_groups():
    rng = np.random.default_rng(0)
    table = rng.negative_binomial(0.4, 0.4 / 40, size=(93, 4, 2))
    parts_VA = vstack([margin(table.shape, keep) for keep in axes_of(3)], format="csr")
    count_V = parts_VA @ table.ravel()
    hidden_V = withhold(table.ravel(), parts_VA, 10)
    assert hidden_V[(count_V > 0) & (count_V < 10)].all()
    assert hidden_V.mean() < 0.5


def test_careful_suppresses_nothing_that_needs_no_cover():
    """A hundred small counts below one sum: each could have the minimum, if not all of them at once."""
    atom_A = np.array([500, 400, *[1] * 100])
    parts_VA = np.vstack([np.eye(102), np.ones(102)])
    hidden_V = withhold(atom_A, parts_VA, 10, careful=True)
    assert hidden_V.tolist() == [False, False, *[True] * 100, False]
