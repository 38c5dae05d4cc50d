"""Run a study from its typed options: plan, tune, run, results, report."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from remind.config import Config, Scalar
from remind.data.sites.hospitals import SYNTHETIC
from remind.data.sites.sites import number_of_sites
from remind.errors import UserError
from remind.metrics.scores import EVERY
from remind.outcomes.base import Outcome
from remind.privacy.threshold import default_minimum
from remind.suggest import did_you_mean
from remind.training.outcome_check import check_outcome
from remind_server.simulation.estimate import estimate, refuse_what_is_too_large, size_of
from remind_server.simulation.flwr_pairs import read_pairs
from remind_server.simulation.flwr_plan import OUR_DEFAULT, cohort_name
from remind_studies.arms import YARDSTICKS, read_arms
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.folder import MARK, REPORT, RESULTS, surroundings
from remind_studies.cells.patients import cohort_of, folds, hospitals
from remind_studies.cells.pool import run_cells
from remind_studies.made import made
from remind_studies.report import markdown, write_report
from remind_studies.results import Run, StudyMade, results
from remind_studies.results.mailed import mailed
from remind_studies.results.measures import COMPARABLE, comparable
from remind_studies.stored_request import StoredRequest, folder_for
from remind_studies.study import Arm, Panel, Request, Study, registry
from remind_studies.tuning import Tuning, tune_arms
from remind_studies.yardsticks.tasks import supports

Say = Callable[[str], None]


def listing() -> str:
    """List the studies, with the syntax of their options."""
    lines = []
    for method in registry.methods():
        lines.append(f"{method.name:<12} {method.title} ({method.paper})")
        if (signature := method.signature()) != method.name:
            lines.append(f"{'':<13}{signature}")
    return "\n".join(lines)


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
    yes: bool = False,
    min_count: int | None = None,
) -> Path:
    """Run a study and write its report; return the report's path. `say` prints progress, `show` the headline tables.

    Groups and hospitals below `min_count` patients are suppressed; the default is the usual minimum for real cohorts.

    Raises
    ------
    UserError
        An option is not valid, or cells could not be run.
    """
    began = time.monotonic()
    method, options = registry.choose(study)
    plan: Study = method.build(options)
    request = _request(plan, cohort, methods, seeds, clients, run_config, metric, anchors)
    stored = StoredRequest.of(method.name, options.model_dump(mode="json"), request, tune)
    folder = folder_for(stored, out, Path("results") / f"{method.name}-{cohort_name(request.config)}", say)
    jobs = jobs or len(os.sched_getaffinity(0))
    with folder.held():
        around = surroundings(request.config.data)
        _refuse_what_cannot_be_laid_out(plan.plan(request), request)
        _estimate(plan.plan(request), request, jobs, yes, say)
        folder.write(MARK, stored.model_dump_json(indent=1) + "\n")
        tuning = tune_arms(request, tune, folder, around, jobs, say) if tune else Tuning.none(request.arms)
        request = tuning.applied(request)
        panels = plan.plan(request)
        planned = list(_planned(panels, request, around))
        cells = {one.key: one.cell for one in planned}
        failed = run_cells(cells, {one.key: one.name for one in reversed(planned)}, folder, jobs, say)
        found = {key: folder.find(key) for key in cells}
        runs = [Run(one.panel, one.arm, one.seed, result) for one in planned if (result := found[one.key])]
        content = results(
            study=method.name,
            title=method.title,
            cohort=request.cohort,
            panels=panels,
            runs=runs,
            seeds=request.seeds,
            folds=folds(request.config),
            metric=request.metric,
            tuning=tuning.described(request.cohort.schema.name),
            common=_shown(request),
            missing={one.name: failed[one.key] for one in planned if one.key in failed},
            advice=plan.advice(request, _by_arm(runs)),
            made=StudyMade(
                **dict(made(command, time.monotonic() - began)),
                trained=round(sum(result.seconds for result in found.values() if result), 1),
            ),
        )
        usual = default_minimum(real=request.config.data.cohort != SYNTHETIC)
        content = mailed(content, usual if min_count is None else min_count)
        folder.write(RESULTS, content.to_json())
        path = folder.path / REPORT
        write_report(content, path)
    show(markdown(content))
    say(f"results: {folder.path / RESULTS}\nreport: {path}")
    if failed:
        first = next(one for one in planned if one.key in failed)
        raise UserError(
            f"{len(failed)} of {len(cells)} runs failed, the first: {first.name}: {failed[first.key]}; "
            "the report names them. The same command tries them again"
        )
    return path


def _by_arm(runs: Sequence[Run]) -> dict[tuple[str, str], list[CellResult]]:
    """Return the results by panel and arm."""
    found: dict[tuple[str, str], list[CellResult]] = {}
    for one in runs:
        found.setdefault((one.panel, one.arm), []).append(one.result)
    return found


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
    """Validate all typed options before anything runs."""
    if metric and metric not in EVERY:
        hint = did_you_mean(metric, COMPARABLE)
        raise UserError(f"--metric: there is no {metric!r}{hint}; there are {', '.join(sorted(COMPARABLE))}")
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
    arms = read_arms(methods or plan.methods, common)
    if all(arm.anchor for arm in arms):
        names = ", ".join(dict.fromkeys((*YARDSTICKS, *(arm.name for arm in arms))))
        raise UserError(f"--methods: {names} are yardsticks; give also a method to compare with them")
    drawn = config.data.cohort == SYNTHETIC or config.data.sites == "dirichlet"
    drawn = drawn or number_of_sites(config.data.cohort, config.data.root) is None
    patients = cohort_of(config.data, config.synthetic, 0)
    metric = _metric(metric, patients.schema.predicts)
    _refuse_what_needs_classes(plan, patients.schema.predicts, arms, common)
    return Request(
        common=common,
        cohort=patients,
        arms=arms,
        seeds=read_seeds(seeds, plan.seeds),
        clients=clients or (OUR_DEFAULT if drawn else None),
        metric=metric,
        anchors=anchors,
    )


def _metric(metric: str, outcome: Outcome) -> str:
    """Return the score to compare by: the outcome's first unless another one is given."""
    metric = metric or outcome.chief
    if metric not in (own := comparable(outcome)):
        score = EVERY[metric]
        beyond = score.comparable and score.is_of(outcome.kind)  # of a part that there is not
        why = f"is none of {outcome.describe() if beyond else outcome.title}"
        if score.is_of(outcome.kind) and not beyond:
            why = f"is the {score.meaning}"
        raise UserError(f"--metric: {metric} {why}; use one of {', '.join(sorted(own))}")
    return metric


def _refuse_what_needs_classes(
    plan: Study, outcome: Outcome, arms: Sequence[Arm], common: Mapping[str, Scalar]
) -> None:
    """Refuse studies, methods and yardsticks that cannot predict what the cohort's label is."""
    if plan.classes_only and outcome.kind != "classes":
        raise UserError(
            f"this study is for classes only: {plan.classes_only}; here the label is {outcome.describe()} "
            f"(kind = {outcome.kind!r} in cohort.toml)"
        )
    for arm in arms:
        if not arm.runner:
            try:
                check_outcome(outcome, Config.from_flat({**common, **arm.settings, "seed": 0}))
            except UserError as error:
                raise UserError(f"--methods: {arm.name}: {error}") from None
        elif not supports(outcome):
            raise UserError(f"--methods: {arm.name} cannot predict {outcome.title}; leave it out")


def read_seeds(text: str, default: int) -> tuple[int, ...]:
    """Parse seeds: ``"10"`` (number of seeds), ``"0,3"`` or ``"5-9"``.

    Raises
    ------
    UserError
        The text has none of these forms.
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
        raise UserError(f"--seeds: {text!r}; give a number of seeds, such as 10, or a list, such as 0,1,5 or 0-4")
    return tuple(found)


@dataclass(frozen=True)
class Planned:
    """A run of a table; several runs may share one cell."""

    panel: str
    arm: str
    seed: int
    key: str
    cell: Cell

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.panel} / {self.arm} / seed {self.seed}"


def _planned(panels: Sequence[Panel], request: Request, around: str) -> Iterator[Planned]:
    """Return all runs, ordered by seed, so that a stopped study has complete seeds."""
    for seed in request.seeds:
        for panel in panels:
            for arm in panel.arms:
                for cell in panel.cells(arm, request.common, seed):
                    yield Planned(panel.name, arm.name, seed, cell.key(around), cell)


def _refuse_what_cannot_be_laid_out(panels: Sequence[Panel], request: Request) -> None:
    """Divide the cohort into each panel's hospitals once, so that mistakes are found before hours of runs."""
    for panel in panels:
        hospitals(panel.cell(panel.arms[0], request.common, request.seeds[0]))


def _estimate(panels: Sequence[Panel], request: Request, jobs: int, yes: bool, say: Say) -> None:
    """Print the estimate of the largest run, `jobs` at a time; require --yes if the machine is too small."""
    arms = [(panel, arm) for panel in panels for arm in panel.arms if not arm.runner]  # yardsticks take little
    runs = [panel.cell(arm, request.common, request.seeds[0]) for panel, arm in arms]
    groups = sorted(set(request.cohort.groups_N.tolist()))
    found = []
    if not runs:
        return
    for cell in {cell.key(""): cell for cell in runs}.values():
        size = size_of(cell.config, request.cohort.schema, groups)
        sites = cell.clients or len(hospitals(cell))
        found.append(estimate(cell.config, size, sites, 1, coordinator=False))
    jobs = min(jobs, len(found) * len(request.seeds))
    largest = max(found, key=lambda one: one.memory)
    seconds = sum(one.seconds for one in found) * len(request.seeds) / jobs
    whole = replace(largest, memory=jobs * largest.memory, processes=jobs, seconds=seconds)
    say(f"{whole}, for all runs")
    refuse_what_is_too_large(whole, yes, "Run fewer at a time with --jobs, or use a smaller model")


def _shown(request: Request) -> dict[str, Scalar]:
    """Return the settings of every run for the report, without paths of this machine."""
    paths = {"data.root": "", "data.cohort": cohort_name(request.config)}
    return {key: paths.get(key, value) for key, value in request.common.items() if paths.get(key, value) != ""}
