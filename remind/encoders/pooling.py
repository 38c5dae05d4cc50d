"""Pools a backbone's output to a few tokens: feature maps to grids, sequences to consecutive runs.

Shapes: P patients, d width of the backbone, T positions of a sequence, l tokens.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@lru_cache(maxsize=256)
def grid(sides: tuple[int, ...], cells: int) -> tuple[int, ...]:
    """Return the cells per axis of the best grid of at most `cells` cells on a map with these sides.

    The largest grid of 13 cells would be a strip of 1 × 13. Therefore the score of a grid of n cells is
    n · shortest / longest side. At equal scores the grid with more cells is better, then the grid that is longer in the
    later axes (15 cells: 3 × 5).
    """
    choices = (shape for shape in product(*(range(1, min(side, cells) + 1) for side in sides)) if prod(shape) <= cells)
    return max(choices, key=lambda shape: (Fraction(prod(shape) * min(shape), max(shape)), prod(shape), shape[::-1]))


def pool_map(map_Pd: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Pool a map (P, d, *sides) of two or three axes to a grid by adaptive averages, row by row: (P, l, d)."""
    pool: Any = {2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}[len(shape)]
    pooled: Tensor = pool(map_Pd, shape)
    return pooled.flatten(2).transpose(1, 2)


def pool_runs(h_PTd: Tensor, valid_PT: Tensor, tokens: int, first: bool) -> tuple[Tensor, Tensor]:
    """Return means over consecutive runs of nearly equal length of each patient's valid positions.

    A patient's n valid positions are divided into min(n, tokens) runs; the remaining tokens are empty. The result does
    not depend on other patients or on padding.

    Parameters
    ----------
    h_PTd
        A vector per position.
    valid_PT
        bool; False where a position is padding.
    tokens
        l.
    first
        Whether position 0 of every patient is a separate token.

    Returns
    -------
    pooled_Pld
        0 for empty tokens.
    filled_Pl
        bool; False for empty tokens.
    """
    alone = int(first)
    kept_Pd = [h_PTd[:, :1]] * alone
    weight_PlT = _run_weights(valid_PT[:, alone:], tokens - alone).to(h_PTd.dtype)
    pooled_Pld = torch.cat([*kept_Pd, weight_PlT @ h_PTd[:, alone:]], dim=1)
    filled_Pl = torch.cat([valid_PT[:, :alone], (weight_PlT > 0).any(2)], dim=1)
    return pooled_Pld, filled_Pl


def _run_weights(valid_PT: Tensor, runs: int) -> Tensor:
    """Return 1/length of the run of each valid position, (P, runs, T): j of n is in run ⌈(j+1)·r/n⌉ − 1 of r."""
    count_P1 = valid_PT.sum(1, keepdim=True)
    used_P1 = count_P1.clamp(max=runs)
    place_PT = valid_PT.cumsum(1)
    run_PT = (place_PT * used_P1 - 1) // count_P1.clamp(min=1)
    inside_PlT = (run_PT.unsqueeze(1) == torch.arange(runs, device=valid_PT.device)[:, None]) & valid_PT.unsqueeze(1)
    return inside_PlT / inside_PlT.sum(2, keepdim=True).clamp(min=1)


def map_sides(places: int, sides: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of `places` patches that tile an image: the pair nearest to the image's shape."""
    height, width = sides

    def stretch(rows: int) -> Fraction:
        shape = Fraction(rows * rows * width, places * height)  # rows/columns over height/width
        return max(shape, 1 / shape)

    rows = min((r for r in range(1, places + 1) if places % r == 0), key=stretch)
    return rows, places // rows
