"""FINCH against loops, and on well-separated clusters."""

from itertools import pairwise

import pytest
import torch

from remind.fusion.finch import centres, first_neighbours, partitions


def loop(x):
    """The paper's adjacency, point by point, and its connected components."""
    unit = x / x.norm(dim=1, keepdim=True)
    near = [max((float(u @ unit[j]), j) for j in range(len(x)) if j != i)[1] for i, u in enumerate(unit)]
    linked = lambda i, j: near[i] == j or near[j] == i or near[i] == near[j]  # noqa: E731
    left, found = set(range(len(x))), []
    while left:
        part, todo = set(), [min(left)]
        while todo:
            i = todo.pop()
            part.add(i)
            todo += [j for j in left - part if linked(i, j)]
        left -= part
        found.append(part)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [2, 3, 17, 60])
def test_the_first_partition_is_the_loops(number, seed):
    x = torch.randn(number, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    label = first_neighbours(x)
    assert [set((label == k).nonzero().flatten().tolist()) for k in range(int(label.max()) + 1)] == loop(x)


def test_partitions_become_coarser_and_each_is_made_of_the_one_before():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = partitions(x)
    sizes = [int(label.max()) + 1 for label in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes) > 1
    for fine, coarse in pairwise(found):
        assert all(len(coarse[fine == k].unique()) == 1 for k in range(int(fine.max()) + 1))


def directions(generator, *numbers):
    axes = torch.eye(4, dtype=torch.float64)[: len(numbers)]
    return torch.cat(
        [
            a + 0.05 * torch.randn(n, 4, generator=generator, dtype=torch.float64)
            for a, n in zip(axes, numbers, strict=True)
        ]
    )


def test_centres_are_means_of_enough_points_the_largest_first():
    x = directions(torch.Generator().manual_seed(1), 6, 40, 20)
    found = centres(x, most=3, least=10)
    expected = torch.eye(4, dtype=torch.float64)[[1, 2]]
    torch.testing.assert_close(found[:2], expected, rtol=0, atol=0.05)
    assert all(len(centres(x, most, least)) <= most for most in (1, 2, 5) for least in (1, 3, 30))
    torch.testing.assert_close(centres(x, 1, 66), x.mean(dim=0, keepdim=True))


def test_too_few_points_have_no_centre():
    assert len(centres(torch.randn(4, 3), 8, least=5)) == 0
    assert len(centres(torch.randn(0, 3), 8)) == 0
    assert len(centres(torch.ones(1, 3), 8)) == 1
