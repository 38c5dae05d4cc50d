"""Rows of the tables a run reports: per round and group, and the final one per group and site."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

from remind import groups
from remind.data.schema import CohortSchema
from remind.federation.messages import USE_DIGITS
from remind.metrics.scores import Scores, scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind_server.records import RoundRecord, RunResult

Row = dict[str, Any]
ALL = "all"
_NOTHING: Row = dict.fromkeys(Scores.__dataclass_fields__) | {"n": 0}


def round_rows(record: RoundRecord, schema: CohortSchema) -> list[Row]:
    """One row per group in play: λ, R_k, and validation scores of the model before the round's training."""
    tail = groups.tail(record.counts)
    rows = []
    for group, count in record.counts.items():
        measured = record.validation.get(group)
        rows.append(
            {
                "round": record.round,
                "stage": record.stage,
                "group": groups.name(group, schema.names),
                "mask": group,
                "tail": group in tail,
                "train_n": count,
                "lambda": record.weights_used[group],
                "lambda_next": record.weights_after[group],
                "risk": record.risks.get(group),
                "gate_open": measured.open_sum / measured.count if measured else None,
                "experts": expert_use(measured),
                "validation": _scores(measured),
            }
        )
    return rows


def final_rows(result: RunResult) -> list[Row]:
    """Test scores per site × group, with ``all`` for the merged margins; λ in every row of a group."""
    by_site = {ALL: merge(result.test.values()), **result.test}
    every = sorted({group for statistics in by_site.values() for group in statistics} | set(result.counts))
    tail = groups.tail(result.counts)
    rows: list[Row] = []
    for site, statistics in by_site.items():
        margin: Row = {"site": site, "group": ALL, "mask": None, "tail": None, "lambda": None}
        rows.append(margin | _scores(total(statistics)))
        rows += [
            {
                "site": site,
                "group": groups.name(group, result.schema.names),
                "mask": group,
                "tail": group in tail if group in result.counts else None,
                "lambda": result.weights.get(group),
            }
            | _scores(statistics.get(group))
            for group in every
            if site == ALL or group in statistics
        ]
    return rows


def expert_rows(result: RunResult) -> list[Row]:
    """The final model's expert map, of test patients: a row per group, and ``all``; none where there are no experts."""
    merged = merge(result.test.values())
    named = {ALL: total(merged)} | {groups.name(group, result.schema.names): found for group, found in merged.items()}
    return [
        {"group": group, "n": found.count} | {f"expert_{e}": weight for e, weight in enumerate(use, start=1)}
        for group, found in named.items()
        if found is not None and (use := expert_use(found)) is not None
    ]


def expert_use(statistics: GroupStatistics | None) -> list[float] | None:
    """Mean weight of each expert, as precisely as it was reported; None if nothing is known of it."""
    if statistics is None or not len(statistics.use_sum_E):
        return None
    return [round(weight, USE_DIGITS + 1) for weight in statistics.use_E.tolist()]


def summary(result: RunResult) -> Row:
    """The run in a few numbers: overall, mean over sites, worst group and mean of the tail groups, on test patients."""
    merged = merge(result.test.values())
    tail = groups.tail(result.counts)
    per_group = {group: scores(statistics) for group, statistics in merged.items()}
    per_site = [scores(s) for statistics in result.test.values() if (s := total(statistics)) is not None]
    return {
        "overall": _scores(total(merged)),
        "mean_over_sites": _means(per_site),
        "mean_over_groups": _means(per_group.values()),
        "mean_over_tail_groups": _means(s for group, s in per_group.items() if group in tail),
        "worst_group": _worst(per_group, result.schema),
        "groups": len(result.counts),
        "tail_groups": len(tail),
        "sites": len(result.test),
        "absent": dict(result.absent),
        "rounds_left_out": dict(result.left_out),
        "seconds": round(result.seconds, 2),
    }


def _scores(statistics: GroupStatistics | None) -> Row:
    return asdict(scores(statistics)) if statistics else dict(_NOTHING)


def _means(many: Any) -> Row:
    """Plain means of the scores that are defined."""
    found: dict[str, list[float]] = {"accuracy": [], "balanced_accuracy": [], "macro_f1": [], "auroc": [], "loss": []}
    for one in many:
        for name, values in found.items():
            if (value := getattr(one, name)) is not None:
                values.append(value)
    return {name: fmean(values) if values else None for name, values in found.items()}


def _worst(per_group: Mapping[int, Scores], schema: CohortSchema) -> Row | None:
    """The group with the highest mean loss: defined for every group, however few its patients."""
    if not per_group:
        return None
    group = max(per_group, key=lambda g: (per_group[g].loss if math.isfinite(per_group[g].loss) else math.inf, g))
    return {"group": groups.name(group, schema.names)} | asdict(per_group[group])
