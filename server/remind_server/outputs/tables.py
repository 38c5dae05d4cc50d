"""Makes the rows of a run's tables: per round and group, and at the end per group and site."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from remind import groups
from remind.data.cohort.schema import CohortSchema
from remind.federation.message_statistics import USE_DIGITS
from remind.metrics import labels
from remind.metrics.aggregates import (
    LEAST,
    Examined,
    Scope,
    apart,
    averaged,
    by_class,
    examine,
    is_ranked,
    measure,
    scope_of,
    small_groups,
    tail_groups,
    worst,
)
from remind.metrics.chance import DRAWS, expected_worst
from remind.metrics.remarks import one_class, recalls
from remind.metrics.score import Score
from remind.metrics.scores import EVERY, intervals, row_of, scores_of
from remind.metrics.statistics import GroupStatistics, merge, total
from remind.outcomes.multilabel import Multilabel
from remind_server.outputs.calibration_tables import everyone_rows
from remind_server.outputs.records import RoundRecord, RunResult

Row = dict[str, Any]
ALL = "all"
WITHHELD = "withheld"  # instead of a number of patients that every site withholds


def round_rows(record: RoundRecord, schema: CohortSchema) -> list[Row]:
    """Return one row per group: λ, R_k, and validation scores of the model before the round's training.

    ``withheld`` counts the sites that may have validation patients of the group, but fewer than their minimum. If no
    other site reports, the number ``n`` is unknown, not 0.
    """
    tail, own = groups.tail(record.counts), scores_of(schema.predicts.kind, schema.predicts.parts)
    rows = []
    for group, count in record.counts.items():
        measured, silent = record.validation.get(group), withholding(record.withheld, group)
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
                "risk_error": record.risk_errors.get(group),
                "gate_open": measured.open_sum / measured.count if measured else None,
                "experts": expert_use(measured),
                "validation": row_of(measured, own) | ({"n": None} if silent and not measured else {}),
                "withheld": silent,
            }
        )
    return rows


def final_rows(result: RunResult) -> list[Row]:
    """Return test scores per site × group, with ``all`` for the merged margins, and λ in every row of a group.

    `ranked` says whether AUROC can rank the group (`metrics.aggregates`): enough patients, of two classes.
    ``withheld`` counts the sites (in a margin: sites × groups) that train on the group but withhold its test patients,
    because there are fewer than their minimum, or none. If no other site reports, ``n`` is unknown, not 0.
    """
    by_site = {ALL: merge(result.test.values()), **result.test}
    every = sorted({group for statistics in by_site.values() for group in statistics} | set(result.counts))
    tail = tail_of(result)
    rows: list[Row] = []
    own = own_scores(result)
    for site, statistics in by_site.items():
        silent = result.withheld if site == ALL else {site: result.withheld.get(site, ())}
        margin: Row = {"site": site, "group": ALL, "mask": None, "tail": None, "ranked": None, "lambda": None}
        rows.append(margin | _known(total(statistics), own, sum(map(len, silent.values()))))
        rows += [
            {
                "site": site,
                "group": groups.name(group, result.schema.names),
                "mask": group,
                "tail": group in tail,
                "ranked": _ranked(statistics.get(group)),
                "lambda": result.weights.get(group),
            }
            | _known(statistics.get(group), own, withholding(silent, group))
            for group in every
            if site == ALL or group in statistics or withholding(silent, group)
        ]
    return rows


def interval_rows(result: RunResult) -> list[Row]:
    """Return patients of each class and 95 % intervals, for the groups in the margin of `final_rows` and ``all``."""
    merged = merge(result.test.values())
    named = {ALL: total(merged)} | {groups.name(group, result.schema.names): found for group, found in merged.items()}
    return [
        {"group": group, "n_by_class": by_class(found)} | {"intervals": intervals(found)}
        for group, found in named.items()
        if found is not None
    ]


def label_rows(result: RunResult) -> list[Row]:
    """Return scores of each label on test patients; none of an outcome without several labels."""
    outcome, everyone = result.schema.predicts, total(merge(result.test.values()))
    if everyone is None or not isinstance(outcome, Multilabel):
        return []
    return labels.label_rows(everyone, outcome.labels)


def expert_rows(result: RunResult) -> list[Row]:
    """Return the final model's expert map on test patients: a row per group, and ``all``; none without experts."""
    merged = merge(result.test.values())
    named = {ALL: total(merged)} | {groups.name(group, result.schema.names): found for group, found in merged.items()}
    return [
        {"group": group, "n": found.count} | {f"expert_{e}": weight for e, weight in enumerate(use, start=1)}
        for group, found in named.items()
        if found is not None and (use := expert_use(found)) is not None
    ]


def expert_use(statistics: GroupStatistics | None) -> list[float] | None:
    """Return the mean weight of each expert, as precisely as it was reported; None if unknown."""
    if statistics is None or not len(statistics.use_sum_E):
        return None
    return [round(weight, USE_DIGITS + 1) for weight in statistics.use_E.tolist()]


def summary(result: RunResult) -> Row:
    """Summarise the run on test patients; `metrics.aggregates` defines which groups count.

    `averaged` says, score by score, how many groups a mean covers, and `of` how many there are.
    """
    model = examine(result.test)
    scope = scope_of(model, result.counts)
    tail_tested = scope.tail & model.by_group.keys()
    own = own_scores(result)
    return {
        "overall": row_of(total(model.by_group), own),
        "tail_patients": row_of(total({k: s for k, s in model.by_group.items() if k in scope.tail}), own),
        "mean_over_sites": _mean("mean_sites", model, scope, len(model.sites)),
        "mean_over_groups": _mean("mean_groups", model, scope, len(model.groups)),
        "mean_over_tail_groups": _mean("mean_tail", model, scope, len(scope.tail)),
        "worst_group": _worst(model, scope, result.schema),
        "small_groups": _small(model, own),
        "one_class": _one_class(model, result.schema),
        "model": {
            "round": result.round,
            "last_round": result.last,
            "rounds": result.config.train.rounds,
            "selected": None if result.selected is None else dict(result.selected),
            "blend": result.blend,
        },
        "calibration": _calibration(result),
        "least": LEAST,
        "groups": len(result.counts),
        "tail_groups": len(scope.tail),
        "tail_groups_tested": len(tail_tested),
        "sites": len(result.test),
        "absent": dict(result.absent),
        "rounds_left_out": dict(result.left_out),
        "privacy": {name: told.model_dump() for name, told in sorted(result.privacy.items())},
        "seconds": round(result.seconds, 2),
    }


def _small(model: Examined, own: Mapping[str, Score]) -> Row:
    """Return the number of groups that tables pool in one row, and the scores of all their patients together."""
    small = small_groups(model.by_group)
    return {"groups": len(small)} | combined({k: s for k, s in model.by_group.items() if k in small}, own)


def _one_class(model: Examined, schema: CohortSchema) -> Row | None:
    """Return the class that the model predicts for nearly everyone, and each class's recall; None: there is none."""
    everyone = total(model.by_group)
    called = None if everyone is None else one_class(everyone.confusion_CC)
    if everyone is None or called is None:
        return None
    return {
        "class": schema.classes[called],
        "recognised": dict(zip(schema.classes, recalls(everyone.confusion_CC), strict=True)),
    }


def _calibration(result: RunResult) -> Row | None:
    """Return the calibration, and raw and calibrated scores and decisions on test patients; None: no calibration."""
    found = result.calibration
    if found is None:
        return None
    test = {row["model"]: {k: v for k, v in row.items() if k != "model"} for row in everyone_rows(result)}
    return {
        "method": found.method,
        "temperature": 1 / found.scaling.weights[0] if found.method == "temperature" else None,
        "patients": found.patients,
        "reason": found.reason,
        "operating_point": found.wanted,
        "threshold": found.point.threshold if found.point else None,
        "groups_with_a_threshold": len(found.group_points),
        "test": test,
    }


def tail_of(result: RunResult) -> frozenset[int]:
    """Return the tail groups of a run, tested groups without training patients included."""
    return tail_groups(result.counts, merge(result.test.values()))


def withholding(withheld: Mapping[str, Collection[int]], group: int) -> int:
    """Count the sites that withhold a group."""
    return sum(group in groups_ for groups_ in withheld.values())


def own_scores(result: RunResult) -> dict[str, Score]:
    """Return the scores of what a run predicts."""
    outcome = result.schema.predicts
    return scores_of(outcome.kind, outcome.parts)


def combined(statistics: Mapping[int, GroupStatistics], own: Mapping[str, Score]) -> Row:
    """Return these scores of the patients of several groups as one set."""
    return row_of(total(statistics), own)


def _known(statistics: GroupStatistics | None, own: Mapping[str, Score], withheld: int) -> Row:
    """Return scores and how many sites withheld theirs; if all did, the number of patients is unknown."""
    row: Row = row_of(statistics, own) | {"withheld": withheld}
    return row | {"n": None} if withheld and not statistics else row


def _ranked(statistics: GroupStatistics | None) -> bool:
    """Return whether AUROC can rank a group: enough patients, and enough of two classes where there are classes."""
    return statistics is not None and is_ranked(by_class(statistics), EVERY["auroc"])


def _mean(name: str, model: Examined, scope: Scope, of: int) -> Row:
    return measure(name, model, scope) | {"averaged": averaged(name, model, scope), "of": of}


def _worst(model: Examined, scope: Scope, schema: CohortSchema) -> Row:
    """Return for each score the worst ranked group and its value; None if no group is ranked.

    `if_equal` is the value that would be expected if all these groups were equal; None for scores without a model.
    """
    found: Row = {}
    for metric in model.metrics:
        values = apart("worst_group", model, scope, metric)
        group = worst(values, metric)
        if group is None:
            found[metric] = None
            continue
        rows = [model.by_group[k] for k in sorted(scope.ranked_groups(metric))]
        by_chance = expected_worst(rows, metric, np.random.default_rng(DRAWS))
        found[metric] = {"group": groups.name(int(group), schema.names), "value": values[group], "if_equal": by_chance}
    return found
