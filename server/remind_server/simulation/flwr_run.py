"""Extends Flower's ``flwr run`` by ``--num-clients``, ``--cohort`` and other options; `_flwr_boot` calls it."""

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remind_server.flower_internals import connection_reader_and_handler

if TYPE_CHECKING:
    from remind_server.simulation.flwr_plan import Plan

USED = {"app", "superlink", "run_config_overrides", "federation_config_overrides", "stream", "output_format"}
MANAGED = (":local:", ":local-in-memory:", None)  # addresses of the SuperLink that `flwr run` starts by itself

NumClients = Annotated[
    int | None,
    typer.Option(
        "--num-clients", min=1, help="Simulated clients (num-supernodes).", rich_help_panel="Federated REMIND"
    ),
]
Cohort = Annotated[
    str | None,
    typer.Option(
        "--cohort",
        metavar="PATH",
        help="Cohort of a federated-remind run: a folder or a cohort.toml. One client per hospital where it has a "
        "site column.",
        rich_help_panel="Federated REMIND",
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Start even if the estimate says that this machine is too small.",
        rich_help_panel="Federated REMIND",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Continue with the unfinished simulation in this results folder, from its last checkpoint.",
        rich_help_panel="Federated REMIND",
    ),
]
NEW: dict[str, tuple[Any, Any]] = {
    "resume": (Resume, None),
    "num_clients": (NumClients, None),
    "cohort": (Cohort, None),
    "yes": (Yes, False),
}


def install(cli: ModuleType) -> None:
    """Replace ``run`` in the Typer app of ``flwr.cli.app`` by the extended command.

    Raises
    ------
    RuntimeError, ImportError, AttributeError
        This Flower is not built as expected; its command line is unchanged.
    """
    found = [info for info in cli.app.registered_commands if getattr(info.callback, "__name__", "") == "run"]
    if len(found) != 1:
        raise RuntimeError("there is no single `flwr run`")
    found[0].callback = extended(found[0].callback)


def extended(run: Callable[..., None]) -> Callable[..., None]:
    """Return Flower's `run` with our options."""
    signature = inspect.signature(run)
    if missing := USED - signature.parameters.keys():
        raise RuntimeError(f"`flwr run` no longer takes {', '.join(sorted(missing))}")
    read_connection, output_handler = connection_reader_and_handler()

    @functools.wraps(run)
    def command(
        *,
        num_clients: int | None = None,
        cohort: str | None = None,
        resume: Path | None = None,
        yes: bool = False,
        **given: Any,
    ) -> None:
        ready = False  # with --format json the handler prints the error and continues
        with output_handler(output_format=given["output_format"]):
            if resume is None:
                plan = prepare(given, num_clients, cohort, read_connection, yes)
            else:
                plan = prepare_resume(given, resume, num_clients, cohort, read_connection)
            ready = True
        if ready and (code := submit(run, given, plan)):
            raise typer.Exit(code)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in NEW.items()
    ]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *parameters]
    )
    command.__annotations__ = {**run.__annotations__, **{name: annotation for name, (annotation, _) in NEW.items()}}
    return command


def prepare(
    given: dict[str, Any],
    clients: int | None,
    cohort: str | None,
    connection_named: Callable[[str | None], Any],
    yes: bool = False,
) -> "Plan | None":
    """Return what to submit, and write changed values into `given`; None if nothing changes."""
    from remind.errors import UserError
    from remind_server.simulation import flwr_app
    from remind_server.simulation.estimate import refuse_what_is_too_large
    from remind_server.simulation.flwr_pairs import read_pairs, write_pairs
    from remind_server.simulation.flwr_plan import (
        CLIENT_CPUS,
        REMEDY,
        SUPERNODES,
        Plan,
        check_hospitals,
        claimed,
        estimated,
        plan_elsewhere,
        plan_remind,
        with_clients,
    )

    app_dir = Path(given["app"]).expanduser()
    defaults = flwr_app.defaults(app_dir)
    if defaults is None and cohort is not None:
        raise UserError(f"--cohort is for the federated-remind app, which {given['app']} is not")
    if defaults is None and clients is None:
        return None
    federation = read_pairs(given["federation_config_overrides"], "--federation-config", presets=False)
    connection = connection_named(given["superlink"])
    if defaults is None:
        plan = Plan(with_clients(federation, clients))
    else:
        typed = read_pairs(given["run_config_overrides"], "--run-config")
        if connection.address in MANAGED:
            plan = plan_remind(
                typed,
                federation,
                defaults,
                app_dir=app_dir.resolve(),
                cwd=Path.cwd(),
                now=datetime.now(),
                clients=clients,
                cohort=cohort,
            )
            for warning in check_hospitals(plan, defaults):
                print(f"warning: {warning}", file=sys.stderr)
            found = estimated(plan, defaults, in_process=False)
            refuse_what_is_too_large(
                found, yes, f"{REMEDY}, or fewer processes with --federation-config '{CLIENT_CPUS}=N'"
            )
            print(found, file=sys.stderr)
            plan = claimed(plan)
        else:
            plan = plan_elsewhere(typed, federation, defaults, clients=clients, cohort=cohort)
    if plan.run:
        given["run_config_overrides"] = write_pairs(plan.run)
    # The connection's own (deprecated) options give way to any federation config: only what the user wants may do that.
    if plan.federation and (federation or SUPERNODES in plan.federation or not connection.options):
        given["federation_config_overrides"] = write_pairs(plan.federation)
    return plan


def prepare_resume(
    given: dict[str, Any],
    folder: Path,
    clients: int | None,
    cohort: str | None,
    connection_named: Callable[[str | None], Any],
) -> "Plan":
    """Return what to submit to resume a simulation, and write it into `given`.

    Raises
    ------
    UserError
        Other options are given too, the run is not a simulation on this machine, or there is nothing to resume.
    """
    from remind.errors import UserError
    from remind_server.rounds.checkpoints import resumable
    from remind_server.simulation import flwr_app
    from remind_server.simulation.flwr_pairs import write_pairs
    from remind_server.simulation.flwr_plan import SUPERNODES, Plan, with_clients

    if clients is not None or cohort is not None or given["run_config_overrides"]:
        raise UserError("--resume: a run continues with its own cohort, settings and hospitals; name its folder alone")
    if flwr_app.defaults(Path(given["app"]).expanduser()) is None:
        raise UserError(f"--resume is for the federated-remind app, which {given['app']} is not")
    if connection_named(given["superlink"]).address not in MANAGED:
        raise UserError("--resume is for simulations on this machine; a consortium's: remind consortium resume")
    config, nodes = resumable(folder)
    plan = Plan(with_clients({SUPERNODES: nodes}, None), config.flat(), config.results)
    given["run_config_overrides"] = write_pairs(plan.run or {})
    given["federation_config_overrides"] = write_pairs(plan.federation)
    return plan


def submit(run: Callable[..., None], given: dict[str, Any], plan: "Plan | None") -> int:
    """Call Flower's command and return the exit code.

    For our app, stderr shows how to watch the run, where its results will be, and how a streamed run ended.
    """
    if plan is None or plan.run is None:
        run(**given)
        return 0
    from remind_server.simulation.flwr_follow import exit_code, followed
    from remind_server.simulation.flwr_superlink import PORT_VARIABLE, right_superlink

    managed = not plan.elsewhere
    results = f"results: {plan.results}" if plan.results else ""
    with right_superlink(_say) if managed else nullcontext("") as port:

        def typed(command: str) -> str:
            """Return the command line for a command about the run, such as ``log 42``."""
            where = f" {given['superlink']}" if given["superlink"] else ""
            return f"{PORT_VARIABLE}={port} flwr {command}{where}" if port else f"flwr {command}{where}"

        if given["stream"] and results:
            _say(results)
        with followed(run) as seen:
            try:
                run(**given)
            except BaseException:  # as if Flower could not start its SuperLink in time
                if given["stream"] and results and not seen.ids:
                    _say("no run was started, so that this folder was not made")
                raise
            finally:
                if managed and not seen.ids and not plan.named:
                    with suppress(OSError):
                        Path(plan.results).rmdir()  # nothing was submitted, so that the folder is empty
        if seen.ids and not given["stream"]:
            _say("   ".join(filter(None, [f"watch: {typed(f'log {seen.ids[-1]}')} --stream", results])))
        return exit_code(seen, typed, plan.results if managed else "", _say)


def _say(text: str) -> None:
    typer.echo(text, err=True)
