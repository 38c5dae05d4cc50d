"""Runs a simulation for `remind.simulate`, from settings in Python to a results folder."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from remind.config import Config, Scalar
from remind_server.outputs.records import Observer
from remind_server.outputs.run_folder import RunFolder
from remind_server.simulation.flwr_plan import OUR_DEFAULT, SUPERNODES, check_hospitals, claimed, plan_remind
from remind_server.simulation.simulate import simulate


class Following(Observer):
    """An observer that passes events to an object with methods for some of them."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, name)
        if name.startswith("_"):
            return own
        return getattr(object.__getattribute__(self, "_target"), name, own)


def simulate_into(
    settings: Mapping[str, Scalar], cohort: str | None, clients: int | None, observers: Sequence[Any]
) -> Path:
    """Run the simulation and return its results folder; see `remind.api.runs.simulate`."""
    cwd = Path.cwd()
    plan = plan_remind(
        settings,
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
    check_hospitals(plan, {})
    plan = claimed(plan)
    folder = RunFolder(Path(plan.results))
    simulate(Config.from_flat(plan.run or {}), number, [folder, *map(Following, observers)])
    return folder.folder
