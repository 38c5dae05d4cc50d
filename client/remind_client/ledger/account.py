"""Summarises the ledger run by run: what was spent on which release, and how much budget is left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from remind.privacy.accounting import Mechanism, compose, epsilon
from remind_client.ledger.budget import PARTS, Release
from remind_client.ledger.spends import PrivacyLedger, Spend
from remind_client.ledger.totals import Total, lifetime_total, upper_bound


@dataclass(frozen=True)
class Line:
    """Releases of one kind in one run.

    Attributes
    ----------
    noise, rate
        The smallest noise multiplier and the largest sampling rate of these releases.
    rounds
        Number of rounds, or of questions outside rounds.
    steps
        Number of releases.
    epsilon
        ε of these releases alone. The ε of several lines do not add up.
    """

    part: str
    what: str
    noise: float
    rate: float
    rounds: int
    steps: int
    epsilon: float


@dataclass(frozen=True)
class RunAccount:
    """What one run has spent. `epsilon` is that of all its releases together; `left` is None without a limit.

    Attributes
    ----------
    own
        ε without the noise of the other hospitals, where they share it with this one; None: all noise was its own.
    """

    run: str
    first: str
    last: str
    epsilon: float
    left: float | None
    lines: tuple[Line, ...]
    own: float | None = None


@dataclass(frozen=True)
class Account:
    """The whole ledger at one δ. `epsilon` holds for a patient who took part in all runs; for others, it is less."""

    delta: float
    per_run: float | None
    for_life: float | None
    epsilon: float
    left: float | None
    runs: tuple[RunAccount, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the account for JSON; infinite numbers (releases without noise) become None."""
        found = _finite(asdict(self))
        assert isinstance(found, dict)
        return found


def account_of(
    ledger: PrivacyLedger, delta: float, per_run: float | None = None, life: float | None = None, run: str = ""
) -> Account:
    """Summarise the ledger at this δ, with the rest of these limits; only one run if `run` is given."""
    totals, rows = ledger.totals(), ledger.spends(run)
    by_run: dict[str, list[Spend]] = {}
    for row in rows:
        by_run.setdefault(row.run, []).append(row)
    whole = lifetime_total(totals).epsilon(delta)
    return Account(
        delta=delta,
        per_run=per_run,
        for_life=life,
        epsilon=whole,
        left=_left(life, whole),
        runs=tuple(_run(name, found, totals[name], delta, per_run) for name, found in by_run.items()),
    )


def _run(
    run: str, rows: Sequence[Spend], parts: Mapping[str, Total], delta: float, per_run: float | None
) -> RunAccount:
    kinds: dict[tuple[str, str], list[Spend]] = {}
    for row in rows:
        kinds.setdefault((row.release.part, row.release.mechanism.what), []).append(row)
    order = sorted(kinds, key=lambda kind: (PARTS.index(kind[0]), kinds[kind][0].number))
    spent = upper_bound(parts.values()).epsilon(delta)
    lines = tuple(_line(*kind, kinds[kind], delta) for kind in order)
    return RunAccount(run, rows[0].at, rows[-1].at, spent, _left(per_run, spent), lines, own_epsilon(rows, delta))


def own_epsilon(rows: Sequence[Spend], delta: float) -> float | None:
    """Return ε of these spends of one run by this site's own noise alone; None where it shared none."""
    if all(row.release.own is None for row in rows):
        return None
    by_part: dict[str, list[Release]] = {}
    for row in rows:
        by_part.setdefault(row.release.part, []).append(row.release)
    return max(
        Total(compose(each.by_own_noise for each in releases), sum(each.delta for each in releases)).epsilon(delta)
        for releases in by_part.values()
    )


def _line(part: str, what: str, rows: Sequence[Spend], delta: float) -> Line:
    releases = [row.release for row in rows]
    mechanisms: list[Mechanism] = [release.mechanism for release in releases]
    alone = Total(compose(mechanisms), sum(release.delta for release in releases))
    return Line(
        part=part,
        what=what,
        noise=min(m.noise for m in mechanisms),
        rate=max(m.rate for m in mechanisms),
        rounds=len({(row.round, row.question) for row in rows}),
        steps=sum(m.steps for m in mechanisms),
        epsilon=alone.epsilon(delta),
    )


def by_kind(rows: Sequence[Spend], delta: float) -> dict[str, float]:
    """Return the ε of each kind of release alone; a key is, for example, ``training gradient``."""
    kinds: dict[str, list[Spend]] = {}
    for row in rows:
        kinds.setdefault(f"{row.release.part} {row.release.mechanism.what}", []).append(row)
    return {
        name: epsilon(compose(row.release.mechanism for row in found), delta - sum(row.release.delta for row in found))
        for name, found in kinds.items()
    }


def _left(limit: float | None, spent: float) -> float | None:
    return None if limit is None else max(0.0, limit - spent)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
