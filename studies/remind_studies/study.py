"""The base class of studies: a question, and the panels of runs that answer it.

A study is one file of `studies/`: its `options`, a `Study` that plans its panels, and `@registry.register`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from remind.config import Config, Scalar, Section
from remind.data.cohort.cohort import Cohort
from remind.metrics.scores import EVERY
from remind.registry import Options, Registry
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.yardstick import LOCAL, PLACE, POOLED, needed
from remind_studies.cells.yardstick import RUNNER as YARDSTICK
from remind_studies.yardsticks.tasks import supports


def _known(metric: str) -> str:
    if metric not in EVERY:
        raise ValueError(f"there is no score {metric!r}")
    return metric


Metric = Annotated[str, AfterValidator(_known)]
Settings = Mapping[str, Scalar]


class Arm(Section):
    """A method in a table: one row of results, one training run per seed.

    Attributes
    ----------
    settings
        Run-config keys that define it.
    options
        Further arguments of its runner.
    anchor
        Whether it is an anchor (each hospital alone, all patients pooled), which is never ranked.
    runner
        What its cells are (`runners`), where it is another than the panel's.
    """

    name: str
    settings: dict[str, Scalar] = Field(default_factory=dict)
    options: dict[str, Scalar] = Field(default_factory=dict)
    anchor: bool = False
    runner: str = ""

    @property
    def place(self) -> str:
        """Where its models are trained, if not in a federation: "local" or "pooled"; else empty."""
        place = str(self.options.get(PLACE) or self.settings.get("method.rule", "")).partition("(")[0].strip()
        return place if place in (LOCAL, POOLED) else ""

    def but(self, name: str, changes: Settings) -> "Arm":
        """Return the same method with changed settings, as a ranked arm."""
        return self.model_copy(update={"name": name, "settings": {**self.settings, **changes}, "anchor": False})


@dataclass(frozen=True)
class Panel:
    """One table: arms that are compared with each other, on the same patients.

    Attributes
    ----------
    name, title
        In file names, and in text.
    settings, options, clients
        Of every arm; they override the arm's own.
    runner
        Kind of its cells (`runners`).
    reference
        Name of the arm against which the others are tested; empty: the first that is no anchor.
    measures
        Measures besides the usual ones, such as ``"available:2"``.
    models
        Where runs measure several models: how the names of those begin that this panel shows, and what its rows leave
        out of them. So panels can be views of the same cells. Empty: all models.
    parts
        Options of the cells that a run is made of, where it is made of several that test different hospitals; each is
        a training of its own, so that a stopped study loses little.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    settings: Settings = field(default_factory=dict)
    options: Settings = field(default_factory=dict)
    clients: int | None = None
    runner: str = "train"
    reference: str = ""
    measures: tuple[str, ...] = ()
    models: str = ""
    parts: tuple[Settings, ...] = ({},)

    def cells(self, arm: Arm, common: Settings, seed: int) -> tuple[Cell, ...]:
        """Return the run of one arm and seed: one cell, or its parts."""
        return tuple(self.cell(arm, common, seed, part) for part in self.parts)

    def cell(self, arm: Arm, common: Settings, seed: int, part: Settings | None = None) -> Cell:
        """Return the run of one arm and seed, or this part of it; None: the first."""
        settings = {**common, **arm.settings, **self.settings, "seed": seed}
        runner = arm.runner or self.runner
        if runner == YARDSTICK:
            settings = needed(settings)
        return Cell.of(
            settings, self.clients, {**arm.options, **self.options, **(self.parts[0] if part is None else part)}, runner
        )


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes
    ----------
    common
        Settings of every run, the cohort among them.
    cohort
        As read from disk; sites from its column, or None.
    arms
        Methods of ``--methods``; at least one is no anchor.
    clients
        Number of hospitals, if they are drawn.
    anchors
        Whether to run also each hospital alone, and all patients pooled.
    """

    common: Settings
    cohort: Cohort
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    clients: int | None
    metric: Metric = "auroc"
    anchors: bool = True

    @property
    def config(self) -> Config:
        """Return the config that all runs share."""
        return Config.from_flat(dict(self.common))

    @property
    def yardsticks(self) -> bool:
        """Return whether yardsticks can predict what the cohort's label is."""
        return supports(self.cohort.schema.predicts)

    @property
    def main(self) -> Arm:
        """Return the main method of the study: the one named remind, else the first that is no anchor."""
        ranked = sorted((arm for arm in self.arms if not arm.anchor), key=lambda arm: bool(arm.runner))
        return next((arm for arm in ranked if arm.name == "remind"), ranked[0])


class Study(ABC):
    """Base of every study.

    Attributes
    ----------
    methods
        Default of ``--methods``.
    seeds
        Default number of seeds.
    classes_only
        Why it needs classes; empty: it is for every outcome.
    """

    methods = "softmoe, attention, groupdro, reweigh, fedavg, remind"
    seeds = 10
    classes_only: ClassVar[str] = ""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def plan(self, request: Request) -> tuple[Panel, ...]:
        """Return the panels.

        Raises
        ------
        UserError
            The request does not fit the study.
        """

    def advice(self, request: Request, found: Mapping[tuple[str, str], Sequence[CellResult]]) -> str:
        """Return what the study found or recommends beyond its tables, in sentences; empty: nothing.

        Parameters
        ----------
        found
            Results by panel and arm, one per seed that has one.
        """
        return ""


registry: Registry[Study] = Registry("study", "remind_studies.studies", Study)  # built with (options,)
