"""From what was typed to a study's folder: plan, tune, run, results, report."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from remind.config import Config, Scalar
from remind.data.hospitals import SYNTHETIC
from remind.data.sites import number_of_sites
from remind.errors import UserError
from remind_server.flwr_pairs import read_pairs
from remind_server.flwr_plan import cohort_name
from remind_studies.arms import read_arms
from remind_studies.cell import Cell
from remind_studies.folder import REPORT, RESULTS, StudyFolder, surroundings
from remind_studies.made import made
from remind_studies.patients import cohort_of, folds
from remind_studies.pool import run_cells
from remind_studies.report import markdown, write_report
from remind_studies.results import Run, results
from remind_studies.study import Metric, Panel, Request, Study, registry
from remind_studies.tuning import Tuning, tune_arms

Say = Callable[[str], None]
DEFAULT_CLIENTS = 5


def listing() -> str:
    """The studies, a line each with its options."""
    return "\n".join(f"{m.name:<12} {m.title} ({m.paper})\n{'':<13}{m.signature()}" for m in registry.methods())


def bench(
    study: str,
    *,
    cohort: str,
    methods: str,
    seeds: str,
    clients: int | None,
    run_config: Sequence[str],
    metric: str,
    tune: int,
    anchors: bool,
    jobs: int,
    out: Path | None,
    command: str,
    say: Say,
    show: Say = print,
) -> Path:
    """Do a study and write its report; returns the report's path. `say` takes progress, `show` the headline tables.

    Raises
    ------
    UserError
        A mistake in what was typed, or cells that could not be run.
    """
    began = time.monotonic()
    method, options = registry.choose(study)
    plan: Study = method.build(options)
    request = _request(plan, cohort, methods, seeds, clients, run_config, metric, anchors)
    folder = StudyFolder(out or Path("results") / f"{method.name}-{cohort_name(request.config)}")
    jobs = jobs or len(os.sched_getaffinity(0))
    with folder.held():
        around = surroundings(request.config.data)
        tuning = tune_arms(request, tune, folder, around, jobs, say) if tune else Tuning.none(request.arms)
        request = tuning.applied(request)
        panels = plan.plan(request)
        cells, names = _cells(panels, request, around)
        failed = run_cells(cells, {key: name[0] for key, name in names.items()}, folder, jobs, say)
        runs = list(_runs(panels, request, around, folder))
        content = results(
            study=method.name,
            title=method.title,
            cohort=request.cohort,
            panels=panels,
            runs=runs,
            seeds=request.seeds,
            folds=folds(request.config),
            metric=request.metric,
            tuning=tuning.described(),
            common=_shown(request),
            missing={name: reason for key, reason in failed.items() for name in names[key]},
            made=made(command, time.monotonic() - began),
        )
        folder.write(RESULTS, content.to_json())
        path = folder.path / REPORT
        write_report(content, path)
    show(markdown(content))
    say(f"results: {folder.path / RESULTS}\nreport: {path}")
    if failed:
        first = next(iter(failed))
        raise UserError(
            f"{len(failed)} of {len(cells)} runs failed, the first: {names[first][0]}: {failed[first]}; "
            "the report says which. The same command tries them again"
        )
    return path


def _request(
    plan: Study,
    cohort: str,
    methods: str,
    seeds: str,
    clients: int | None,
    run_config: Sequence[str],
    metric: str,
    anchors: bool,
) -> Request:
    """What was typed, validated as a whole before anything runs."""
    if metric not in get_args(Metric):
        raise UserError(f"--metric: there is no {metric!r}; there are {', '.join(get_args(Metric))}")
    common: dict[str, Scalar] = {**read_pairs(run_config, "--run-config")}
    if "data.cohort" in common and cohort != SYNTHETIC:
        raise UserError(f"--cohort {cohort} and --run-config data.cohort={common['data.cohort']}: give one")
    common.setdefault("data.cohort", cohort)
    if str(common["data.cohort"]) != SYNTHETIC:
        common["data.cohort"] = str(Path(str(common["data.cohort"])).expanduser().resolve())
    if root := str(common.get("data.root", "")):
        common["data.root"] = str(Path(root).expanduser().resolve())
    common.pop("seed", None)  # presets have one; a study has its own
    config = Config.from_flat(common)
    folds(config)
    drawn = config.data.cohort == SYNTHETIC or config.data.sites == "dirichlet"
    drawn = drawn or number_of_sites(config.data.cohort, config.data.root) is None
    return Request(
        common=common,
        cohort=cohort_of(config.data, config.synthetic, 0),
        arms=read_arms(methods or plan.methods, common),
        seeds=read_seeds(seeds, plan.seeds),
        clients=clients or (DEFAULT_CLIENTS if drawn else None),
        metric=metric,  # type: ignore[arg-type]
        anchors=anchors,
    )


def read_seeds(text: str, default: int) -> tuple[int, ...]:
    """Seeds that ``"10"`` (how many), ``"0,3"`` or ``"5-9"`` stand for.

    Raises
    ------
    UserError
        None of these.
    """
    text = text.strip()
    if not text:
        return tuple(range(default))
    try:
        if text.isdecimal():
            found = list(range(int(text)))
        else:
            ends = [part.partition("-") for part in text.split(",")]
            found = [seed for low, _, high in ends for seed in range(int(low), int(high or low) + 1)]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise UserError(f"--seeds: {text!r}; write how many, such as 10, or which, such as 0,1,5 or 0-4")
    return tuple(found)


def _cells(panels: Sequence[Panel], request: Request, around: str) -> tuple[dict[str, Cell], dict[str, list[str]]]:
    """Cells by key, the seeds of all arms going along, and what they are called: a run may stand in several panels."""
    cells: dict[str, Cell] = {}
    names: dict[str, list[str]] = {}
    for seed in request.seeds:
        for panel in panels:
            for arm in panel.arms:
                cell = panel.cell(arm, request.common, seed)
                key = cell.key(around)
                cells[key] = cell
                names.setdefault(key, []).append(f"{panel.name} / {arm.name} / seed {seed}")
    return cells, names


def _shown(request: Request) -> dict[str, Scalar]:
    """Settings of every run for a report that is mailed: without paths of this machine."""
    paths = {"data.root": "", "data.cohort": cohort_name(request.config)}
    return {key: paths.get(key, value) for key, value in request.common.items() if paths.get(key, value) != ""}


def _runs(panels: Sequence[Panel], request: Request, around: str, folder: StudyFolder) -> Iterator[Run]:
    """What came out, by panel, arm and seed."""
    for panel in panels:
        for arm in panel.arms:
            for seed in request.seeds:
                result = folder.find(panel.cell(arm, request.common, seed).key(around))
                if result is not None:
                    yield Run(panel.name, arm.name, seed, result)
