"""The commands ``remind consortium run``, ``resume``, ``runs``, ``stop`` and ``bundle``.

Every `remind` command loads this file, so heavy imports are in functions.
"""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from remind_server.consortium.command_options import RUN_FAILED, Where, note, noted, open_folder

if TYPE_CHECKING:
    from remind.config import Scalar
    from remind_server.consortium.flower import Control
    from remind_server.consortium.folder import Folder


def bundle(where: Where) -> None:
    """Print the hash of the bundle that every run of this version sends, for the hospitals' allow lists."""
    from remind_server.consortium.flower import app_bundle, bundle_hash

    open_folder(where, "bundle")
    print(bundle_hash(app_bundle()))


def run(
    where: Where,
    run_config: Annotated[
        list[str] | None, typer.Option("--run-config", "-c", help="Settings: 'train.lr=0.01 dro.gamma=0.1', or a file.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the run ends; exit code 20 if it fails.")] = False,
) -> None:
    """Start a run over all hospitals that are online."""
    from remind_server.consortium.runs import plan_lines, run_settings

    folder = open_folder(where, "run")
    values = run_settings(run_config)
    for line in plan_lines(folder, values):
        print(line)
    note(folder, "run", settings=" ".join(f"{name}={value!r}" for name, value in values.items()))
    _start(folder, lambda link: values, wait)


def resume(
    where: Where,
    run_id: Annotated[int, typer.Argument(help="Id of a run that ended too early, as `runs` prints it.")],
    wait: Annotated[bool, typer.Option(help="Wait until the run ends; exit code 20 if it fails.")] = False,
) -> None:
    """Resume a run that failed or was stopped, from its last checkpoint, as a new run of Flower."""
    from remind_server.consortium.runs import resumed_settings

    folder = open_folder(where, "resume")
    note(folder, "resume", run=str(run_id))
    _start(folder, lambda link: resumed_settings(link, folder, run_id), wait)


def _start(folder: "Folder", settings: Callable[["Control"], "Mapping[str, Scalar]"], wait: bool) -> None:
    from remind_server.consortium.flower import app_bundle, bundle_hash, control
    from remind_server.consortium.run_record import read_record
    from remind_server.consortium.runs import RunFailedError, submit
    from remind_server.consortium.runs import wait as wait_for

    with control(folder) as link:
        run_id = submit(link, settings(link))
        note(folder, "started", run=str(run_id))
        print(f"run {run_id}")
        print(f"bundle {bundle_hash(app_bundle())}", flush=True)
        if not wait:
            return
        try:
            wait_for(link, run_id, lambda text: print(text, flush=True), lambda: read_record(folder, run_id))
        except RunFailedError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(RUN_FAILED) from None


def runs(where: Where) -> None:
    """Show all runs."""
    from remind_server.consortium.flower import control
    from remind_server.consortium.run_record import read_record, status_text

    folder = open_folder(where, "runs")
    with control(folder) as link:
        for one in link.runs():
            status = status_text(one, read_record(folder, one.run_id))
            print(f"{one.run_id}  {one.started[:19]}  {status}  {one.details}".rstrip())


def stop(
    where: Where, run_id: Annotated[int, typer.Argument(help="Id of a run, as `run` and `runs` print it.")]
) -> None:
    """Stop a run."""
    from remind_server.consortium.flower import control

    folder = open_folder(where, "stop")
    with noted(folder, "stop", run=str(run_id)), control(folder) as link:
        link.stop_run(run_id)
    print(f"stopped run {run_id}")
