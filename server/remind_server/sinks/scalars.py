"""A run's numbers as flat names: ``validation/auroc/fundus+oct``."""

from dataclasses import asdict
from typing import Any

from remind.data.cohort.schema import CohortSchema
from remind.metrics.scores import BOUNDS, EVERY, scores
from remind.metrics.statistics import total
from remind_server.outputs.records import RoundRecord, RunResult
from remind_server.outputs.tables import ALL, WITHHELD, final_rows, round_rows

NUMBERS = ("n", *EVERY, *BOUNDS)


def round_scalars(record: RoundRecord, schema: CohortSchema) -> dict[str, float]:
    """Return the defined numbers of one round: of each group, of all groups together, and of the round itself.

    If sites withhold patients, ``withheld`` is the number of these sites; without other sites there is no ``n``.
    """
    found: dict[str, Any] = {
        "round/seconds": record.seconds,
        "round/bytes_down": record.bytes_down,
        "round/bytes_up": record.bytes_up,
        "round/answered": len(record.answered),
        "round/absent": len(record.absent),
        "round/effective_sites": record.effective_sites if record.chances else None,
        "round/sampling_error": record.sampling_error,
    }
    for row in round_rows(record, schema):
        group = row["group"]
        found |= {f"{name}/{group}": row[name] for name in ("lambda", "risk", "gate_open")}
        found |= {f"validation/{name}/{group}": row["validation"].get(name) for name in NUMBERS}
        found[f"validation/{WITHHELD}/{group}"] = row["withheld"] or None
    everyone = total(record.validation)
    numbers: dict[str, Any] = {"n": None if record.withheld else 0} if everyone is None else asdict(scores(everyone))
    found |= {f"validation/{name}/{ALL}": numbers.get(name) for name in NUMBERS}
    return _defined(found)


def final_scalars(result: RunResult) -> dict[str, float]:
    """Return test scores of the final model: of each group over all sites, and of each site over all groups."""
    found: dict[str, Any] = {}
    for row in final_rows(result):
        if row["site"] == ALL:
            found |= {f"test/{name}/{row['group']}": row.get(name) for name in NUMBERS}
            found[f"test/{WITHHELD}/{row['group']}"] = row["withheld"] or None
        elif row["group"] == ALL:
            found |= {f"test_at_site/{name}/{row['site']}": row.get(name) for name in NUMBERS}
            found[f"test_at_site/{WITHHELD}/{row['site']}"] = row["withheld"] or None
    return _defined(found)


def _defined(found: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if value is not None}
