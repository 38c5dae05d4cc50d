"""Compute what ``flwr run`` submits when our options or our app are used, from the typed options.

Pure, but for `plan_here`, which knows the folder and the time.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from remind.config import Config, MethodConfig, Scalar
from remind.errors import UserError
from remind_server.outputs.results_claim import make_own, refuse_what_holds_something
from remind_server.simulation.flwr_pairs import read_pairs

if TYPE_CHECKING:
    from remind_server.simulation.estimate import Estimate

REMEDY = "Take fewer hospitals or a smaller model"
SUPERNODES, CLIENT_CPUS = "num-supernodes", "client-resources-num-cpus"
ALL_CPUS = "init-args-num-cpus"
BUILT_IN_COHORT = "synthetic"
FLOWERS_DEFAULT = 2  # supernodes of a simulation that says nothing
OUR_DEFAULT = 5  # of one that our own commands run


@dataclass(frozen=True)
class Plan:
    """What to submit; `run` is None for an app that is not ours, whose run config stays as typed."""

    federation: dict[str, Scalar]
    run: dict[str, Scalar] | None = None
    results: str = ""  # where they will lie; empty: not known here
    named: bool = True  # whether the user chose that folder; else its name is ours to change, see `claimed`
    elsewhere: bool = False  # whether somebody else runs the SuperLink


def with_clients(federation: Mapping[str, Scalar], clients: int | None) -> dict[str, Scalar]:
    """Federation config for `clients` simulated hospitals (None: as many as it says itself, or Flower's default).

    A hospital takes one CPU unless the user says otherwise: with Flower's default of two, a machine with one CPU
    could not run any.
    """
    keys = dict(federation)
    if clients is not None:
        if keys.get(SUPERNODES, clients) != clients:
            raise UserError(
                f"--num-clients {clients} contradicts --federation-config {SUPERNODES}={keys[SUPERNODES]}: give one"
            )
        keys[SUPERNODES] = clients
    return {CLIENT_CPUS: 1} | keys


def plan_remind(
    typed: Mapping[str, Scalar],
    federation: Mapping[str, Scalar],
    defaults: Mapping[str, Scalar],
    *,
    app_dir: Path,
    cwd: Path,
    now: datetime,
    clients: int | None = None,
    cohort: str | None = None,
    default_clients: int = FLOWERS_DEFAULT,
) -> Plan:
    """Plan of a simulation of our app on this machine, where the SuperLink works in a folder of its own.

    Paths are made absolute: those typed against `cwd`, those in the app's own pyproject.toml (`defaults`) against
    `app_dir`. A cohort with a site column sets the number of clients. What can be known to be wrong is said now: once
    submitted, a run fails where nobody looks.

    Raises
    ------
    UserError
        For an unknown key or bad value, a contradiction, and a cohort whose sites cannot be read.
    """
    run = dict(typed)
    if cohort is not None:
        run["data.cohort"] = _no_contradiction(run, cohort)
    Config.from_flat({**defaults, **run})  # says all that is wrong, before paths are touched
    for key in ("data.cohort", "data.root", "results", "start.model"):
        base, value = (cwd, run[key]) if key in run else (app_dir, defaults.get(key, ""))
        if value and not (key == "data.cohort" and value == BUILT_IN_COHORT):
            run[key] = os.path.abspath(base / Path(str(value)).expanduser())
    config = Config.from_flat({**defaults, **run})
    named = bool(config.results)
    if not named:
        run["results"] = str(cwd / "results" / f"{now:%Y%m%d-%H%M%S}-{cohort_name(config)}-seed{config.seed}")
    federation = with_clients(federation, clients)
    if (sites := _sites(config)) and federation.setdefault(SUPERNODES, sites) != sites:
        raise UserError(
            f"cohort {cohort_name(config)!r} has {sites} sites, not {federation[SUPERNODES]}: leave --num-clients "
            "out, or draw hospitals from all its patients with --run-config 'data.sites=\"dirichlet\"'"
        )
    if config.method != MethodConfig() and _pools(config):
        run["data.pooled"] = int(sites or federation.get(SUPERNODES, default_clients))
        federation[SUPERNODES] = 1
    return Plan(federation, run, str(run.get("results", config.results)), named)


def claimed(plan: Plan) -> Plan:
    """The plan with a results folder of its own, which is made now unless the user chose one.

    Raises
    ------
    UserError
        If the chosen folder holds something, or a folder cannot be made.
    """
    if plan.named:
        if plan.results:
            refuse_what_holds_something(Path(plan.results))
        return plan
    folder = str(make_own(Path(plan.results)))
    return replace(plan, run={**(plan.run or {}), "results": folder}, results=folder)


def plan_here(run_config: Sequence[str] | None, cohort: str | None, clients: int | None) -> tuple[Plan, Config, int]:
    """Plan of a simulation in this process, from options as they were typed in this folder; its config and hospitals.

    Raises
    ------
    UserError
        As `plan_remind`.
    """
    cwd = Path.cwd()
    plan = plan_remind(
        read_pairs(run_config, "--run-config"),
        {},
        {},
        app_dir=cwd,
        cwd=cwd,
        now=datetime.now(),
        clients=clients,
        cohort=cohort,
        default_clients=OUR_DEFAULT,
    )
    number = int(plan.federation.setdefault(SUPERNODES, OUR_DEFAULT))
    return plan, Config.from_flat(plan.run or {}), number


def _pools(config: Config) -> bool:
    """Whether the chosen rule brings all patients to one place; a UserError if the methods do not go together."""
    from remind.methods import methods_of

    return methods_of(config).rule.pooled


def check_hospitals(plan: Plan, defaults: Mapping[str, Scalar]) -> list[str]:
    """Read the cohort and lay it into the hospitals of `plan`, so that a mistake in it is said before anything starts.

    Returns
    -------
    list of str
        What is odd but no mistake: hospitals of one class alone, features that nearly decide the label.

    Raises
    ------
    UserError
        Everything that is wrong with the cohort; more hospitals than patients; what cannot be trained on.
    """
    from remind.data.checks.leaks import leaks
    from remind.data.sites.hospitals import SYNTHETIC, virtual_hospitals

    config = Config.from_flat({**defaults, **(plan.run or {})})
    number = int(plan.federation.get(SUPERNODES, FLOWERS_DEFAULT))
    hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, number)
    leaking = [] if config.data.cohort == SYNTHETIC else leaks([site.cohort for site in hospitals])
    return leaking + [
        f"site {site.name}: all {len(site.cohort)} patients are of class "
        f"{site.cohort.schema.classes[site.cohort.label_N[0]]!r}; its AUROC and balanced accuracy are undefined"
        for site in hospitals
        if (site.cohort.label_N == site.cohort.label_N[0]).all()
    ]


def estimated(plan: Plan, defaults: Mapping[str, Scalar], in_process: bool) -> "Estimate":
    """What the simulation of `plan` takes: in this process, or in as many as Ray runs side by side.

    Raises
    ------
    UserError
        As `check_hospitals`, whose reading of the cohort this shares.
    """
    from remind.data.sites.hospitals import virtual_hospitals
    from remind_server.simulation.estimate import estimate, size_of

    config = Config.from_flat({**defaults, **(plan.run or {})})
    number = int(plan.federation.get(SUPERNODES, FLOWERS_DEFAULT))
    hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, number)
    observed = {int(k) for site in hospitals for k in set(site.cohort.groups_N.tolist())}
    size = size_of(config, hospitals[0].cohort.schema, observed)
    cpus = int(plan.federation.get(ALL_CPUS) or os.cpu_count() or 1)
    side_by_side = max(1, cpus // max(1, int(plan.federation.get(CLIENT_CPUS, 1))))
    processes = 1 if in_process else min(len(hospitals), side_by_side)
    return estimate(config, size, len(hospitals), processes, coordinator=not in_process)


def plan_elsewhere(
    typed: Mapping[str, Scalar],
    federation: Mapping[str, Scalar],
    defaults: Mapping[str, Scalar],
    *,
    clients: int | None = None,
    cohort: str | None = None,
) -> Plan:
    """Plan of our app for a SuperLink that someone else runs: its paths and its number of hospitals are its own."""
    run = dict(typed)
    if cohort is not None:
        run["data.cohort"] = _no_contradiction(run, cohort)
    config = Config.from_flat({**defaults, **run})
    keys = dict(federation) if clients is None else with_clients(federation, clients)
    return Plan(keys, run, config.results, elsewhere=True)


def cohort_name(config: Config) -> str:
    """Name of the cohort's folder, or of its file where that is not called cohort.toml."""
    path = Path(config.data.cohort)
    if path.suffix == ".toml":
        return path.parent.name if path.stem == "cohort" else path.stem
    return path.name


def _no_contradiction(run: Mapping[str, Scalar], cohort: str) -> str:
    if "data.cohort" in run:
        raise UserError(f"--cohort {cohort} and --run-config data.cohort={run['data.cohort']}: give one")
    return cohort


def _sites(config: Config) -> int | None:
    """Number of hospitals in the cohort's site column; None where they are drawn. A UserError if it can't be read."""
    if config.data.cohort == BUILT_IN_COHORT:
        return None
    from remind.data.sites.sites import number_of_sites

    sites = number_of_sites(config.data.cohort, config.data.root)
    return None if config.data.sites == "dirichlet" else sites
