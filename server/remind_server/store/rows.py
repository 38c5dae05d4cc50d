"""Convert the observers' records into rows of the store."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from remind.metrics.packed import pack
from remind.metrics.scores import EVERY, intervals, scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind_server.outputs.records import RoundRecord
from remind_server.outputs.tables import expert_use, withholding
from remind_server.store.schema import ALL, SCORED, in_columns

Row = dict[str, Any]
_NOTHING: Row = dict.fromkeys(SCORED) | {"n": 0}


def scored(statistics: GroupStatistics | None) -> Row:
    """Return scores, intervals and gate of some patients; only n = 0 if there are none."""
    if statistics is None:
        return dict(_NOTHING)
    row = asdict(scores(statistics)) | {"gate_open": statistics.open_sum / statistics.count}
    for name, interval in intervals(statistics).items():
        row[f"{name}_low"], row[f"{name}_high"] = interval or (None, None)
    return row


def _stored(statistics: GroupStatistics | None) -> Row:
    """Return what `scored` gives, as columns."""
    return in_columns(scored(statistics))


def round_group_rows(run_id: int, record: RoundRecord, number_of: Mapping[int, int]) -> list[Row]:
    """Return one row per group of the run, and one for all patients together, whose R is Σ λ·R."""
    key: Row = {"run_id": run_id, "round": record.round}
    mean_risk = sum(record.weights_used[k] * risk for k, risk in record.risks.items()) if record.risks else None
    everywhere = sum(map(len, record.withheld.values()))
    margin = {"group": ALL, "weight": None, "weight_after": None, "risk": mean_risk, "withheld": everywhere}
    return [key | margin | _stored(total(record.validation))] + [
        key
        | {
            "group": number_of[mask],
            "weight": record.weights_used[mask],
            "weight_after": record.weights_after[mask],
            "risk": record.risks.get(mask),
            "withheld": withholding(record.withheld, mask),
        }
        | _stored(record.validation.get(mask))
        for mask in record.counts
    ]


def cell_rows(
    run_id: int,
    patients: str,
    by_site: Mapping[str, Mapping[int, GroupStatistics]],
    site_number: Mapping[str, int],
    group_number: Mapping[int, int],
    withheld: Mapping[str, Collection[int]],
) -> list[Row]:
    """Return one row per site and group with patients or withheld patients there, and the margins."""
    rows = []
    everywhere = {ALL: (merge(by_site.values()), withheld)}
    at_sites = {site_number[name]: (found, {name: withheld.get(name, ())}) for name, found in by_site.items()}
    for site, (statistics, silent) in (everywhere | at_sites).items():
        key = {"run_id": run_id, "patients": patients, "site": site}
        all_silent = sum(map(len, silent.values()))
        rows.append(key | {"group": ALL, "withheld": all_silent} | _stored(total(statistics)))
        rows += [
            key | {"group": group_number[mask], "withheld": withholding(silent, mask)} | _stored(statistics.get(mask))
            for mask in {*statistics, *(mask for groups in silent.values() for mask in groups)}
        ]
    return rows


def merged_rows(
    run_id: int, patients: str, by_site: Mapping[str, Mapping[int, GroupStatistics]], group_number: Mapping[int, int]
) -> list[Row]:
    """Return one row per group with patients: its statistics over all sites."""
    key: Row = {"run_id": run_id, "patients": patients}
    return [
        key | {"group": group_number[mask], "packed": pack(found)} for mask, found in merge(by_site.values()).items()
    ]


def site_round_rows(
    run_id: int, round_: int, by_site: Mapping[str, Mapping[int, GroupStatistics]], site_number: Mapping[str, int]
) -> list[Row]:
    """Return one row per site with patients: the scores of all of them in a round."""
    found = {name: (one.count, scores(one)) for name, own in by_site.items() if (one := total(own)) is not None}
    return [
        {
            "run_id": run_id,
            "round": round_,
            "site": site_number[name],
            "n": n,
            "scores": {key: value for key in EVERY if (value := getattr(measured, key)) is not None},
        }
        for name, (n, measured) in found.items()
    ]


def expert_rows(
    run_id: int, patients: str, by_site: Mapping[str, Mapping[int, GroupStatistics]], group_number: Mapping[int, int]
) -> list[Row]:
    """Return one row per group over all sites, and one for all patients; none if there are no experts."""
    merged = merge(by_site.values())
    numbered = {ALL: total(merged)} | {group_number[mask]: found for mask, found in merged.items()}
    return [
        {"run_id": run_id, "patients": patients, "group": group, "use": use}
        for group, found in numbered.items()
        if (use := expert_use(found)) is not None
    ]
