"""The HTML pages: runs, one run, two runs side by side."""

from dataclasses import replace
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from remind.metrics.aggregates import LEAST, LEAST_OF_A_CLASS
from remind.outcomes.base import kind_of, unsupported
from remind_server.dashboard.answers import Patients, ScoreName
from remind_server.dashboard.drawing.pictures import threshold_pictures
from remind_server.dashboard.drawing.strips import LEVELS
from remind_server.dashboard.drawing.templating import page, scores_shown
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.run_state import Status
from remind_server.dashboard.views.calibration import decision_picture, model_card, reliability_picture
from remind_server.dashboard.views.compare import comparison, side_by_side
from remind_server.dashboard.views.curves import curves
from remind_server.dashboard.views.experts import expert_map
from remind_server.dashboard.views.groups import GroupTable, SortKey, group_table
from remind_server.dashboard.views.hospitals import hospitals
from remind_server.dashboard.views.labels import labels
from remind_server.dashboard.views.matrix import matrix
from remind_server.dashboard.views.report import RunReport, run_report
from remind_server.dashboard.views.run_list import SortRuns, Wanted, run_list
from remind_server.dashboard.views.thresholds import group_curves
from remind_server.dashboard.views.timeline import timeline
from remind_server.dashboard.views.verdict import Verdict, verdict
from remind_server.outputs.protections import is_summed, judged_by, nothing_between, remarks, remarks_on_chance
from remind_server.store.schema import ALL

FEW = 50  # ranked groups in tables unless all are requested
CURVED = 12  # largest ranked groups whose curves over the threshold can be chosen on the page; the API has all
CHARTED = 6  # largest groups charted unless others are chosen


def routes(reader: Reader) -> APIRouter:
    """Return the routes that a person opens in a browser."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def runs(
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        status: Status | Literal[""] = "",
        cohort: str = "",
        tag: str = "",
        archived: bool = False,
        sort: SortRuns = "began",
        down: bool = True,
        page_number: Annotated[int, Query(alias="page", ge=1, lt=2**31)] = 1,
        score: ScoreName | None = None,
    ) -> Response:
        score = reader.score(score)
        wanted = Wanted(q, status, cohort, tag, archived, sort, down, page_number)
        typed = {"q": q, "status": status, "cohort": cohort, "tag": tag, "archived": "1" if archived else ""}
        typed |= {"sort": sort, "down": str(int(down)), "score": score}

        def link(**changes: str | int) -> str:
            """Return the address of the list with another choice."""
            return "/?" + urlencode({k: v for k, v in (typed | changes).items() if v != ""})

        news = reader.news()  # before the list: what comes between them is news again
        found = run_list(reader, wanted, score)
        return page(
            request,
            "runs.html",
            list=found,
            wanted=wanted,
            link=link,
            score=score,
            news=news,
            **scores_shown(reader.scores()),
        )

    @router.get("/runs/{run_id}")
    def run(
        request: Request,
        run_id: int,
        by: SortKey = "log_loss",
        on: Patients | None = None,
        score: ScoreName | None = None,
        show: Annotated[str, Query(pattern="^(few|all)$")] = "few",
        order: Annotated[str, Query(pattern="^(worst|best)$")] = "worst",
        group: Annotated[int, Query(ge=0)] = 0,
        of: Annotated[int, Query(ge=0, le=1000)] = 0,
    ) -> Response:
        score = reader.score(score, run_id)
        table = group_table(reader, run_id, by, on, reverse=order == "best")
        rows = table.rows if show == "all" else table.ranked[:FEW]  # small groups are folded into one row
        listed = replace(table, rows=rows)
        experts = expert_map(reader, listed)
        typed = {"by": by, "on": on, "score": score, "show": show, "order": order, "group": group, "of": of}

        def link(**changes: str | int) -> str:
            """Return the address of the same page with another choice."""
            return "?" + urlencode({k: v for k, v in (typed | changes).items() if v})

        report = run_report(reader, run_id, table.patients)
        drawn = group_curves(reader, run_id, (group, ALL), table.patients, of)
        own, everyone = drawn.get(group), drawn.get(ALL)
        found = verdict(reader, table, score)
        return page(
            request,
            "run.html",
            report=report,
            remarks=[*remarks(report.settings), *_remarks_on_chance(report, found)],
            between=nothing_between(report.settings),
            summed=is_summed(report.settings),
            hospitals=hospitals(reader, table, score),
            group=group,
            of=of,
            scored=report.classes[1:] if len(report.classes) == 2 else report.classes,
            positive=report.classes[1] if len(report.classes) == 2 else "",
            predicts=(predicts := kind_of(report.outcome)),
            sides=predicts.sides,
            unsupported=unsupported(report.outcome, LEAST, LEAST_OF_A_CLASS),
            curves_of_groups=_choosable(table, group) if everyone or own else [],
            threshold_curves=own,
            threshold_pictures=threshold_pictures(own, everyone) if own else [],
            table=table,
            rows=rows,
            verdict=found,
            matrix=matrix(reader, listed, score),
            experts=experts,
            experts_top=max((weight for row in experts.rows for weight in row.use or ()), default=0.0),
            legend=range(LEVELS),
            rounds=curves(reader, run_id, ()),
            card=(card := model_card(reader, run_id)),
            reliability=reliability_picture(card) if card else "",
            decisions=decision_picture(card) if card else "",
            link=link,
            by=by,
            show=show,
            order=order,
            score=score,
            charted=[row.number for row in table.largest[:CHARTED]],
            min_count=reader.min_count,
            said=reader.said(run_id),
            timeline=timeline(reader, run_id),
            labels=labels(reader, run_id),
            least=max(reader.min_count, 1),
            **scores_shown(reader.scores(run_id), report.unit),
        )

    @router.get("/runs/{run_id}/health")
    def health(request: Request, run_id: int) -> Response:
        """Return the part of a run's page that changes with every answer, for the page's script."""
        return page(request, "run_health_only.html", report=run_report(reader, run_id))

    @router.get("/compare")
    def compare(
        request: Request,
        run: Annotated[list[int] | None, Query()] = None,
        score: ScoreName | None = None,
    ) -> Response:
        if run is None or len(run) < 2:
            return RedirectResponse("/", 303)
        score, names = reader.score(score, *run), scores_shown(reader.scores(*run), reader.unit(*run))
        if len(run) > 2:
            found = side_by_side(reader, sorted(set(run)), score)
            return page(request, "side_by_side.html", several=found, score=score, **names)
        pair = comparison(reader, min(run), max(run), score)  # the older one first
        return page(request, "compare.html", comparison=pair, score=score, **names)

    return router


def _remarks_on_chance(report: RunReport, found: Verdict) -> list[str]:
    """Say what matters about the scores of a private run's test patients; nothing while there are none."""
    name = judged_by(report.outcome)
    own = getattr(found.overall, name) if name else None
    if found.patients != "test" or found.overall.withheld or found.overall.suppressed or own is None:
        return []
    return remarks_on_chance(report.settings, name, own.value, own.low, own.high)


def _choosable(table: GroupTable, group: int) -> list[tuple[int, str]]:
    """Return numbers and names of all groups together, the largest ranked groups, and the chosen one."""
    rows = [row for row in table.largest if row.ranked][:CURVED]
    rows += [row for row in table.rows if row.number == group and row not in rows]
    return [(0, "all groups"), *((row.number, row.name) for row in rows)]
