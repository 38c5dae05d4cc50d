"""The gain of each hospital that joins: a federated model against the best model that the hospital can have alone.

The best is chosen per seed and hospital on the hospital's own validation patients, never on test patients: by the
study's metric, or by log-loss if a candidate has no score there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from remind.metrics.scores import EVERY, scores
from remind.metrics.statistics import total
from remind_studies.cells.cell import BySite
from remind_studies.results import score_format as written
from remind_studies.results.contenders import Contender
from remind_studies.results.statistics import Values, equivalence, holm, paired
from remind_studies.study import Metric


@dataclass(frozen=True)
class Alone:
    """What a hospital has alone: by seed the method that its validation patients chose, and its test score."""

    chosen: Mapping[int, str]
    values: Values


def joining(
    rows: Sequence[Contender], sites: Sequence[str], seeds: Sequence[int], metric: Metric, ratio: float, margin: float
) -> tuple[written.Joining, ...]:
    """Compare every model of all hospitals with each one's best alone; empty where no arm is a hospital's own.

    Parameters
    ----------
    rows
        Of the panel.
    sites
        The ranked sites; the scores of other sites are mostly chance.
    """
    own = [row for row in rows if row.place == "local"]
    together = [row for row in rows if row.place != "local"]  # pooled: the most that there is to gain
    if not own or not together or not sites:
        return ()
    alone = {site: _alone(own, site, seeds, metric) for site in sites}
    return tuple(_joining(row, alone, seeds, metric, ratio, margin) for row in together)


def _joining(
    row: Contender, alone: Mapping[str, Alone], seeds: Sequence[int], metric: Metric, ratio: float, margin: float
) -> written.Joining:
    sign = -1 if EVERY[metric].lower_is_better else 1
    joined = {site: tuple(_score(row, seed, site, metric) for seed in seeds) for site in alone}
    found = {site: paired(joined[site], one.values, ratio) for site, one in alone.items()}
    adjusted = holm([one.p for one in found.values()])
    equal = holm([equivalence(joined[site], one.values, ratio, margin) for site, one in alone.items()])
    everywhere = paired(_mean(list(joined.values())), _mean([one.values for one in alone.values()]), ratio)
    hospitals = tuple(
        written.Gain(
            site=site,
            alone=_known(alone[site].values),
            joined=_known(joined[site]),
            chosen=dict(sorted(Counter(alone[site].chosen.values()).items())),
            gain=None if one.mean is None else sign * one.mean,
            low=one.low if sign > 0 else _minus(one.high),
            high=one.high if sign > 0 else _minus(one.low),
            p_adjusted=p,
            p_equal=p_equal,
            n=one.n,
        )
        for (site, one), p, p_equal in zip(found.items(), adjusted, equal, strict=True)
    )
    return written.Joining(
        arm=row.name,
        hospitals=hospitals,
        gain=None if everywhere.mean is None else sign * everywhere.mean,
        low=everywhere.low if sign > 0 else _minus(everywhere.high),
        high=everywhere.high if sign > 0 else _minus(everywhere.low),
        p=everywhere.p,
    )


def _alone(own: Sequence[Contender], site: str, seeds: Sequence[int], metric: Metric) -> Alone:
    chosen: dict[int, str] = {}
    values: list[float | None] = []
    for seed in seeds:
        there = [row for row in own if seed in row.outcomes]
        best = _best(there, seed, site, metric)
        values.append(None if best is None else _score(best, seed, site, metric))
        if best is not None:
            chosen[seed] = best.name
    return Alone(chosen, tuple(values))


def _best(there: Sequence[Contender], seed: int, site: str, metric: Metric) -> Contender | None:
    """Return the best on the hospital's validation patients; the first named of equals, and where there are none."""
    for by in (metric, "log_loss"):
        sign = -1 if EVERY[by].lower_is_better else 1
        values = [_of(row.outcomes[seed].validation, site, by) for row in there]
        if there and all(value is not None for value in values):
            known = [sign * value for value in values if value is not None]
            return there[known.index(max(known))]
    return there[0] if there else None


def _score(row: Contender, seed: int, site: str, metric: str) -> float | None:
    return _of(row.outcomes[seed].test, site, metric) if seed in row.outcomes else None


def _of(by_site: BySite, site: str, metric: str) -> float | None:
    everyone = total({group: one.value() for group, one in by_site.get(site, {}).items()})
    value: float | None = None if everyone is None else getattr(scores(everyone), metric)
    return value


def _mean(values: Sequence[Values]) -> Values:
    """Average over the hospitals of each seed; None where one has no score: all seeds have the same hospitals."""
    return tuple(None if None in own else fmean(v for v in own if v is not None) for own in zip(*values, strict=True))


def _known(values: Values) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
