"""Runs for notebooks: start a run on this machine, and read its results as tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remind.config import Config, Scalar
from remind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from remind.prediction.predictor import Predictor

SIMULATE = "remind_server.simulation.notebook:simulate_into"  # a reference: the library imports no coordinator


@dataclass(frozen=True)
class Run:
    """The results folder of a run (docs/results.md), as tables.

    Attributes
    ----------
    folder
        The folder's path.
    """

    folder: Path

    @cached_property
    def config(self) -> Config:
        """The run's settings."""
        return Config.model_validate_json(json.dumps(self._json("config.json")["config"]))

    @property
    def summary(self) -> dict[str, Any]:
        """The run in a few numbers, of test patients: ``overall``, ``worst_group``, means over groups and sites."""
        found: dict[str, Any] = self._json("summary.json")
        return found

    @property
    def rounds(self) -> "pd.DataFrame":
        """A row per round: who answered, seconds, bytes."""
        import pandas as pd

        return pd.DataFrame(self._lines("rounds.jsonl"))

    @property
    def groups(self) -> "pd.DataFrame":
        """A row per round and group: λ, risk (nats), gate, and validation scores as ``validation.<score>``."""
        import pandas as pd

        return pd.json_normalize(self._lines("groups.jsonl"))

    @property
    def final(self) -> "pd.DataFrame":
        """A row per site and group (and ``all``): scores of test patients, 0 … 1; losses in nats."""
        import pandas as pd

        return pd.DataFrame(self._json("final.json"))

    def predictor(self, site: str | None = None) -> "Predictor":
        """Return the trained model, ready to predict; `remind.load` says the same of a folder."""
        from remind.prediction.predictor import load

        return load(self.folder, site)

    def _json(self, name: str) -> Any:
        return json.loads(self._text(name))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._text(name).splitlines()]

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.folder / name}: cannot be read: {error.strerror}; has the run ended?") from None


def read_run(folder: str | Path) -> Run:
    """Return the results of a run from its folder.

    Raises
    ------
    UserError
        It is not the results folder of a run.
    """
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no results of a run; give the folder that the run printed")
    return Run(path)


def simulate(
    config: Config | Mapping[str, Scalar] | None = None,
    *,
    cohort: str | Path | None = None,
    clients: int | None = None,
    observers: Sequence[Any] = (),
) -> Run:
    """Train a federation of virtual hospitals in this process, and return its results.

    Parameters
    ----------
    config
        Settings: a `Config`, or run-config keys such as ``{"train.lr": 0.01, "method.fusion": "flexmoe"}``. ``results``
        names the folder of the results; without it, a new one in ``./results``.
    cohort
        A cohort folder or its cohort.toml; None: the config's, by default synthetic patients.
    clients
        Hospitals; None: those of the cohort's site column, or 5.
    observers
        Objects that follow the run: any methods of `remind_server.outputs.records.Observer` that they have are called.

    Raises
    ------
    UserError
        The settings, the cohort or the folder are not valid.
    """
    given = config.flat() if isinstance(config, Config) else {k.replace("_", "-"): v for k, v in (config or {}).items()}
    if isinstance(config, Config):
        defaults = Config().flat()
        given = {key: value for key, value in given.items() if value != defaults[key]}
    module, _, name = SIMULATE.partition(":")
    folder: Path = getattr(import_module(module), name)(
        given, None if cohort is None else str(cohort), clients, observers
    )
    return Run(folder)
