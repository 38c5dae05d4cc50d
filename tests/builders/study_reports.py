"""Results of studies that were never run: random numbers with a seed, and statistics by the real functions.

`study` makes any number of panels, arms, groups and sites, with cells missing, scores undefined and arms that are truly
better or worse by a given amount.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from remind_studies.results import Results
from remind_studies.results.measures import LOWER_IS_BETTER, METRICS, USUAL
from remind_studies.results.statistics import detectable, equivalence, estimate, holm, paired, standings

ARMS = ("softmoe", "attention", "groupdro", "reweigh", "fedavg", "remind")
ANCHORS = ("local remind", "pooled remind")
MODALITIES = ("history", "ecg", "exercise", "imaging", "blood")
RATIO = 0.25  # n_test/n_train of five folds
MARGIN = 0.005


@dataclass(frozen=True)
class Plan:
    """What an example holds.

    Attributes
    ----------
    arms_of
        Panel → arms, where these are not those of all; the first is the reference.
    gain
        By how much the reference is truly better than each other method; of an arm, or of all.
    spread
        Standard deviation of a seed's differences between arms.
    gone
        Share of the values that are missing.
    """

    panels: tuple[tuple[str, str], ...] = (("compare", "6 methods on uci_heart4"),)
    arms: tuple[str, ...] = ARMS
    arms_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    anchors: tuple[str, ...] = ANCHORS
    reference: str = "remind"
    modalities: tuple[str, ...] = MODALITIES
    groups: int = 8
    sites: tuple[str, ...] = ("Cleveland", "Budapest", "Zürich & Basel", "Long Beach VA")
    seeds: int = 10
    metric: str = "auroc"
    measures: tuple[str, ...] = ()
    gain: float | Mapping[str, float] = 0.0
    spread: float = 0.02
    gone: float = 0.0
    missing: tuple[str, ...] = ()
    facts: Mapping[str, float] | None = None
    scores: bool = True
    traces: bool = True
    random: int = 0


def study(plan: Plan | None = None, **changes: Any) -> Results:
    """The example of a plan, or of the plain plan with changes."""
    plan = replace(plan or Plan(), **changes)
    rng = np.random.default_rng(plan.random)
    panels = [_panel(_own(plan, name), name, title, rng) for name, title in plan.panels]
    content = {
        "study": "compare",
        "title": "methods side by side, per modality combination and hospital",
        "cohort": {
            "name": "uci_heart4",
            "patients": 920,
            "groups": plan.groups,
            "sites": len(plan.sites),
            "modalities": plan.modalities,
            "classes": ("healthy", "disease"),
        },
        "seeds": list(range(plan.seeds)),
        "folds": 5,
        "metric": plan.metric,
        "measure": "mean_tail",
        "least": 30,
        "margin": MARGIN,
        "tuning": {
            "budget": 8,
            "text": "8 settings tried for each method; the best mean over tail groups on validation patients won.",
            "chosen": {arm: {"train.lr": 3e-4, "model.dropout": 0.2} for arm in plan.arms},
        },
        "settings": {
            "common": {"data.cohort": "uci_heart4.toml", "train.rounds": 20, "federation.secure": False},
            "arms": {arm: {"method.fusion": arm, "method.rule": "lg"} for arm in (*plan.arms, *plan.anchors)},
        },
        "panels": panels,
        "facts": _facts(plan),
        "missing": plan.missing,
        "made": {
            "command": "remind bench compare --cohort simulation/cohorts/uci_heart4.toml --seeds 10",
            "date": "2026-11-21 19:45",
            "seconds": 1083.4,
            "trained": 1990.5,
            "machine": "2 × Example CPU, Linux x86_64",
            "python": "3.11.7",
            "torch": "2.15.0",
            "version": "0.1.0",
            "commit": "194882e",
        },
    }
    return Results.from_json(json.dumps(content), "example")


def _own(plan: Plan, panel: str) -> Plan:
    """The plan of one panel."""
    own = plan.arms_of.get(panel)
    return replace(plan, arms=own, anchors=(), reference=own[0]) if own else plan


def masks(plan: Plan) -> list[int]:
    """Bitmasks of the groups, the most frequent first: all modalities, then ever fewer."""
    every = range(2 ** len(plan.modalities) - 1, 0, -1)
    return sorted(every, key=lambda mask: (-mask.bit_count(), mask))[: plan.groups]


def _panel(plan: Plan, name: str, title: str, rng: np.random.Generator) -> dict[str, Any]:
    arms = (*plan.arms, *plan.anchors)
    there = masks(plan) if plan.scores else []
    train = {mask: round(400 * 0.62**i, 1) for i, mask in enumerate(there)}
    tested = {mask: round(n / 4 * 5) for mask, n in train.items()}
    total = sum(train.values())
    groups = [
        {
            "mask": mask,
            "name": "+".join(m for i, m in enumerate(plan.modalities) if mask >> i & 1),
            "tail": train[mask] / total < 0.15,
            "train_n": train[mask],
            "test_n": tested[mask] / 5,
            "tested": tested[mask],
            "positives": tested[mask] // 3,
            "ranked": tested[mask] >= 30,
        }
        for mask in there
    ]
    sites = [
        {"name": site, "test_n": 80.0 / (i + 1), "tested": 400 // 5**i, "ranked": 400 // 5**i >= 30}
        for i, site in enumerate(plan.sites if plan.scores else ())
    ]
    values = {
        (measure, metric): {arm: _values(plan, arm, metric, rng) for arm in arms}
        for measure in ((*USUAL, *plan.measures) if plan.scores else ())
        for metric in METRICS
    }
    return {
        "name": name,
        "title": title,
        "reference": plan.reference,
        "arms": [{"name": arm, "anchor": arm in plan.anchors} for arm in arms],
        "groups": groups,
        "sites": sites,
        "summaries": [
            {"arm": arm, "measure": measure, "metric": metric, **_estimate(own)}
            for (measure, metric), by_arm in values.items()
            for arm, own in by_arm.items()
        ],
        "by_group": [
            {"arm": arm, "mask": mask, "metric": metric, **_score(plan, arm, metric, tested[mask], rng)}
            for arm in arms
            for mask in there
            for metric in METRICS
        ],
        "by_site": [
            {"arm": arm, "site": site["name"], "metric": metric, **_score(plan, arm, metric, site["tested"], rng)}
            for arm in arms
            for site in sites
            for metric in METRICS
        ],
        "tests": _tests(plan, values),
        "best": [
            {
                "measure": measure,
                "metric": metric,
                **asdict(standings({a: by_arm[a] for a in plan.arms}, RATIO, MARGIN, lower=metric in LOWER_IS_BETTER)),
            }
            for (measure, metric), by_arm in values.items()
        ],
        "traces": [_trace(plan.reference, there, rng)] if plan.traces and plan.scores and plan.reference else [],
    }


def _values(plan: Plan, arm: str, metric: str, rng: np.random.Generator, few: float = 1.0) -> list[float | None]:
    """One per seed: what seeds have in common is drawn alike for all arms."""
    common_J = np.random.default_rng(plan.random + 1).normal(0.8, 0.02, plan.seeds)
    gain = plan.gain.get(arm, 0.0) if isinstance(plan.gain, Mapping) else plan.gain
    sign = -1 if metric in LOWER_IS_BETTER else 1
    own = 0.0 if arm == plan.reference else -sign * gain
    own -= 0.06 * (arm == "local remind")
    value_J = np.clip(common_J + own + rng.normal(0, plan.spread * few, plan.seeds), 0, 1)
    gone_J = rng.random(plan.seeds) < plan.gone
    return [None if gone else float(value) for value, gone in zip(value_J, gone_J, strict=True)]


def _estimate(values: Sequence[float | None]) -> dict[str, Any]:
    one = estimate(values, RATIO)
    low = None if one.low is None else max(one.low, 0.0)
    high = None if one.high is None else min(one.high, 1.0)
    return {"values": values, "n": one.n, "mean": one.mean, "sd": one.sd, "low": low, "high": high}


def _score(plan: Plan, arm: str, metric: str, tested: int, rng: np.random.Generator) -> dict[str, Any]:
    """Of a group or a site: the fewer were tested, the wider, and undefined for very few."""
    values = _values(plan, arm, metric, rng, few=float(np.sqrt(400 / max(tested, 1))))
    if tested < 12:
        values = [None] * plan.seeds
    elif tested < 30:
        values[::3] = [None] * len(values[::3])
    return {**_estimate(values), "pooled": None if tested < 3 else 0.75}


def _tests(plan: Plan, values: Mapping[tuple[str, str], Mapping[str, list[float | None]]]) -> list[dict[str, Any]]:
    found = [
        (measure, arm, paired(by_arm[arm], by_arm[plan.reference], RATIO))
        for (measure, metric), by_arm in values.items()
        if metric == plan.metric and plan.reference
        for arm in by_arm
        if arm != plan.reference
    ]
    adjusted = holm([one.p for _, _, one in found])
    by_measure = {measure: by_arm for (measure, metric), by_arm in values.items() if metric == plan.metric}
    equal = holm([equivalence(by_measure[m][arm], by_measure[m][plan.reference], RATIO, MARGIN) for m, arm, _ in found])
    return [
        {
            "measure": measure,
            "metric": plan.metric,
            "arm": arm,
            "against": plan.reference,
            "difference": one.mean,
            "low": one.low,
            "high": one.high,
            "p": one.p,
            "p_adjusted": p,
            "p_equal": p_equal,
            "detectable": detectable(one.sd, one.n, RATIO),
            "n": one.n,
        }
        for (measure, arm, one), p, p_equal in zip(found, adjusted, equal, strict=True)
    ]


def _trace(arm: str, there: Sequence[int], rng: np.random.Generator) -> dict[str, Any]:
    log_G, drift_G = np.zeros(len(there)), rng.normal(0, 0.08, len(there))
    rounds = []
    for number in range(1, 31):
        log_G = log_G + drift_G + rng.normal(0, 0.02, len(there))
        share_G = np.exp(log_G) / np.exp(log_G).sum()
        routing = number > 15
        open_G = np.clip(0.9 - 0.02 * number + rng.normal(0, 0.05, len(there)), 0, 1)
        rounds.append(
            {
                "round": number,
                "stage": 2 if routing else 1,
                "weights": dict(zip(there, share_G.tolist(), strict=True)),
                "gate_open": dict(zip(there, open_G.tolist(), strict=True)) if routing else {},
                "validation_log_loss": 0.4 + 1 / number,
            }
        )
    return {"arm": arm, "rounds": rounds}


def _facts(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "panel": panel,
            "arm": arm,
            "name": name,
            "values": [value * (1 + i / 7)] * plan.seeds,
            "n": plan.seeds,
            "mean": value * (1 + i / 7),
            "sd": 0.0,
        }
        for panel, _ in plan.panels
        for i, arm in enumerate(plan.arms)
        for name, value in (plan.facts or {}).items()
    ]
