"""Computes what ``flwr run`` submits if our options or our app are used, from the options as typed.

All functions are pure except `plan_here`, which reads the current folder and the time.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from remind.config import Config, MethodConfig, Scalar
from remind.errors import UserError
from remind_server.outputs.results_claim import make_own, refuse_what_holds_something
from remind_server.simulation.flwr_pairs import read_pairs

if TYPE_CHECKING:
    from remind.data.cohort.cohort import Cohort
    from remind_server.simulation.estimate import Estimate

REMEDY = "Take fewer hospitals or a smaller model"
SUPERNODES, CLIENT_CPUS = "num-supernodes", "client-resources-num-cpus"
ALL_CPUS = "init-args-num-cpus"
BUILT_IN_COHORT = "synthetic"
FLOWERS_DEFAULT = 2  # supernodes of a simulation that sets no number
OUR_DEFAULT = 5  # the same, in our own commands


@dataclass(frozen=True)
class Plan:
    """What to submit. `run` is None for an app that is not ours; its run config stays as typed."""

    federation: dict[str, Scalar]
    run: dict[str, Scalar] | None = None
    results: str = ""  # the results folder; empty: unknown here
    named: bool = True  # whether the user chose that folder; if not, `claimed` may change its name
    elsewhere: bool = False  # whether someone else runs the SuperLink


def with_clients(federation: Mapping[str, Scalar], clients: int | None) -> dict[str, Scalar]:
    """Return the federation config for `clients` simulated hospitals (None: its own number, or Flower's default).

    A hospital takes one CPU unless the user sets another number: with Flower's default of two, a machine with one
    CPU could not run any.
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
    """Plan a simulation of our app on this machine, whose SuperLink works in another folder.

    Paths are made absolute: those typed against `cwd`, those in the app's own pyproject.toml (`defaults`) against
    `app_dir`. A cohort with a site column sets the number of clients. All mistakes that can be found are reported now,
    because a submitted run fails in a log that nobody reads.

    Raises
    ------
    UserError
        There is an unknown key, a bad value or a contradiction, or the cohort's sites cannot be read.
    """
    run = dict(typed)
    if cohort is not None:
        run["data.cohort"] = _no_contradiction(run, cohort)
    Config.from_flat({**defaults, **run})  # reports every mistake before paths are changed
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
    """Return the plan with its own results folder, which is made now unless the user chose one.

    Raises
    ------
    UserError
        The chosen folder is not empty, or the folder cannot be made.
    """
    if plan.named:
        if plan.results:
            refuse_what_holds_something(Path(plan.results))
        return plan
    folder = str(make_own(Path(plan.results)))
    return replace(plan, run={**(plan.run or {}), "results": folder}, results=folder)


def plan_here(run_config: Sequence[str] | None, cohort: str | None, clients: int | None) -> tuple[Plan, Config, int]:
    """Plan a simulation in this process from options typed in this folder; return its config and hospitals.

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
    """Return whether the chosen rule pools all patients; raise a UserError if the methods cannot be combined."""
    from remind.methods import methods_of

    return methods_of(config).rule.pooled


def check_hospitals(plan: Plan, defaults: Mapping[str, Scalar]) -> list[str]:
    """Read the cohort, divide it into the hospitals of `plan`, and read the model that the run begins with.

    So mistakes are reported before the run starts, and its results folder stays free for the next attempt.

    Returns
    -------
    list of str
        Warnings: settings that are not used, hospitals with one class alone, features that nearly decide the label.

    Raises
    ------
    UserError
        The cohort has problems, there are more hospitals than patients, a hospital cannot train, ``start.model`` is
        no model or does not fit, a protection does not go with cohort, hospitals or settings, or ``alerts.toml`` is
        wrong.
    """
    from remind.adaptation.start import start_of
    from remind.alerts.settings import read_alerts
    from remind.data.checks.leaks import leaks
    from remind.data.sites.hospitals import SYNTHETIC, virtual_hospitals
    from remind.privacy_reach import warnings
    from remind.run_settings import notes, require_cohort, require_hospitals, require_settings

    config = Config.from_flat({**defaults, **(plan.run or {})})
    require_settings(config)
    number = int(plan.federation.get(SUPERNODES, FLOWERS_DEFAULT))
    hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, number)
    if (start := start_of(config)) is not None:
        start.check(config, hospitals[0].cohort.schema)
    require_hospitals(config, len(hospitals), "give --num-clients {}, or a cohort of so many sites")
    observed = {int(k) for site in hospitals for k in np.unique(site.cohort.groups_N)}
    require_cohort(config, hospitals[0].cohort.schema, observed)
    if plan.results:
        read_alerts(Path(plan.results).parent)
    leaking = [] if config.data.cohort == SYNTHETIC else leaks([site.cohort for site in hospitals])
    schema, share = hospitals[0].cohort.schema, 1 - config.data.validation - config.data.test
    leaking += warnings(config, schema, [round(len(site.cohort) * share) for site in hospitals])
    return notes(config) + leaking + [warning for site in hospitals if (warning := _alike(site.name, site.cohort))]


def _alike(name: str, cohort: "Cohort") -> str:
    """Return a warning if nothing can be learned from a site's patients; empty if something can."""
    if not (same := cohort.schema.predicts.alike(cohort.label_N, cohort.target_NT)):
        return ""
    undefined = "AUROC and balanced accuracy are" if cohort.schema.predicts.by_class else "what compares patients is"
    return f"site {name}: all {len(cohort)} patients {same}; its {undefined} undefined"


def estimated(plan: Plan, defaults: Mapping[str, Scalar], in_process: bool, jobs: int = 1) -> "Estimate":
    """Estimate what the simulation of `plan` needs, in `jobs` processes of ours or in those that Ray runs in parallel.

    Raises
    ------
    UserError
        As `check_hospitals`, with which this shares the reading of the cohort.
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
    processes = min(len(hospitals), jobs if in_process else side_by_side)
    coordinator = not in_process or processes > 1
    return estimate(config, size, len(hospitals), processes, coordinator, apart=in_process)


def plan_elsewhere(
    typed: Mapping[str, Scalar],
    federation: Mapping[str, Scalar],
    defaults: Mapping[str, Scalar],
    *,
    clients: int | None = None,
    cohort: str | None = None,
) -> Plan:
    """Plan a run of our app at a SuperLink that someone else runs, with its own paths and its own hospitals."""
    from remind.run_settings import require_settings

    run = dict(typed)
    if cohort is not None:
        run["data.cohort"] = _no_contradiction(run, cohort)
    config = Config.from_flat({**defaults, **run})
    require_settings(config)
    keys = dict(federation) if clients is None else with_clients(federation, clients)
    return Plan(keys, run, config.results, elsewhere=True)


def cohort_name(config: Config) -> str:
    """Return the name of the cohort's folder, or of its file if that is not called cohort.toml."""
    path = Path(config.data.cohort)
    if path.suffix == ".toml":
        return path.parent.name if path.stem == "cohort" else path.stem
    return path.name


def _no_contradiction(run: Mapping[str, Scalar], cohort: str) -> str:
    if "data.cohort" in run:
        raise UserError(f"--cohort {cohort} and --run-config data.cohort={run['data.cohort']}: give one")
    return cohort


def _sites(config: Config) -> int | None:
    """Return the number of hospitals in the cohort's site column; None if they are drawn."""
    if config.data.cohort == BUILT_IN_COHORT:
        return None
    from remind.data.sites.sites import number_of_sites

    sites = number_of_sites(config.data.cohort, config.data.root)
    return None if config.data.sites == "dirichlet" else sites
