"""Run folders become runs of the store: of earlier versions, of another machine, or of a run whose store was lost.

What a folder does not hold stays unknown: scores of hospitals have no intervals there, validation patients are not told
apart by hospital, and groups cannot be scored together. Under a minimum count it decides less than a store would.
"""

import csv
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from remind.errors import UserError
from remind.outcomes.base import kind_of, outcomes
from remind_server.outputs.gaps import gaps_of
from remind_server.store.open import writing
from remind_server.store.schema import (
    ALL,
    EVERY_SCORED,
    FAILED,
    FINISHED,
    INCOMPLETE,
    TEST,
    Cell,
    ExpertUse,
    Group,
    Round,
    RoundGroup,
    RoundSite,
    Run,
    Site,
    SiteCounts,
    in_columns,
)
from remind_server.store.target import target_content

CONFIG, ROUNDS, GROUPS, FINAL, SUMMARY = "config.json", "rounds.jsonl", "groups.jsonl", "final.json", "summary.json"
UNFINISHED = "imported: the folder has no summary.json, so this run did not end"
Line = dict[str, Any]


def import_runs(engine: Engine, folder: Path) -> list[str]:
    """Enter the run folders in a folder, or the one that it is itself; return what became of each, in words.

    Raises
    ------
    UserError
        There is no run folder.
    """
    found = [folder] if (folder / CONFIG).is_file() else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if not found:
        raise UserError(f"--import {folder}: no run folder is there (none has a {CONFIG})")
    return [f"{path.name}: {_import(engine, path)}" for path in found]


def _import(engine: Engine, folder: Path) -> str:
    path = folder.resolve()
    try:
        with Session(writing(engine)) as session, session.begin():
            known = select(Run.id).where(Run.name == path.name, Run.folder.in_((str(folder), str(path))))
            if session.scalar(known) is not None:
                return "is in the run store already"
            return f"imported as run {_enter(session, path)}"
    except UserError as error:
        return f"not imported: {error}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"not imported: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _enter(session: Session, folder: Path) -> int:
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    if "sites" not in config:
        raise UserError(f"its {CONFIG} names no hospitals; give the results folder of a run, not one of remind export")
    rounds, groups = _lines(folder / ROUNDS), _lines(folder / GROUPS)
    final = json.loads((folder / FINAL).read_text("utf-8")) if (folder / FINAL).is_file() else []
    summary = json.loads((folder / SUMMARY).read_text("utf-8")) if (folder / SUMMARY).is_file() else None
    run = _run(folder, config, rounds, summary)
    session.add(run)
    session.flush()
    of: Line = {"run_id": run.id}
    number_of = _groups(session, of, config, groups, final)
    site_of = _sites(session, of, config, rounds, final)
    for line in rounds:
        times = {"seconds": line["seconds"], "ended": run.began}
        sent = {"bytes_down": line["bytes_down"], "bytes_up": line["bytes_up"]}
        if line.get("chances"):
            sent |= {name: line[name] for name in ("effective_sites", "sampling_error")}
        session.add(Round(**of, round=line["round"], stage=line["stage"], **times, **sent))
        for name, absent in [*((name, None) for name in line["answered"]), *line["absent"].items()]:
            session.add(RoundSite(**of, round=line["round"], site=site_of[name], absent=absent))
    _insert(session, RoundGroup, [of | row for row in _round_groups(groups, number_of)])
    _insert(session, Cell, [of | row for row in _cells(final, number_of, site_of, _intervals(folder))])
    if len(run.classes) == 2 or kind_of(run.outcome).sides is None:
        session.add_all(SiteCounts(**of, **row) for row in _counts(final, number_of, site_of, run.round + 1))
    of_experts = of | {"patients": TEST}
    uses = [
        of_experts | {"group": number_of[row["group"]], "use": [float(v) for k, v in row.items() if k[:7] == "expert_"]}
        for row in _rows(folder / "experts.csv")
        if row["group"] in number_of
    ]
    _insert(session, ExpertUse, uses)
    return run.id


def _run(folder: Path, config: Line, rounds: list[Line], summary: Line | None) -> Run:
    try:
        began = time.mktime(time.strptime("-".join(folder.name.split("-")[:2]), "%Y%m%d-%H%M%S"))
    except ValueError:
        began = (folder / CONFIG).stat().st_mtime
    ended = max(path.stat().st_mtime for path in folder.iterdir() if path.is_file())
    gaps = gaps_of(summary or {})
    last = rounds[-1] if rounds else {"round": 0, "rounds": 0, "stage": 1}
    schema = config["schema"]
    return Run(
        name=folder.name,
        folder=str(folder),
        cohort=schema["name"],
        seed=config["seed"],
        version=config["versions"]["federated-remind"],
        config=dict(_flat(config["config"])),
        classes=list(schema["classes"]),
        outcome=(schema.get("outcome") or {}).get("kind", "classes"),
        target=_target(folder, schema),
        modalities=[one["name"] for one in schema["modalities"]],
        status=FAILED if summary is None else INCOMPLETE if gaps else FINISHED,
        reason=UNFINISHED if summary is None else "; ".join(gaps),
        began=began,
        heard=ended,
        ended=ended,
        change=1,
        rounds=last["rounds"],
        round=last["round"],
        stage=last["stage"],
        model=_model(folder, summary),
    )


def _groups(session: Session, of: Line, config: Line, groups: list[Line], final: list[Line]) -> dict[str, int]:
    """Enter the groups; return their numbers by name, with that of all together."""
    last = {line["group"]: line for line in groups}  # λ, counts and the tail as of the last round
    mask = {row["group"]: row for row in [*final, *groups] if row["mask"] is not None}
    number_of = {"all": ALL}
    for number, (name, row) in enumerate(mask.items(), start=1):
        number_of[name] = number
        train_n = last[name]["train_n"] if name in last else config["groups"].get(name, 0)
        session.add(Group(**of, number=number, mask=row["mask"], name=name, train_n=train_n, tail=bool(row["tail"])))
    return number_of


def _sites(session: Session, of: Line, config: Line, rounds: list[Line], final: list[Line]) -> dict[str, int]:
    """Enter the sites; return their numbers by name, with that of all together."""
    refused = {**config.get("refused", {}), **(rounds[-1].get("refused", {}) if rounds else {})}
    seen = [name for line in rounds for name in (*line["answered"], *line["absent"])]
    names = dict.fromkeys([*config["sites"], *refused, *seen, *(row["site"] for row in final if row["site"] != "all")])
    for number, name in enumerate(names, start=1):
        train_n = sum(config["sites"].get(name, {}).values())
        session.add(Site(**of, number=number, name=name, train_n=train_n, asked=False, refused=refused.get(name)))
    return {"all": ALL} | {name: number for number, name in enumerate(names, start=1)}


def _round_groups(groups: list[Line], number_of: Mapping[str, int]) -> Iterable[Line]:
    risks: dict[int, float] = {}
    patients: dict[int, int] = {}
    for line in groups:
        validation = line["validation"]
        round_ = line["round"]
        risks[round_] = risks.get(round_, 0.0) + (line["risk"] or 0.0) * line["lambda"]
        patients[round_] = patients.get(round_, 0) + (validation["n"] or 0)
        yield _scored(validation) | {
            "group": number_of[line["group"]],
            "round": round_,
            "weight": line["lambda"],
            "weight_after": line["lambda_next"],
            "risk": line["risk"],
            "gate_open": line["gate_open"],
            "withheld": line.get("withheld", 0),
        }
    nothing: Line = {"group": ALL, "weight": None, "weight_after": None, "withheld": 0}
    for round_, risk in risks.items():
        yield _scored({"n": patients[round_]}) | nothing | {"round": round_, "risk": risk}


def _cells(
    final: list[Line], number_of: Mapping[str, int], site_of: Mapping[str, int], intervals: Mapping[str, Line]
) -> Iterable[Line]:
    for row in final:
        ends = intervals.get(row["group"], {}) if row["site"] == "all" else {}
        key = {"patients": TEST, "site": site_of[row["site"]], "group": number_of[row["group"]]}
        yield _scored(row | ends) | key | {"withheld": row.get("withheld", 0)}


def _counts(final: list[Line], number_of: Mapping[str, int], site_of: Mapping[str, int], round_: int) -> Iterable[Line]:
    """A hospital's test patients of each group: of two classes by class, of an outcome without sides as one number."""
    by_site: dict[str, dict[str, list[int]]] = {}
    for row in final:
        if row["site"] != "all" and row["group"] != "all" and row["n"]:
            positives = row.get("positives")
            counts = [row["n"]] if positives is None else [row["n"] - positives, positives]
            by_site.setdefault(row["site"], {})[str(number_of[row["group"]])] = counts
    for site, found in by_site.items():
        yield {"patients": TEST, "round": round_, "site": site_of[site], "counts": found}


def _intervals(folder: Path) -> dict[str, Line]:
    path = folder / "intervals.json"
    found = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return {
        row["group"]: {
            f"{name}_{end}": value
            for name, interval in row["intervals"].items()
            for end, value in zip(("low", "high"), interval or (None, None), strict=True)
        }
        for row in found
    }


def _model(folder: Path, summary: Line | None) -> Line | None:
    """What the store keeps of the model of a run that ended (`outputs.calibration_tables.model_content`)."""
    if summary is None or "model" not in summary:
        return None
    path = folder / "calibration.json"
    return {
        "round": summary["model"]["round"],
        "last_round": summary["model"]["last_round"],
        "selected": summary["model"]["selected"],
        "calibration": json.loads(path.read_text("utf-8")) if path.is_file() else None,
        "scores": [_numbers(row) for row in _rows(folder / "calibration.csv")],
        "reliability": [_numbers(row) for row in _rows(folder / "reliability.csv")],
        "decisions": [_numbers(row) for row in _rows(folder / "decision-curve.csv")],
    }


def _scored(values: Line) -> Line:
    return in_columns({name: values.get(name) for name in EVERY_SCORED} | {"n": values["n"] or 0})


def _flat(values: Line, before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{before}{name.replace('_', '-')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value if isinstance(value, str | int | float | bool) else json.dumps(value)


def _lines(path: Path) -> list[Line]:
    """Return the lines of a file; one that was cut off by the end of its process is left out."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _target(folder: Path, schema: Line) -> Line | None:
    """Return what the observer writes of what is predicted; None of a kind that is not installed here."""
    outcome = schema.get("outcome") or {}
    if (kind := outcomes().get(outcome.get("kind", ""))) is None:
        return None
    labels = [
        {key: text if key == "label" else _label_number(key, text) for key, text in row.items()}
        for row in _rows(folder / "labels.csv")
    ]
    return target_content(kind.model_validate(outcome), labels)


def _label_number(key: str, text: str) -> int | float | None:
    if not text:
        return None
    return int(text) if key in ("n", "positives") else float(text)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _numbers(row: Mapping[str, str]) -> Line:
    texts = ("group", "model", "class")
    integers = ("n", "of_class", "sensitivity_n", "specificity_n")
    return {
        name: value if name in texts else None if value == "" else int(value) if name in integers else float(value)
        for name, value in row.items()
    }


def _insert(session: Session, table: Any, rows: list[Line]) -> None:
    if rows:
        session.execute(insert(table), rows)
