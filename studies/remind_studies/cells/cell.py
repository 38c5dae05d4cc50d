"""A cell of a study: one training run with all its inputs and its result. Each cell is one JSON file.

Shapes: G groups; statistics as in `remind.metrics.statistics`.
"""

import hashlib
import json

from pydantic import Field

from remind.config import Config, Scalar, Section
from remind.federation.message_statistics import Evaluation
from remind.federation.message_types import Message

PLACES = ("data.cohort", "data.root")
BySite = dict[str, dict[int, Evaluation]]


class Cell(Section):
    """One run.

    Attributes
    ----------
    runner
        What kind of work it is (`runners`).
    settings
        Run-config keys that differ from their defaults, the seed included.
    clients
        Hospitals, where they are drawn.
    options
        What the runner needs besides, such as the modality to hide.
    """

    runner: str = "train"
    settings: dict[str, Scalar]
    clients: int | None = None
    options: dict[str, Scalar] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: dict[str, Scalar],
        clients: int | None = None,
        options: dict[str, Scalar] | None = None,
        runner: str = "train",
    ) -> "Cell":
        """Return the cell of these settings in a normal form, so that equal runs have equal cells.

        Raises
        ------
        UserError
            A setting that does not exist or has a bad value.
        """
        flat = Config.from_flat({**settings, "results": "", "sinks": ""}).flat()
        defaults = Config().flat()
        differing = {key: value for key, value in sorted(flat.items()) if value != defaults[key]}
        differing["seed"] = flat["seed"]
        return cls(runner=runner, settings=differing, clients=clients, options=dict(sorted((options or {}).items())))

    @property
    def config(self) -> Config:
        """Its whole config."""
        return Config.from_flat(self.settings)

    def key(self, surroundings: str) -> str:
        """Return the name of its file: a digest of the cell and of `surroundings`, the digest of code and data.

        The path of the data on this machine is not part of it.
        """
        settings = {key: value for key, value in self.config.flat().items() if key not in PLACES}
        content = [self.runner, settings, self.clients, self.options, surroundings]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


class Outcome(Message):
    """A model's statistics per site and group.

    Attributes
    ----------
    name
        Name of one of several models of the cell; empty if there is only one.
    test, validation
        Of test and validation patients.
    """

    name: str = ""
    test: BySite
    validation: BySite


class RoundTrace(Message):
    """A round as recorded by the coordinator, per measured group.

    Attributes
    ----------
    weights
        λ_k used in the round.
    risks
        R_k of the model that the round began with.
    gate_open
        Share of validation patients whose routing used Φ_k, of the same model.
    validation_log_loss
        Mean of −ln p of the true class over its validation patients, whatever the objective.
    """

    round: int
    stage: int
    weights: dict[int, float]
    risks: dict[int, float]
    gate_open: dict[int, float]
    validation_log_loss: float | None
    bytes_down: int
    bytes_up: int


class CellResult(Message):
    """The result of a cell.

    Attributes
    ----------
    modalities, classes
        Names, in schema order.
    counts, site_counts
        Training patients per group, of all sites and of each.
    facts
        Numbers of other kinds, such as parameters and seconds per step.
    seconds
        Duration of the cell.
    """

    cell: Cell
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    counts: dict[int, int]
    site_counts: dict[str, dict[int, int]]
    outcomes: tuple[Outcome, ...]
    rounds: tuple[RoundTrace, ...] = ()
    facts: dict[str, float] = Field(default_factory=dict)
    seconds: float
