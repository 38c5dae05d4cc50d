"""Grids and runs against slow reference implementations."""

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.encoders.base import patches
from remind.encoders.pooling import grid, map_sides, pool_map, pool_runs
from tests.builders.encoders import means, pixels

SIDES = st.integers(1, 20)


@pytest.mark.parametrize(
    ("sides", "cells", "expected"),
    [
        ((7, 7), 16, (4, 4)),
        ((14, 14), 15, (3, 5)),
        ((14, 14), 13, (3, 4)),
        ((14, 14), 1, (1, 1)),
        ((14, 14), 2, (1, 2)),
        ((4, 2), 15, (4, 2)),
        ((2, 14), 16, (2, 8)),
        ((1, 10), 3, (1, 3)),
        ((2, 14, 14), 16, (2, 2, 4)),
        ((1, 7, 7), 16, (1, 4, 4)),
        ((8, 8, 8), 8, (2, 2, 2)),
        ((2, 2, 2), 100, (2, 2, 2)),
    ],
)
def test_grids_that_can_be_checked_by_eye(sides, cells, expected):
    assert grid(sides, cells) == expected


@given(sides=st.lists(SIDES, min_size=2, max_size=3).map(tuple), cells=st.integers(1, 40))
def test_no_grid_is_better(sides, cells):
    """Better: more cells for the stretch; with the same, more cells; with as many, longer later axes."""
    chosen = grid(sides, cells)
    assert all(1 <= n <= side for n, side in zip(chosen, sides, strict=True))
    assert prod(chosen) <= cells
    for other in product(*(range(1, side + 1) for side in sides)):
        if prod(other) > cells:
            continue
        ours, theirs = (prod(g) * min(g) * max(h) for g, h in ((chosen, other), (other, chosen)))
        assert ours >= theirs
        if ours == theirs:
            assert prod(chosen) >= prod(other)
            if prod(chosen) == prod(other):
                assert chosen[::-1] >= other[::-1]


@given(sides=st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple), cells=st.integers(1, 30))
def test_cells_are_means_of_their_windows(sides, cells):
    map_Pd = pixels(2, 3, *sides).double()
    shape = grid(sides, cells)
    torch.testing.assert_close(pool_map(map_Pd, shape), torch.stack([means(one, shape) for one in map_Pd]))


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), patch=st.integers(1, 9))
def test_patches_that_tile_a_picture_are_laid_out_as_they_tile_it(rows, columns, patch):
    assert map_sides(rows * columns, (rows * patch, columns * patch)) == (rows, columns)


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    tokens=st.integers(1, 8),
    first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_runs_equal_the_loop(lengths, tokens, first, seed):
    lengths = [n + 1 for n in lengths] if first else lengths
    h_PTd = pixels(len(lengths), max(lengths) + 2, 3, seed=seed).double()
    valid_PT = torch.arange(h_PTd.shape[1]) < torch.tensor(lengths)[:, None]
    pooled_Pld, filled_Pl = pool_runs(h_PTd, valid_PT, tokens, first)
    for h_Td, length, pooled_ld, filled_l in zip(h_PTd, lengths, pooled_Pld, filled_Pl, strict=True):
        alone = [h_Td[0]] if first else []
        rest = h_Td[len(alone) : length]
        runs = patches(len(rest), tokens - len(alone)) if len(rest) and tokens > len(alone) else []
        expected = [*alone, *(rest[run].mean(0) for run in runs)]
        assert filled_l.tolist() == [True] * len(expected) + [False] * (tokens - len(expected))
        expected += [torch.zeros(3, dtype=torch.float64)] * (tokens - len(expected))
        torch.testing.assert_close(pooled_ld, torch.stack(expected))


def test_what_lies_in_padding_has_no_part():
    h_PTd, valid_PT = pixels(2, 6, 3), torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    spoilt = h_PTd.clone()
    spoilt[0, 4:] = 1e30
    for a, b in zip(pool_runs(h_PTd, valid_PT, 3, True), pool_runs(spoilt, valid_PT, 3, True), strict=True):
        torch.testing.assert_close(a, b)
