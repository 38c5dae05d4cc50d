"""Prometheus metrics of the active runs and of the run that ended last."""

from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from remind.metrics.scores import BOUNDED, BOUNDS, EVERY, SCORES, WITH_INTERVAL, WITHOUT_INTERVAL
from remind_server.dashboard.answers import Estimate, PatientScores
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.run_state import RunState
from remind_server.dashboard.views.experts import ExpertMap, expert_map
from remind_server.dashboard.views.groups import GroupTable, group_table
from remind_server.dashboard.views.report import RunReport, run_report

FAMILIES = {
    "remind_run_status": ("1 for the current status of the run, 0 for the others", ("run", "name", "cohort", "status")),
    "remind_run_round": ("Rounds that ended", ("run",)),
    "remind_run_rounds": ("Rounds of the run", ("run",)),
    "remind_run_part": ("1 for a part of what is predicted; its scores end in its number", ("run", "part", "name")),
    "remind_run_heard_timestamp_seconds": ("Last heartbeat of the coordinator's process", ("run",)),
    "remind_run_round_closes_timestamp_seconds": ("Deadline of the current round", ("run",)),
    "remind_round_seconds": ("Duration of the last round", ("run",)),
    "remind_run_transferred_bytes": ("Bytes of tensors sent since the start of the run", ("run", "direction")),
    "remind_site_answered": ("1 if the site counted in the last round", ("run", "site")),
    "remind_site_awaited": ("1 if the current round has not counted the answer of the site yet", ("run", "site")),
    "remind_site_refused": ("1 for a site that does not take part", ("run", "site")),
    "remind_group_weight": ("Lambda of the group", ("run", "group", "tail")),
    "remind_group_risk": ("Mean training loss R_k in the last round", ("run", "group", "tail")),
    "remind_group_patients": ("Patients whose scores these are", ("run", "group", "tail", "patients")),
    "remind_group_ranked": ("1 for a group with the support to be ranked", ("run", "group", "tail")),
    "remind_group_suppressed": ("1 for a group whose scores are withheld", ("run", "group", "tail")),
    "remind_group_withholding_sites": ("Sites that withhold their patients of the group", ("run", "group", "tail")),
    **{
        f"remind_group_{name}": (EVERY[name].meaning.capitalize(), ("run", "group", "tail", "patients"))
        for name in WITHOUT_INTERVAL
        if name in SCORES
    },
    **{
        f"remind_group_{name}_bound": (
            f"Most that {EVERY[name].title} may be off by its bins",
            ("run", "group", "tail", "patients"),
        )
        for name in BOUNDED
        if name in SCORES
    },
    "remind_group_gate_open": ("Share of patients routed by their group", ("run", "group", "tail")),
    "remind_group_experts_in_effect": (
        "Effective number of experts, exp of the entropy of their weights",
        ("run", "group", "tail"),
    ),
    "remind_group_score": (
        "Score; group 'all' means all patients, 'small' those of all groups that are not ranked",
        ("run", "group", "tail", "patients", "score"),
    ),
    "remind_group_score_low": ("Lower end of the 95 % interval", ("run", "group", "tail", "patients", "score")),
    "remind_group_score_high": ("Upper end of the 95 % interval", ("run", "group", "tail", "patients", "score")),
}
STATUSES = ("waiting", "running", "stalled", "finished", "incomplete", "failed")


class RunMetrics(Collector):
    """Collector that reads the store for each scrape."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registration does not read the store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return all metric families with their samples."""
        families = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in FAMILIES.items()}
        for run in _current(self.reader.runs()):
            table = group_table(self.reader, run.id)
            _run(families, run_report(self.reader, run.id), table)
            _experts(families, str(run.id), expert_map(self.reader, table))
        return families.values()


def routes(reader: Reader) -> APIRouter:
    """Return the route ``/metrics``."""
    router = APIRouter(tags=["metrics"])
    registry = CollectorRegistry()
    registry.register(RunMetrics(reader))

    @router.get("/metrics")
    def metrics() -> Response:
        """Return metrics in the Prometheus text format; send the token as bearer token."""
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _current(runs: list[RunState]) -> list[RunState]:
    """Return the active runs and the run that ended last; a stalled run stays active for a day."""
    ended = sorted((run for run in runs if run.ended is not None), key=lambda run: run.ended or 0.0)[-1:]
    newest = max((run.heard for run in runs), default=0.0)
    return [run for run in runs if run.ended is None and newest - run.heard < 86400] + ended


def _run(families: dict[str, GaugeMetricFamily], report: RunReport, table: GroupTable) -> None:
    run, label = report.run, str(report.run.id)
    for status in STATUSES:
        families["remind_run_status"].add_metric([label, run.name, run.cohort, status], float(run.status == status))
    _add(families, "remind_run_round", [label], run.round)
    _add(families, "remind_run_rounds", [label], run.rounds)
    for number, name in enumerate(report.parts, start=1):
        _add(families, "remind_run_part", [label, str(number), name], True)
    _add(families, "remind_run_heard_timestamp_seconds", [label], run.heard)
    _add(families, "remind_run_round_closes_timestamp_seconds", [label], run.round_closes)
    _add(families, "remind_round_seconds", [label], report.last_seconds)
    _add(families, "remind_run_transferred_bytes", [label, "down"], report.bytes_down)
    _add(families, "remind_run_transferred_bytes", [label, "up"], report.bytes_up)
    for site in report.sites:
        _add(families, "remind_site_answered", [label, site.name], site.answered)
        _add(families, "remind_site_refused", [label, site.name], bool(site.refused))
        if site.answer:
            _add(families, "remind_site_awaited", [label, site.name], site.answer in ("awaited", "in line"))
    _group(families, [label, "all", "false"], report.patients, report.overall)
    if table.small.scores is not None:
        _group(families, [label, "small", "false"], report.patients, table.small.scores)
    for row in table.rows:
        labels = [label, row.name, str(row.tail).lower()]
        _add(families, "remind_group_ranked", labels, row.ranked)
        _add(families, "remind_group_weight", labels, row.weight)
        _add(families, "remind_group_risk", labels, row.risk)
        _group(families, labels, report.patients, row.scores)


def _experts(families: dict[str, GaugeMetricFamily], label: str, found: ExpertMap) -> None:
    """Add one number per group; the whole map (groups × experts series) is in the API only."""
    for place, row in enumerate(found.rows):
        labels = [label, row.name if place else "all", str(row.tail).lower()]
        _add(families, "remind_group_experts_in_effect", labels, row.in_effect)


def _group(families: dict[str, GaugeMetricFamily], labels: list[str], patients: str, scores: PatientScores) -> None:
    """Add samples of defined values; a suppressed group gets a marker, and its number if that may be shown."""
    _add(families, "remind_group_suppressed", labels, scores.withheld)
    _add(families, "remind_group_withholding_sites", labels, scores.sites_withholding)
    _add(families, "remind_group_patients", [*labels, patients], scores.n)
    for name in (*WITHOUT_INTERVAL, *BOUNDS):  # those of other outcomes than classes have no family of their own
        if (family := f"remind_group_{name}") in families:
            _add(families, family, [*labels, patients], getattr(scores, name))
        else:
            _add(families, "remind_group_score", [*labels, patients, name], getattr(scores, name))
    _add(families, "remind_group_gate_open", labels, scores.gate_open)
    for name in WITH_INTERVAL:
        estimate: Estimate | None = getattr(scores, name)
        if estimate:
            for end, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                _add(families, f"remind_group_score{end}", [*labels, patients, name], value)


def _add(families: dict[str, GaugeMetricFamily], name: str, labels: list[str], value: float | bool | None) -> None:
    if value is not None:
        families[name].add_metric(labels, float(value))
