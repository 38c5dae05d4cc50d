"""The draw of a round's sites, with the probability of each; pure functions (docs/methods.md, "A part of the sites").

A draw has a fixed number of sites and exact probabilities π_s. Σ over the drawn sites of y_s/π_s (Horvitz and Thompson,
1952) then has the mean Σ_s y_s over all draws, for any numbers y_s that do not depend on the draw.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, fsum

LEAST = 0.25  # smallest chance of a site, as a part of what all would have if drawn alike
ROUNDING = 1e-12


@dataclass(frozen=True)
class Draw:
    """A round's draw.

    Attributes
    ----------
    chances
        π_s of every site that could be drawn: the connected ones.
    drawn
        The drawn sites.
    unbiased
        Whether Horvitz and Thompson's estimate is used, and not the ratio estimate.
    """

    chances: Mapping[str, float]
    drawn: frozenset[str]
    unbiased: bool = False

    @classmethod
    def everybody(cls, names: Collection[str]) -> "Draw":
        """Return the draw in which all are drawn."""
        return cls(dict.fromkeys(names, 1.0), frozenset(names))

    @property
    def whole(self) -> bool:
        """Whether everybody was drawn for sure, so that there is nothing to estimate."""
        return all(chance == 1 for chance in self.chances.values())

    @property
    def alike(self) -> bool:
        """Whether all had the same chance."""
        return len(set(self.chances.values())) <= 1

    def stretch(self, weights: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return block → Σ_{s drawn} a_s/π_s / Σ_s a_s: what the drawn sites stand for, divided by what there is.

        The ratio estimate's step times this number is Horvitz and Thompson's. Over all draws its mean is 1.

        Parameters
        ----------
        weights
            Site → block → a_s, of every site that could be drawn at least.
        """
        whole: dict[str, list[float]] = {}
        drawn: dict[str, list[float]] = {}
        for site, chance in sorted(self.chances.items()):
            for block, weight in weights[site].items():
                whole.setdefault(block, []).append(weight)
                if site in self.drawn:
                    drawn.setdefault(block, []).append(weight / chance)
        return {block: fsum(drawn.get(block, [])) / fsum(parts) for block, parts in whole.items() if fsum(parts) > 0}

    def risks(
        self,
        counts: Mapping[str, Mapping[int, int]],
        losses: Mapping[str, Mapping[int, float]],
        known: Mapping[int, float],
    ) -> dict[int, float]:
        """Return R̂_k, an estimate of each group's risk at all connected sites, from those that were drawn.

        Unbiased: R̂_k = r_k + Σ_{s drawn} n_{s,k}/(n_k·π_s)·(R_{s,k} − r_k), with r_k the last known risk of the group:
        any number that was known before the draw gives the right mean, and a good one a small variance. Of a group that
        was never measured it is the mean of the other groups', and 0 in the first round. A group that no site was drawn
        for has R̂_k = r_k. If drawn sites did not report, the others stand in for them; if no drawn site of a group
        reported, it has no R̂_k. Ratio estimate: the mean loss of those who reported, each patient with 1/π_s; a group
        without a report has no R̂_k.

        Parameters
        ----------
        counts
            Site → group → training patients, of every site that could be drawn at least.
        losses
            Reporting site → group → mean loss.
        known
            r_k.
        """
        guess = fsum(known.values()) / len(known) if known else 0.0
        found = {}
        for k in sorted({k for site in self.chances for k in counts[site]}):
            own = {s: counts[s][k] for s in sorted(self.chances) if counts[s].get(k)}
            drawn = {s: n / self.chances[s] for s, n in own.items() if s in self.drawn}
            reported = {s: part for s, part in drawn.items() if k in losses.get(s, {})}
            if not reported and (drawn or not self.unbiased):
                continue
            r = known.get(k, guess)
            found[k] = r
            if reported:
                mean = fsum(part * losses[s][k] for s, part in reported.items()) / fsum(reported.values())
                found[k] += (fsum(drawn.values()) / sum(own.values()) if self.unbiased else 1.0) * (mean - r)
        return found


def effective(parts: Sequence[float]) -> float:
    """Return (Σ w)²/Σ w², the number of equally weighted sites with the same variance; 0 without sites (Kish, 1965)."""
    squares = fsum(part**2 for part in parts)
    return fsum(parts) ** 2 / squares if squares else 0.0


def alike(names: Sequence[str], number: int) -> dict[str, float]:
    """Return the chances if `number` of the sites are drawn with equal probability."""
    return dict.fromkeys(names, min(number / len(names), 1.0)) if names else {}


def by_share(shares: Mapping[str, float], number: int) -> dict[str, float]:
    """Return chances in proportion to the sites' shares, that sum to `number`; at most 1, at least `LEAST` of alike.

    The lower bound limits what a site's answer is multiplied by: a site with a tiny share of the objective may still be
    the only one that has a group.

    Parameters
    ----------
    shares
        W_s of every site that could be drawn; they need not sum to 1.
    """
    names = sorted(shares)
    if number >= len(names):
        return dict.fromkeys(names, 1.0)
    least = LEAST * number / len(names)
    bounded: dict[str, float] = {}
    while True:  # bounds are fixed until the rest is in proportion; each pass fixes one at least
        free = [name for name in names if name not in bounded]
        left, total = number - fsum(bounded.values()), fsum(shares[name] for name in free)
        found = {name: left * shares[name] / total if total > 0 else left / len(free) for name in free}
        high = {name: 1.0 for name, chance in found.items() if chance > 1 - ROUNDING}
        low = {name: least for name, chance in found.items() if chance < least}
        above = fsum(found[n] - bound for n, bound in high.items())
        below = fsum(bound - found[n] for n, bound in low.items())
        if not high and not low:
            return {name: bounded[name] if name in bounded else found[name] for name in names}
        bounded |= high if above >= below else low


def systematic(chances: Mapping[str, float], order: Sequence[str], start: float) -> frozenset[str]:
    """Draw a fixed number of sites with exactly these chances: systematic sampling (Madow, 1949).

    The chances lie one after the other on a line, in this order; drawn is who covers one of the points start,
    start + 1, start + 2, … Each interval is no longer than 1, so that with a uniform `start` its length is the
    probability.

    Parameters
    ----------
    order
        The sites with a chance, in an order that does not depend on what they answer; random, so that nearly every pair
        can be drawn together.
    start
        Uniform in [0, 1).
    """
    number = round(fsum(chances.values()))
    ends = list(accumulate(chances[name] for name in order))
    ends = [end * number / ends[-1] for end in ends[:-1]] + [float(number)]
    begins = [0.0, *ends[:-1]]
    first = [max(ceil(begin - start), 0) + start for begin in begins]  # the first point that is not before an interval
    return frozenset(name for name, point, end in zip(order, first, ends, strict=True) if point < end)
