"""Artificial runs for the dashboard, written by the store's own observer, or directly into its tables if faster."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import ClassVar

import numpy as np
from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from remind.config import Config, Scalar
from remind.data.cohort.schema import CohortSchema, label_fields
from remind.federation.message_statistics import PrivacySpent
from remind.metrics.histograms import histograms
from remind.metrics.scores import SCORES
from remind.metrics.statistics import GroupStatistics, brier, merge
from remind.outcomes.base import Outcome, Seen, outcomes
from remind_server.outputs.records import RoundRecord, RoundStart, RunResult, RunStart
from remind_server.store.observer import StoreObserver
from remind_server.store.open import writing
from remind_server.store.schema import (
    SCORED,
    VALIDATION,
    Cell,
    ExpertUse,
    Group,
    Round,
    RoundGroup,
    RoundSite,
    Run,
    Site,
)
from tests.builders.cohorts import schema
from tests.builders.configs import settings
from tests.builders.masks import drawn

MARKUP = '<script>document.title="owned"</script><img src=x onerror=alert(1)>"&\'' + "n" * 200
EVIL = MARKUP[:200]  # a site name as long as a registered name may be
NAMES = ("fundus", "oct", "table", "notes", "labs", "icd", "ecg", "mri", "ct")


def statistics(
    n: int, seed: int, skill: float = 1.0, experts: int = 16, who: int = 0, share: float = 0.5
) -> GroupStatistics:
    """Statistics of `n` artificial patients of two classes; `who` says which, `seed` what is predicted of them."""
    rng = np.random.default_rng(seed)
    label_B = (np.random.default_rng(who).random(n) < share).astype(np.int64)
    odds_B = (rng.normal(size=n) + skill * (label_B - 0.5)) * 1.6
    log_p_BC = -np.logaddexp(0, np.stack([odds_B, -odds_B], axis=1))
    confusion_CC = np.zeros((2, 2), dtype=np.int64)
    np.add.at(confusion_CC, (label_B, (odds_B >= 0).astype(np.int64)), 1)
    scores = histograms(log_p_BC, label_B, (1,))
    loss_sum, open_sum = float(rng.uniform(0.2, 0.7)) * n, float(rng.uniform()) * n
    use_sum_E = rng.dirichlet(np.ones(experts)) * n if experts else np.zeros(0)
    log_loss_B, brier_B = -log_p_BC[np.arange(n), label_B], brier(log_p_BC, label_B)
    return GroupStatistics(
        n,
        loss_sum,
        float(log_loss_B.sum()),
        float((log_loss_B**2).sum()),
        float(brier_B.sum()),
        float((brier_B**2).sum()),
        open_sum,
        confusion_CC,
        scores,
        use_sum_E,
    )


@cache
def statistics_of(kind: str, n: int, seed: int, experts: int = 16) -> tuple[Outcome, GroupStatistics]:
    """Return an outcome as of synthetic cohorts, and statistics of `n` artificial patients of it."""
    rng = np.random.default_rng(seed)
    use_BE = rng.dirichlet(np.ones(experts), n) if experts else None
    if kind == "segmentation":
        masks, target_BV = drawn(n, rng)
        seen = Seen(np.ones(n, np.int64), np.zeros(n, np.int64), target_BV, rng.random(n), rng.random(n), use_BE)
        return masks, masks.collect(seen, rng.normal(size=(n, masks.width)))[1]
    outcome, made = outcomes()[kind].made(rng.normal(size=n), rng)
    seen = Seen(np.ones(n, np.int64), made.label_R, made.target_RT, rng.uniform(0.2, 0.7, n), rng.random(n), use_BE)
    return outcome, outcome.collect(seen, rng.normal(size=(n, outcome.width)))[1]


class Drill:
    """A run that a test drives, round by round, through the store's observer. Who makes a store ends its drills."""

    under_way: ClassVar[list["Drill"]] = []

    @classmethod
    def end_all(cls) -> None:
        """End the heartbeats of all runs that were left under way."""
        while cls.under_way:
            cls.under_way.pop().observer.heartbeat.stop()

    def __init__(
        self,
        engine: Engine,
        folder,
        sites: Mapping[str, Mapping[int, int]],
        rounds: int = 4,
        refused: Mapping[str, str] | None = None,
        patients: Mapping[str, Mapping[int, int]] | None = None,
        seed: int = 0,
        experts: int = 16,
        changes: Mapping[str, Scalar] | None = None,
        share: float = 0.5,
        names: Sequence[str] = NAMES[:3],
        outcome: str = "",
    ) -> None:
        self.outcome = outcome
        self.seed, self.experts, self.share = seed, experts, share
        self.observer = StoreObserver(engine, folder, beat=0.2)
        self.schema = schema(tuple(names), series=())
        if outcome:
            predicts = statistics_of(outcome, 1, 0)[0]
            self.schema = CohortSchema(name="tiny", modalities=self.schema.modalities, **label_fields(predicts))
        own: dict[str, Scalar] = {"train.warmup-rounds": rounds // 2, "train.routing-rounds": rounds - rounds // 2}
        self.config: Config = settings(own | {"results": str(folder), "seed": seed} | dict(changes or {}))
        self.sites, self.rounds, self.refused, self.done = sites, rounds, refused or {}, 0
        self.patients = patients or sites
        self.counts = {k: 0 for found in sites.values() for k in found}
        for found in sites.values():
            for k, n in found.items():
                self.counts[k] += n
        self.validation: Mapping[str, Mapping[int, GroupStatistics]] = {}
        self.observer.begun(self.config)
        self.under_way.append(self)

    def start(self) -> "Drill":
        self.observer.started(RunStart(self.config, self.schema, self.sites, self.counts, self.refused))
        return self

    def open_round(self, deadline: float = 600.0) -> None:
        where, everybody = (self.done + 1, self.rounds, 1, deadline), tuple(self.sites)
        self.observer.round_started(RoundStart(*where, sites=self.sites, asked=everybody, refused=self.refused))

    def round(
        self, absent: Mapping[str, str] | None = None, privacy: Mapping[str, PrivacySpent] | None = None
    ) -> RoundRecord:
        self.open_round()
        absent = absent or {}
        self.done += 1
        by_site = {
            name: {
                k: self._statistics(n, 1000 * self.seed + 100 * i + k + self.done, 0.5 + 0.3 * self.done, 100 * i + k)
                for k, n in found.items()
            }
            for i, (name, found) in enumerate(self.patients.items())
            if name not in absent
        }
        weight = 1 / len(self.counts)
        self.validation = by_site
        record = RoundRecord(
            round=self.done,
            rounds=self.rounds,
            stage=1 if self.done <= self.rounds // 2 else 2,
            seconds=1.5 + self.done,
            counts=self.counts,
            weights_used=dict.fromkeys(self.counts, weight),
            weights_after=dict.fromkeys(self.counts, weight),
            risks=dict.fromkeys(self.counts, 0.5 / self.done),
            validation=merge(by_site.values()),
            answered=tuple(by_site),
            absent=absent,
            bytes_down=2_000_000,
            bytes_up=1_900_000,
            validation_by_site=by_site,
            privacy=privacy or {},
        )
        self.observer.round_done(record, {})
        return record

    def finish(self) -> RunResult:
        test = {
            name: {k: self._statistics(2 * n, 1000 * self.seed + 7 * i + k, 2.0, 7 * i + k) for k, n in found.items()}
            for i, (name, found) in enumerate(self.patients.items())
        }
        weights = dict.fromkeys(self.counts, 1 / len(self.counts))
        result = RunResult(self.config, self.schema, self.counts, weights, {}, test, self.validation or test, {}, 12.0)
        self.observer.finished(result)
        return result

    def _statistics(self, n: int, seed: int, skill: float, who: int) -> GroupStatistics:
        if self.outcome:
            return statistics_of(self.outcome, n, who, self.experts)[1]
        return statistics(n, seed, skill, self.experts, who=who, share=self.share)


def large_run(engine: Engine, groups: int = 300, sites: int = 50, rounds: int = 200, experts: int = 128) -> int:
    """A run under way with that many groups, sites and rounds, straight into the tables; its id."""
    rng = np.random.default_rng(0)
    now = time.time()
    names = ["+".join(NAMES[i] for i in range(len(NAMES)) if mask >> i & 1) for mask in range(1, groups + 1)]
    with Session(writing(engine)) as session, session.begin():
        run = Run(
            name="large", folder="results/large", cohort="large", seed=0, version="0", config={"seed": 0}, reason="",
            classes=["no", "yes"], modalities=list(NAMES), status="running", began=now, heard=now + 3600, change=1,
            rounds=rounds + 10, round=rounds, stage=2, round_began=now, round_closes=now + 600,
        )  # fmt: skip
        session.add(run)
        session.flush()
        of = {"run_id": run.id}
        site_rows = [
            {"number": s, "name": f"Hospital {s:02}", "train_n": 900, "asked": True, "refused": None}
            for s in range(1, sites + 1)
        ]
        group_rows = [
            {"number": g, "mask": g, "name": names[g - 1], "train_n": 1 + 3000 // g, "tail": g > 4}
            for g in range(1, groups + 1)
        ]
        session.execute(insert(Site), [of | row for row in site_rows])
        session.execute(insert(Group), [of | row for row in group_rows])
        spent: dict[str, float] = {"seconds": 30.0, "ended": now}
        session.execute(
            insert(Round),
            [
                of | spent | {"round": r, "stage": 1 + (r > rounds // 2), "bytes_down": 10**8 + r, "bytes_up": 10**8}
                for r in range(1, rounds + 1)
            ],
        )
        session.execute(
            insert(RoundSite),
            [
                {**of, "round": rounds, "site": s, "absent": None if s % 9 else "no answer within 600 s"}
                for s in range(1, sites + 1)
            ],
        )
        scores = iter(_scores(rng, 4096))
        weights = rng.dirichlet(np.ones(groups), size=rounds).tolist()

        def group_row(r: int, g: int) -> dict:
            weight = weights[r - 1][g - 1] if g else None
            return of | {"round": r, "group": g, "risk": 0.4, "weight": weight, "weight_after": weight} | next(scores)

        every = [group_row(r, g) for r in range(1, rounds + 1) for g in range(groups + 1)]
        session.execute(insert(RoundGroup), every)
        session.execute(
            insert(Cell),
            [
                of | {"patients": VALIDATION, "site": s, "group": g} | next(scores)
                for s in range(sites + 1)
                for g in range(groups + 1)
            ],
        )
        use_GE = rng.dirichlet(np.ones(experts), size=groups + 1).round(5)
        session.execute(
            insert(ExpertUse),
            [of | {"patients": VALIDATION, "group": g, "use": use_GE[g].tolist()} for g in range(groups + 1)],
        )
        return run.id


def _scores(rng: np.random.Generator, distinct: int) -> Iterable[dict]:
    """Rows of scores for ever, of so many different ones."""
    rows = []
    for _ in range(distinct):
        row: dict = dict.fromkeys(SCORED) | {"n": int(rng.integers(1, 400)), "loss": float(rng.uniform(0.1, 1))}
        row |= {"positives": row["n"] // 3, "gate_open": float(rng.uniform()), "auroc_bound": 0.001}
        for name in SCORES:
            value = float(rng.uniform(0.4, 1))
            row |= {name: value, f"{name}_low": max(0.0, value - 0.1), f"{name}_high": min(1.0, value + 0.07)}
        rows.append(row)
    while True:
        yield from rows
