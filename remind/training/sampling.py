"""Selects the patients of a local step and their weights (algorithm §3, §4.13).

All three plans have the same expected gradient, that of F_s / W_s with F_s = Σ_i λ_k/n_k·ℓ_i.
Shapes: B patients in a step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.config import TrainConfig
from remind.objectives.lambda_step import site_share

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """The positions of the patients of one step, (B,), and the weight of each one's loss, (B,)."""

    index_B: Integers
    weight_B: Floats


def steps(
    config: TrainConfig,
    index_N: Integers,
    group_N: Integers,
    weights: Mapping[int, float],
    counts: Mapping[int, int],
    rng: np.random.Generator,
    own: Mapping[int, int] | None = None,
) -> Iterator[Step]:
    """Yield the local steps of one round.

    Parameters
    ----------
    config
        batch = 0: all patients in every step. Else sampling 'group': groups drawn by their share λ_k·n_{s,k}/n_k of
        the site's objective, patients uniformly within, weight 1; or 'weighted': patients uniformly, weight
        n_s·λ_k/n_k/W_s, whose variance explodes for rare groups.
    index_N, group_N
        Position in the site's cohort, and group, of each of its N training patients.
    weights, counts
        λ_k and the global n_k of the site's groups.
    rng
        Source of the draws.
    own
        n_{s,k} that define W_s, if patients occur several times among the N; None: count the occurrences. One then
        weighs λ_k/n_k/W_s each time, and the weights of a step sum to more than 1.
    """
    present, number_G = np.unique(group_N, return_counts=True)
    standing = dict(zip(present.tolist(), number_G.tolist(), strict=True))
    share = site_share(weights, counts, standing if own is None else own)
    if share == 0:  # λ of all its groups has become 0: this site has no part in the objective
        return
    per_patient = {k: weights[k] / counts[k] / share for k in present.tolist()}
    weight_N = np.array([per_patient[k] for k in group_N.tolist()])
    size = config.batch
    if size == 0:
        for _ in range(config.local_steps):
            yield Step(index_N, weight_N)
    elif config.sampling == "weighted":
        deck = _Deck(np.arange(len(index_N)), rng)
        for _ in range(config.local_steps):
            rows_B = deck.draw(size)
            yield Step(index_N[rows_B], weight_N[rows_B] * len(index_N) / size)
    else:
        decks = [_Deck(index_N[group_N == k], rng) for k in present]
        odds_G = np.array([per_patient[k] * n for k, n in standing.items()])
        whole = 1.0 if own is None else float(odds_G.sum())
        # Round: the order of summation changes the last digits and must not change the draw.
        odds_G = np.round(odds_G / odds_G.sum(), 12)
        for _ in range(config.local_steps):
            drawn_G = rng.multinomial(size, odds_G / odds_G.sum())
            index_B = np.concatenate([deck.draw(n) for deck, n in zip(decks, drawn_G, strict=True)])
            yield Step(index_B, np.full(size, whole / size))


class _Deck:
    """Draws without replacement, reshuffled when all are drawn: uniform, with less variance than i.i.d. draws."""

    def __init__(self, cards: Integers, rng: np.random.Generator) -> None:
        self.cards, self.rng, self.left = cards, rng, cards[:0]

    def draw(self, number: int) -> Integers:
        drawn = self.left[:number]
        self.left = self.left[number:]
        while len(drawn) < number:
            shuffled = self.rng.permutation(self.cards)
            needed = number - len(drawn)
            drawn, self.left = np.concatenate([drawn, shuffled[:needed]]), shuffled[needed:]
        return drawn
