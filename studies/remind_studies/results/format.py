"""The format of results.json. It contains every number of a report, so that the report computes nothing.

Panels are in `panel_format`, their scores in `score_format`. docs/statistics.md defines the numbers and how they are
computed.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from remind.config import Scalar, Section
from remind.errors import UserError
from remind.federation.message_types import first_problem
from remind_studies.made import Made
from remind_studies.results.panel_format import Panel
from remind_studies.results.score_format import Natural
from remind_studies.study import Metric


class Cohort(Section):
    """Whose patients. `groups` and `sites` are numbers of them, `sites` those of the study's first panel.

    Attributes
    ----------
    outcome
        Kind of the label (`remind.outcomes`).
    unit
        Unit of a number that is predicted; empty: none, or not named.
    parts
        Names of the parts that have scores of their own, such as regions: `dice_1` is of the first.
    """

    name: str
    patients: Natural
    groups: Natural
    sites: Natural
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    outcome: str = "classes"
    unit: str = ""
    parts: tuple[str, ...] = ()


class Tuning(Section):
    """How settings were chosen.

    Attributes
    ----------
    budget
        Settings tried for each method, the same number for all; 0: none.
    text
        Description for the report.
    chosen
        Best settings on validation patients, by arm.
    defaults_from_here
        Whether REMIND's defaults were chosen on validation patients of this cohort.
    """

    budget: Natural
    text: str
    chosen: dict[str, dict[str, Scalar]]
    defaults_from_here: bool = False


class Settings(Section):
    """Run-config keys that were set, and options of runners.

    Attributes
    ----------
    common
        Of every run.
    arms
        Of each arm besides; by "<panel> / <arm>" where an arm's are not the same in all panels.
    """

    common: dict[str, Scalar]
    arms: dict[str, dict[str, Scalar]]


class Fact(Section):
    """A number of another kind, such as parameters: `values` by seed, and their mean and sd.

    Attributes
    ----------
    arm
        As planned: one whose runs measured several models has its facts once.
    values
        In the order of `Results.seeds`, None where the run is missing.
    """

    panel: str
    arm: str
    name: str
    values: tuple[float | None, ...]
    n: Natural
    mean: float | None
    sd: float | None


class StudyMade(Made):
    """How the study was made; its last command may have found runs that were there already.

    Attributes
    ----------
    trained
        Seconds that all its runs took, one after the other.
    """

    trained: float


class Results(Section):
    """results.json.

    Attributes
    ----------
    folds
        K of the repeated K-fold cross-validation: seed s holds out fold s mod K of partition s div K. 1: the cohort has
        a split of its own, and every seed tests the same patients.
    metric, measure
        Metric and measure that decide the study.
    least
        Tested patients below which a group or hospital is shown but never ranked.
    margin
        Difference in `metric` below which methods count as equal, if a test shows that it is smaller.
    min_count
        Groups and hospitals with fewer patients are suppressed; 1: none.
    advice
        What the study recommends, in a sentence; empty: nothing.
    missing
        Runs without a result: "panel / arm / seed 3: reason".
    """

    format: Literal[2] = 2
    study: str
    title: str
    cohort: Cohort
    seeds: tuple[Natural, ...]
    folds: Annotated[int, Field(ge=1)]
    metric: Metric
    measure: str
    least: Natural
    margin: Annotated[float, Field(gt=0)]
    min_count: Natural = 1
    tuning: Tuning
    settings: Settings
    panels: tuple[Panel, ...]
    facts: tuple[Fact, ...]
    advice: str = ""
    missing: tuple[str, ...]
    made: StudyMade

    @model_validator(mode="after")
    def _has_a_value_per_seed(self) -> Self:
        lists = [one.values for panel in self.panels for one in (*panel.summaries, *panel.by_group, *panel.by_site)]
        if any(len(values) != len(self.seeds) for values in (*lists, *(fact.values for fact in self.facts))):
            raise ValueError("a list of values is not as long as the list of seeds")
        return self

    def to_json(self) -> str:
        """Return the file's text: the same bytes for the same results."""
        return (
            json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> Self:
        """Read the text of the file `name`.

        Raises
        ------
        UserError
            The text is not a results.json of this version.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(
                f"{name} is not the results.json of a study: {first_problem(error)}; run it again"
            ) from None
