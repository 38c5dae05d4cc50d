"""Score histograms that merge exactly, with bins for models of any confidence.

A score is the log-odds x = ln p − ln(1 − p) of a class. Up to |x| = 8, where models that are not very confident have
their scores even for a rare class, bins are 1/256 wide. Beyond that their width is 1/192 of |x|; beyond 10⁵, which no
sound model reaches, they are coarse, up to the largest float. All sites use the same bins for all time, so that their
histograms can be added; `GRID` is the version of the bins.

Only bins that hold patients are stored, so a histogram is never larger than the number of its patients.
Shapes: B patients, C classes, F filled cells, K filled bins of one histogram.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log
from sys import float_info
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GRID: Literal[2] = 2  # version 1 had 512 bins on ±10, which confident models exceed
BINS = 8192
_EVEN, _EVEN_BINS = 8.0, 2048  # bins of equal width per sign, up to this score
_FAR, _PER_LOG = 1e5, 192  # then this many per unit of ln|x|, up to this score
_FAR_BINS = _EVEN_BINS + _PER_LOG * log(_FAR / _EVEN)
_COARSE_PER_LOG = (BINS / 2 - 1 - _FAR_BINS) / log(float_info.max / _FAR)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Cell = tuple[int, int, int, int]  # class scored, is it the true class, bin, patients


@dataclass(frozen=True, eq=False)
class ScoreHistograms:
    """Patients by (class scored, is it the true class, bin).

    Attributes
    ----------
    code_F
        Each filled cell as one number, (2·h + hit)·`BINS` + bin, ascending.
    count_F
        Patients in it, at least 1.
    """

    code_F: Integers
    count_F: Integers

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> "ScoreHistograms":
        """Create histograms from cells in any order; a cell may occur more than once."""
        table_F4 = np.array(list(cells), dtype=np.int64).reshape(-1, 4)
        return _gathered((2 * table_F4[:, 0] + table_F4[:, 1]) * BINS + table_F4[:, 2], table_F4[:, 3])

    def cells(self) -> list[Cell]:
        """Return all filled cells, ascending."""
        row_F, bin_F = self.code_F // BINS, self.code_F % BINS
        table_F4 = np.stack([row_F // 2, row_F % 2, bin_F, self.count_F], axis=1)
        return [(h, hit, k, n) for h, hit, k, n in table_F4.tolist()]

    def totals(self) -> tuple[int, int]:
        """Return the patients of all cells, and those of the classes scored; a patient counts in every histogram."""
        return int(self.count_F.sum()), int(self.count_F[self.code_F // BINS % 2 == 1].sum())

    def only(self, h: int) -> "ScoreHistograms":
        """Return the histogram of one class scored."""
        mine_F = self.code_F // BINS // 2 == h
        return ScoreHistograms(self.code_F[mine_F], self.count_F[mine_F])

    def each(self) -> Iterator[Integers]:
        """Return every histogram (2, K): row 0 the rest, row 1 the class scored; columns are filled bins, ascending."""
        return (histogram_2K for _, histogram_2K in self.placed())

    def placed(self) -> Iterator[tuple[Integers, Integers]]:
        """Return the bins (K,) and counts (2, K) of every histogram, as `each`."""
        row_F = self.code_F // BINS
        for h in np.unique(row_F // 2):
            mine_F = row_F // 2 == h
            bins_K, place_F = np.unique(self.code_F[mine_F] % BINS, return_inverse=True)
            histogram_2K = np.zeros((2, len(bins_K)), dtype=np.int64)
            histogram_2K[row_F[mine_F] % 2, place_F] = self.count_F[mine_F]
            yield bins_K, histogram_2K

    def __add__(self, other: "ScoreHistograms") -> "ScoreHistograms":
        return _gathered(np.concatenate([self.code_F, other.code_F]), np.concatenate([self.count_F, other.count_F]))


def histograms(log_p_BC: Floats, label_B: Integers, scored: Iterable[int]) -> ScoreHistograms:
    """Return the histograms of the classes `scored`, one after the other."""
    codes = []
    for h, c in enumerate(scored):
        codes.append((2 * h + (label_B == c)) * BINS + bins(log_odds(log_p_BC, c)))
    code_N = np.concatenate(codes).astype(np.int64)
    return _gathered(code_N, np.ones(len(code_N), dtype=np.int64))


def log_odds(log_p_BC: Floats, c: int) -> Floats:
    """Return ln p − ln(1 − p) of class c, (B,).

    ln(1 − p) is the log-sum-exp of the others, because 1 − p rounds to 0 or 1.
    """
    rest_B = np.logaddexp.reduce(np.delete(log_p_BC, c, axis=1), axis=1)
    with np.errstate(invalid="ignore"):
        odds_B: Floats = log_p_BC[:, c] - rest_B
    return odds_B


def bins(odds_B: Floats) -> Integers:
    """Return the bin of each score, 0 … `BINS` − 1.

    Infinite scores go to the bins of the largest floats, NaN to that of 0.
    """
    x_B = np.nan_to_num(odds_B, nan=0.0)
    size_B = np.abs(x_B)
    far_B = np.log(np.maximum(size_B, _EVEN) / _EVEN)
    coarse_B = _FAR_BINS + _COARSE_PER_LOG * (far_B - log(_FAR / _EVEN))
    out_B = np.where(size_B < _FAR, _EVEN_BINS + _PER_LOG * far_B, coarse_B)
    steps_B = np.where(size_B < _EVEN, size_B * (_EVEN_BINS / _EVEN), out_B).astype(np.int64)
    bin_B: Integers = BINS // 2 + np.where(x_B < 0, -1 - steps_B, steps_B)
    return bin_B


def edges(bins_K: Integers) -> tuple[Floats, Floats]:
    """Return the lowest and the highest log-odds of each bin, (K,); inf where a bin has no end."""
    above_K = bins_K >= BINS // 2
    steps_K = np.where(above_K, bins_K - BINS // 2, BINS // 2 - 1 - bins_K)
    near_K, far_K = _size(steps_K), _size(steps_K + 1)
    return np.where(above_K, near_K, -far_K), np.where(above_K, far_K, -near_K)


def centres(bins_K: Integers) -> Floats:
    """Return the middle of each bin, (K,), as far as a float can be; no score up to ±8 is more than 1/512 from it."""
    low_K, high_K = edges(bins_K)
    most = float_info.max / 4
    middle_K: Floats = (low_K.clip(-most, most) + high_K.clip(-most, most)) / 2
    return middle_K


def _size(steps_K: Integers) -> Floats:
    """Return the |x| at which a bin begins, (K,): the inverse of what `bins` counts."""
    far_K = (steps_K - _EVEN_BINS) / _PER_LOG
    coarse_K = log(_FAR / _EVEN) + (steps_K - _FAR_BINS) / _COARSE_PER_LOG
    log_K = np.where(steps_K < _FAR_BINS, far_K, coarse_K)
    with np.errstate(over="ignore"):
        out_K = _EVEN * np.exp(log_K)
    size_K: Floats = np.where(steps_K < _EVEN_BINS, steps_K * (_EVEN / _EVEN_BINS), out_K)
    return size_K


def _gathered(code_N: Integers, count_N: Integers) -> ScoreHistograms:
    code_F, place_N = np.unique(code_N, return_inverse=True)
    count_F = np.zeros(len(code_F), dtype=np.int64)
    np.add.at(count_F, place_N, count_N)
    return ScoreHistograms(code_F, count_F)
