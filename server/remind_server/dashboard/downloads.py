"""CSV files with all data of the pages, for spreadsheets and scripts."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse

from remind.files import escape_formula
from remind.metrics.score import Score, names_of
from remind.metrics.scores import SCORES
from remind_server.dashboard.answers import Estimate, Patients, PatientScores, ScoreName
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.calibration import DecisionPoint, ModelScores, ReliabilityBin, model_card
from remind_server.dashboard.views.compare import comparison
from remind_server.dashboard.views.curves import MOST_CURVES, curves
from remind_server.dashboard.views.everything import add_everything
from remind_server.dashboard.views.experts import ExpertRow, expert_map
from remind_server.dashboard.views.groups import SortKey, group_table
from remind_server.dashboard.views.hospitals import hospitals
from remind_server.dashboard.views.thresholds import ThresholdPoint, group_curves
from remind_server.store.schema import ALL, Group, Site

WITHHELD = "withheld"


def routes(reader: Reader) -> APIRouter:
    """Return the routes, one file per view. Undefined is empty; `withheld` stands for a hidden count or score."""
    router = APIRouter(tags=["csv"])
    _more_files(router, reader)

    @router.get("/runs/{run_id}/groups.csv")
    def groups(run_id: int, by: SortKey = "log_loss", on: Patients | None = None) -> StreamingResponse:
        """The table of groups."""
        table, own = group_table(reader, run_id, by, on), reader.scores(run_id)
        head = ("group", "tail", "ranked", "train_n", "lambda", "risk", f"change_{table.change_of}", *_columns(own))
        rows = (
            [
                r.name,
                r.tail,
                r.ranked,
                WITHHELD if r.train_suppressed else r.train_n,
                r.weight,
                r.risk,
                r.change,
                *_cells(r.scores, own),
            ]
            for r in table.rows
        )
        return _file(f"run{run_id}-groups-{table.patients}", head, rows)

    @router.get("/runs/{run_id}/matrix.csv")
    def groups_by_sites(run_id: int, on: Patients | None = None) -> StreamingResponse:
        """Return all scores of every group at every site that has it; `all` names the margins."""
        with Session(reader.engine) as session:
            cells = reader.cells(session, run_id, on)
            site = {s.number: s.name for s in session.scalars(select(Site).where(Site.run_id == run_id))} | {ALL: "all"}
            group = {g.number: g.name for g in session.scalars(select(Group).where(Group.run_id == run_id))} | {
                ALL: "all"
            }
            found = dict(cells.every())
        keys = sorted(found, key=lambda key: (key[0] != ALL, site[key[0]], key[1] != ALL, group[key[1]]))
        own = reader.scores(run_id)
        rows = ([site[s], group[g], *_cells(found[s, g], own)] for s, g in keys)
        return _file(f"run{run_id}-matrix-{cells.patients}", ("site", "group", *_columns(own)), rows)

    @router.get("/runs/{run_id}/experts.csv")
    def groups_by_experts(run_id: int, on: Patients | None = None) -> StreamingResponse:
        """Return the mean weight of each expert in every group; only the header if the model has no experts."""
        found = expert_map(reader, group_table(reader, run_id, "name", on))
        head = ("group", "tail", "n", "in_effect", *(f"expert_{e}" for e in range(1, found.experts + 1)))

        def weights(r: ExpertRow) -> list[Any]:
            rest = WITHHELD if r.withheld and not r.suppressed else None
            return [r.in_effect, *r.use] if r.use else [rest] * (1 + found.experts)

        rows = ([r.name, r.tail, WITHHELD if r.suppressed else r.n, *weights(r)] for r in found.rows)
        return _file(f"run{run_id}-experts-{found.patients}", head, rows)

    @router.get("/runs/{run_id}/curves.csv")
    def over_rounds(run_id: int) -> StreamingResponse:
        """λ, risk, gate and validation scores of every group in every round; `all groups` first."""
        numbers = sorted(row.number for row in group_table(reader, run_id).rows)
        names = tuple(reader.scores(run_id))
        series = ("weight", "risk", "n", *names, "gate_open")

        def rows() -> Iterator[Sequence[Any]]:
            for start in range(0, max(len(numbers), 1), MOST_CURVES):
                part = curves(reader, run_id, numbers[start : start + MOST_CURVES])
                for curve in part.curves[start > 0 :]:
                    hidden, withheld = set(curve.suppressed), set(curve.withheld)
                    for i, round_ in enumerate(part.round):
                        values = {name: getattr(curve, name)[i] for name in series}
                        if i in hidden:
                            values["n"] = WITHHELD
                        elif i in withheld:
                            values |= dict.fromkeys((*names, "gate_open"), WITHHELD)
                        yield [round_, part.stage[i], curve.name, *values.values()]

        return _file(f"run{run_id}-curves", ("round", "stage", "group", "lambda", *series[1:]), rows())

    @router.get("/runs/{run_id}/rounds.csv")
    def rounds(run_id: int) -> StreamingResponse:
        """Time and bytes of every round, and what the draw of its sites does to its step."""
        found = curves(reader, run_id, ())
        head = ("round", "stage", "seconds", "bytes_down", "bytes_up", "effective_sites", "sampling_error")
        columns = [getattr(found, name) for name in head]
        return _file(f"run{run_id}-rounds", head, zip(*columns, strict=True))

    _compared(router, reader)
    return router


def _compared(router: APIRouter, reader: Reader) -> None:
    """Add the file of two runs side by side."""

    @router.get("/compare.csv")
    def compare(
        first: int, second: int, score: ScoreName | None = None, on: Patients | None = None
    ) -> StreamingResponse:
        """Two runs side by side, group by group."""
        score = reader.score(score, first, second)
        found = comparison(reader, first, second, score, on)
        own_of = {run_id: reader.scores(run_id) for run_id in (first, second)}
        ends = (f"difference_{score}_low", f"difference_{score}_high")
        head = (
            "group",
            "tail",
            "ranked",
            f"difference_{score}",
            *ends,
            *(f"{c}_{i}" for i in (first, second) for c in _columns(own_of[i])),
        )
        nothing = PatientScores(n=None)
        rows = (
            [
                p.name,
                p.tail,
                p.ranked,
                p.difference,
                p.low,
                p.high,
                *_cells(p.first or nothing, own_of[first]),
                *_cells(p.second or nothing, own_of[second]),
            ]
            for p in (found.overall, found.tail, *found.groups)
        )
        return _file(f"runs-{first}-{second}", head, rows)


def _site_files(router: APIRouter, reader: Reader) -> None:
    """Add the files of the hospitals and of the curves over the threshold."""

    @router.get("/runs/{run_id}/hospitals.csv")
    def of_hospitals(run_id: int, score: ScoreName | None = None, on: Patients | None = None) -> StreamingResponse:
        """One score of each hospital, that of training alone, and the gain."""
        score = reader.score(score, run_id)
        found = hospitals(reader, group_table(reader, run_id, "name", on), score)
        ends = ("", "_low", "_high")
        head = [
            "site",
            "train_n",
            "n",
            *(f"{name}{end}" for name in (score, "alone", "gain") for end in ends),
            "ranked",
        ]

        def three(one: Estimate | None) -> list[Any]:
            return [None] * 3 if one is None else [one.value, one.low, one.high]

        rows = (
            [
                row.name,
                WITHHELD if row.train_suppressed else row.train_n,
                WITHHELD if row.scores.suppressed else row.scores.n,
                *([WITHHELD] * 3 if row.scores.withheld else three(getattr(row.scores, score))),
                *three(row.alone),
                *three(row.gain),
                row.ranked,
            ]
            for row in found.rows
        )
        return _file(f"run{run_id}-hospitals-{found.patients}", head, rows)

    @router.get("/runs/{run_id}/thresholds.csv")
    def by_threshold(run_id: int, on: Patients | None = None, of: int = 0) -> StreamingResponse:
        """Curves over the threshold of all patients and of each group, without the withheld ones."""
        numbers = [ALL, *(row.number for row in group_table(reader, run_id, "name", on).rows)]
        found = group_curves(reader, run_id, numbers, on, of)
        head = ["group", "class", *ThresholdPoint.__dataclass_fields__]

        def rows() -> Iterator[Sequence[Any]]:
            for one in (found[number] for number in numbers if number in found):
                for point in one.points:
                    yield [one.group, one.scored, *vars(point).values()]

        return _file(f"run{run_id}-thresholds", head, rows())


def _more_files(router: APIRouter, reader: Reader) -> None:
    """Add the files about the model of a run (only headers before the run ends), and all files as one."""
    add_everything(router, reader)
    _site_files(router, reader)

    @router.get("/runs/{run_id}/calibration.csv")
    def calibration(run_id: int) -> StreamingResponse:
        """Probabilities and decisions on test patients, raw and calibrated."""
        card, head = model_card(reader, run_id), list(ModelScores.__dataclass_fields__)
        rows = ([getattr(row, name) for name in head] for row in (card.scores if card else ()))
        return _file(f"run{run_id}-calibration", head, rows)

    @router.get("/runs/{run_id}/reliability.csv")
    def reliability(run_id: int) -> StreamingResponse:
        """Reliability curves of test patients."""
        card, head = model_card(reader, run_id), list(ReliabilityBin.__dataclass_fields__)
        rows = ([*(getattr(r, name) for name in head), r.observed] for r in (card.reliability if card else ()))
        return _file(f"run{run_id}-reliability", [*head, "observed"], rows)

    @router.get("/runs/{run_id}/decisions.csv")
    def decisions(run_id: int) -> StreamingResponse:
        """Decision curves of test patients."""
        card, head = model_card(reader, run_id), list(DecisionPoint.__dataclass_fields__)
        rows = ([getattr(row, name) for name in head] for row in (card.decisions if card else ()))
        return _file(f"run{run_id}-decisions", head, rows)


def _columns(own: Mapping[str, Score]) -> tuple[str, ...]:
    """Return the columns of these scores."""
    numbers = (*names_of(own, ("", "_low", "_high")), *names_of(own, ("_bound",)))
    return ("n", "positives", *numbers, "gate_open", "sites_withholding")


COLUMNS = _columns(SCORES)


def _cells(scores: PatientScores, own: Mapping[str, Score]) -> list[Any]:
    if scores.withheld:
        rest = None if scores.suppressed else WITHHELD
        number = WITHHELD if scores.suppressed else scores.n
        return [number, *[rest] * (len(_columns(own)) - 2), scores.sites_withholding]
    cells: list[Any] = [scores.n, scores.positives]
    for name, score in own.items():
        found = getattr(scores, name)
        cells += [found] if not score.interval else [found.value, found.low, found.high] if found else [None] * 3
    return [
        *cells,
        *(getattr(scores, name) for name in names_of(own, ("_bound",))),
        scores.gate_open,
        scores.sites_withholding,
    ]


def _file(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingResponse:
    def lines() -> Iterator[str]:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        for count, row in enumerate(chain([head], rows)):
            writer.writerow([escape_formula(value) for value in row])
            if count % 200 == 199:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue()

    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)
