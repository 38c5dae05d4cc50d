"""The command ``remind simulate``."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from remind.cli_options import CohortArgument, CohortOption, Quiet, Yes, one_cohort, printer
from remind.config import Config
from remind.errors import UserError
from remind_server.simulation.flwr_plan import REMEDY, check_hospitals, claimed, estimated, plan_here

INTERRUPTED = 130  # exit code


@contextmanager
def termination_is_interruption() -> Iterator[None]:
    """Within the block SIGTERM ends the run as Ctrl-C does: everybody who follows it is told that it has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def simulate_command(
    cohort: CohortArgument = None,
    cohort_option: CohortOption = None,
    num_clients: Annotated[
        int | None, typer.Option(min=1, help="Virtual hospitals; default: the cohort's sites, or 5.")
    ] = None,
    run_config: Annotated[
        list[str] | None,
        typer.Option("--run-config", "-c", help="Settings, as for flwr run: 'train.lr=0.01', a file, a preset."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Continue with the unfinished run in this results folder, from its last checkpoint."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="Hospitals that work at a time, each in a process; 0: one per core.")
    ] = 1,
    quiet: Quiet = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every group, site and score, whatever the screen's size.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Run the federation in this process, without Ray: same strategy, same client code as `flwr run`.

    Without a cohort, patients are synthetic. A run that was killed can be resumed with --resume, with the same
    result (docs/resume.md).

    Exit code 0: all went well. 1: the run failed. 3: it ended, but some hospital never took part, was never drawn or
    was not examined, or a group was never trained.
    130: it was stopped, by Ctrl-C or SIGTERM.
    """
    from remind_server.outputs.attendance import INCOMPLETE, Attendance
    from remind_server.outputs.progress import Progress
    from remind_server.outputs.run_folder import RunFolder
    from remind_server.outputs.screen import Screen
    from remind_server.rounds.checkpoints import Checkpoints, resumable
    from remind_server.run_observers import run_observers
    from remind_server.simulation.simulate import simulate
    from remind_server.simulation.worker_grid import side_by_side

    jobs = side_by_side(jobs)
    chosen = one_cohort(cohort, cohort_option)
    if resume is None:
        config, clients = _planned(run_config, chosen, num_clients, quiet, yes, jobs)
    else:
        if chosen is not None or run_config or num_clients is not None:
            raise UserError(
                "--resume: a run continues with its own cohort, settings and hospitals; give the folder alone"
            )
        config, clients = resumable(resume)
    folder, attendance = RunFolder(Path(config.results), resumes=resume is not None), Attendance()
    checkpoints = Checkpoints(folder.folder, config.federation.checkpoints)
    screen = Screen() if quiet else Screen.of_output(verbose)
    progress = Progress(printer(quiet, lambda text: print(text, flush=True)), folder.folder, screen)
    observers = [folder, attendance, progress, *run_observers(config, folder.folder, print)]
    try:
        with termination_is_interruption():
            simulate(config, clients, observers, checkpoints=checkpoints, jobs=jobs)
    except KeyboardInterrupt:
        print(f"stopped before the end; resume it with: remind simulate --resume {folder.folder}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    for warning in attendance.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if quiet:
        print(f"results: {folder.folder}")
    if attendance.warnings:
        raise typer.Exit(INCOMPLETE)


def _planned(
    run_config: list[str] | None, cohort: str | None, num_clients: int | None, quiet: bool, yes: bool, jobs: int
) -> tuple[Config, int]:
    """Config and number of hospitals of a new run, checked, with a results folder of its own."""
    from remind_server.simulation.estimate import refuse_what_is_too_large

    plan, config, clients = plan_here(run_config, cohort, num_clients)
    if config.run.resume:
        raise UserError("run.resume: resume with: remind simulate --resume FOLDER")
    for warning in check_hospitals(plan, {}):
        print(f"warning: {warning}", file=sys.stderr)
    found = estimated(plan, {}, in_process=True, jobs=jobs)
    refuse_what_is_too_large(found, yes, REMEDY)
    if not quiet:
        print(found, file=sys.stderr)
    return Config.from_flat(claimed(plan).run or {}), clients
