"""analysis.json: the results of `remind analyze`, and the only input of its page.

Docs/analysis.md explains the numbers.

Groups are bitmasks (`remind.groups`); rounds are rounds done, so that 0 is the model before any training.
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from remind.files import write_whole
from remind_studies.made import Made

JSON_FILE, PAGE_FILE = "analysis.json", "analysis.html"


WholeSet = Literal["groups", "cohort"]


class Part(BaseModel):
    """Base of all parts: frozen, no extra fields, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GroupFacts(Part):
    """One group; `train` and `test` are patients over all hospitals."""

    mask: int
    name: str
    tail: bool
    train: int
    test: int


class CohortFacts(Part):
    """The patients; both models of an analysis were trained on the same."""

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    sites: tuple[str, ...]
    groups: tuple[GroupFacts, ...]


class Settings(Part):
    """Settings of the analysis.

    Attributes
    ----------
    every
        Rounds between two evaluations of a model; None: only the final model.
    patients
        n, patients of each group in the gradient consistency.
    whole_set
        Patients of g_all: "groups", n of each group; "cohort", training patients in their natural shares.
    few
        A number with fewer test patients is marked.
    resamples
        Number of bootstrap resamples.
    min_count
        Groups with fewer patients are suppressed; 1: none.
    """

    every: int | None
    patients: int
    whole_set: WholeSet = "groups"
    few: int
    resamples: int
    min_count: int = 1

    @property
    def compared_with(self) -> str:
        """The patients of g_all, as text."""
        if self.whole_set == "cohort":
            return "the cohort, groups in their natural shares (as in the paper)"
        return "all groups, each with as many patients (not the natural shares of the paper)"


class Weights(Part):
    """λ of each group after this many rounds."""

    rounds: int
    of: dict[int, float]


class Routing(Part):
    """Routing of a group's training patients.

    Attributes
    ----------
    n
        Patients.
    gate_open
        Share of them, and of the blocks, for whom Φ_k is used; None in stage 1, and without a gate.
    shared_entropy, entropy
        Mean over patients and blocks of H / ln E, by Φ_shared alone, which the gate looks at, and by the router that is
        used. None without Soft MoE.
    """

    n: int
    gate_open: float | None
    shared_entropy: float | None
    entropy: float | None


class Consistency(Part):
    """Gradient consistency of a group.

    Attributes
    ----------
    score
        cos(g_k, g_all); None where the gradients vanish.
    singular
        σ₁.
    agreement
        |Σ u| / √n: near 0 the sign of the score means little. None if the classes of the drawn patients are suppressed.
    """

    score: float | None
    singular: float
    agreement: float | None


class Look(Part):
    """An evaluation of the model after this many rounds, and whether it uses Φ_k (stage 2)."""

    rounds: int
    stage: Literal[1, 2]
    routing: dict[int, Routing]
    consistency: dict[int, Consistency]


class ExpertUse(Part):
    """Use of the experts in the final model, by group.

    Attributes
    ----------
    experts, top
        E, and how many of a patient's experts are counted.
    n
        Training patients of each group.
    of
        Share of them among whose `top` experts expert e is, (E,).
    apart
        Mean over pairs of groups with enough patients of the share of their top places that they do not have in
        common; None for fewer than two such groups.
    """

    experts: int
    top: int
    n: dict[int, int]
    of: dict[int, tuple[float, ...]]
    apart: float | None


class Gain(Part):
    """A score with and without a modality, the gain (> 0: better with the modality), and its 95 % interval."""

    seen: float
    hidden: float
    gain: float
    low: float | None
    high: float | None


class ModalityValue(Part):
    """The gain of a group's test patients from one of their modalities.

    Attributes
    ----------
    mask
        The group; None: all test patients who have this modality and another.
    smaller, known
        The group without the modality, and whether it was seen in training; None if `mask` is None. The latter is also
        None if that group is suppressed.
    n, positives
        Test patients, and those of class 1 where there are two classes.
    few
        Whether they are fewer than `Settings.few`.
    """

    mask: int | None
    modality: str
    smaller: int | None
    known: bool | None
    n: int
    positives: int | None
    few: bool
    auroc: Gain | None
    accuracy: Gain
    loss: Gain


class Replay(Part):
    """Difference between the model of a repeated training and the stored one, at most `largest`."""

    equal: bool
    tensors: int
    differing: int
    largest: float | None


class Gate(Part):
    """The condition for using Φ_k: the rule, and the threshold of H / ln E; None if the rule does not use it."""

    kind: str
    opens_at: float | None


class ModelAnalysis(Part):
    """One model.

    Attributes
    ----------
    name
        Name on the page.
    source
        Its results folder.
    parameters
        Number of the parameters in the gradients, and their common name.
    whole
        Patients behind g_all, by group.
    drawn, left_out
        Groups with consistency → the patients drawn, by class; groups without → their training patients, too few.
    gate
        None if the model has no gate.
    """

    name: str
    source: str
    fusion: str
    objective: str
    rule: str
    seed: int
    rounds: int
    warmup_rounds: int
    replay: Replay | None
    parameters: int
    block: str
    drawn: dict[int, tuple[int, ...]]
    left_out: dict[int, int]
    whole: dict[int, int] = {}
    gate: Gate | None
    weights: tuple[Weights, ...]
    looks: tuple[Look, ...]
    experts: ExpertUse | None
    modality_value: tuple[ModalityValue, ...]


class Analysis(Part):
    """The whole file; the first model is the analysed one.

    Attributes
    ----------
    withheld_groups, withheld_rows
        How many groups, and rows of modality values of the other groups, are left out because of the minimum count.
    """

    format: Literal[1] = 1
    made: Made
    settings: Settings
    cohort: CohortFacts
    withheld_groups: int = 0
    withheld_rows: int = 0
    models: tuple[ModelAnalysis, ...]

    def write(self, folder: Path) -> Path:
        """Write analysis.json into a folder that is there."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        path = folder / JSON_FILE
        write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"), private=True)
        return path
