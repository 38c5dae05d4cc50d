"""The JSON API; ``/api/openapi.json`` describes it, docs/dashboard.md introduces it."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from remind.errors import UserError
from remind_server.dashboard.answers import Patients, ScoreName
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.run_state import RunState
from remind_server.dashboard.views.calibration import ModelCard, model_card
from remind_server.dashboard.views.compare import Comparison, SideBySide, comparison, side_by_side
from remind_server.dashboard.views.curves import MOST_CURVES, Curves, curves
from remind_server.dashboard.views.experts import ExpertMap, expert_map
from remind_server.dashboard.views.groups import GroupTable, SortKey, group_table
from remind_server.dashboard.views.hospitals import Hospitals, hospitals
from remind_server.dashboard.views.matrix import Matrix, matrix
from remind_server.dashboard.views.report import RunReport, run_report
from remind_server.dashboard.views.thresholds import GroupCurves, group_curves
from remind_server.dashboard.views.timeline import Timeline, timeline
from remind_server.dashboard.views.verdict import Verdict, verdict

Groups = Annotated[
    str,
    Query(pattern=r"^(\d{1,9}(,\d{1,9})*)?$", description=f"numbers of groups, comma-separated; {MOST_CURVES} at most"),
]


def routes(reader: Reader) -> APIRouter:
    """Return the routes of the JSON API."""
    router = APIRouter(prefix="/api", tags=["runs"])

    @router.get("/runs")
    def runs(
        response: Response,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    ) -> list[RunState]:
        """Runs, newest first. The header ``X-Total-Count`` has their number."""
        response.headers["X-Total-Count"] = str(reader.total())
        return reader.runs(limit, offset)

    @router.get("/runs/{run_id}")
    def report(run_id: int, on: Patients | None = None) -> RunReport:
        """Health, sites, settings and overall scores of a run; `on` chooses validation or test patients."""
        return run_report(reader, run_id, on)

    @router.get("/runs/{run_id}/verdict")
    def first(run_id: int, score: ScoreName | None = None, on: Patients | None = None) -> Verdict:
        """One score: overall, on the tail, and in the worst ranked group and hospital."""
        score = reader.score(score, run_id)
        return verdict(reader, group_table(reader, run_id, score, on), score)

    @router.get("/runs/{run_id}/timeline")
    def events_by_round(run_id: int) -> Timeline:
        """Sites that joined, left, came back or were refused, stages, the best round, the end."""
        return timeline(reader, run_id)

    @router.get("/runs/{run_id}/model")
    def model(run_id: int) -> ModelCard | None:
        """Round of the run's model; reliability, calibration, decisions on test patients; null before the end."""
        return model_card(reader, run_id)

    @router.get("/runs/{run_id}/groups")
    def groups(run_id: int, by: SortKey = "log_loss", on: Patients | None = None) -> GroupTable:
        """Every group, worst first by `by`."""
        return group_table(reader, run_id, by, on)

    @router.get("/runs/{run_id}/hospitals")
    def at_each_hospital(run_id: int, score: ScoreName | None = None, on: Patients | None = None) -> Hospitals:
        """One score of every hospital's own patients, its trend, and the gain over training alone if it is known."""
        return hospitals(reader, group_table(reader, run_id, "name", on), reader.score(score, run_id))

    @router.get("/runs/{run_id}/thresholds")
    def by_threshold(run_id: int, group: int = 0, on: Patients | None = None, of: int = 0) -> GroupCurves | None:
        """ROC, precision–recall, calibration and threshold curves of a group (0: all); null if withheld."""
        return group_curves(reader, run_id, (group,), on, of).get(group)

    @router.get("/runs/{run_id}/matrix")
    def groups_by_sites(
        run_id: int, score: ScoreName | None = None, by: SortKey = "log_loss", on: Patients | None = None
    ) -> Matrix:
        """One score of every group at every site."""
        return matrix(reader, group_table(reader, run_id, by, on), reader.score(score, run_id))

    @router.get("/runs/{run_id}/experts")
    def groups_by_experts(run_id: int, by: SortKey = "log_loss", on: Patients | None = None) -> ExpertMap:
        """Mean weight of each expert in every group, and in all of them together."""
        return expert_map(reader, group_table(reader, run_id, by, on))

    @router.get("/runs/{run_id}/curves")
    def over_rounds(run_id: int, groups: Groups = "") -> Curves:
        """λ, risk, gate and scores over the rounds: of all groups together, and of the requested groups."""
        numbers = [int(part) for part in groups.split(",") if part]
        if len(numbers) > MOST_CURVES:
            raise UserError(
                f"groups: {len(numbers)} requested, at most {MOST_CURVES} allowed; curves.csv has all of them"
            )
        return curves(reader, run_id, numbers)

    @router.get("/compare")
    def compare(first: int, second: int, score: ScoreName | None = None, on: Patients | None = None) -> Comparison:
        """Two runs side by side."""
        return comparison(reader, first, second, reader.score(score, first, second), on)

    @router.get("/compare/several")
    def several(
        run: Annotated[list[int], Query()], score: ScoreName | None = None, on: Patients | None = None
    ) -> SideBySide:
        """Several runs side by side: the settings that differ, and scores overall and on the tail."""
        return side_by_side(reader, run, reader.score(score, *run), on)

    return router
