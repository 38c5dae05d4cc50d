"""Settings of `remind data import mimic-iv`, and which options contradict each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remind.errors import several

Label = Literal["48h", "in-hospital", "one-year", "readmission", "length-of-stay", "phenotypes"]
AT_DISCHARGE: tuple[Label, ...] = ("one-year", "readmission")  # labels whose index time is the discharge
NotesRule = Literal["radiology", "history", "discharge"]
CodesRule = Literal["previous", "this", "all"]


@dataclass(frozen=True)
class MimicSettings:
    """What to import, and by which rules.

    Attributes
    ----------
    hosp, icu, note
        Folders of the release. Without `icu`, an example is a hospital admission and there are no vitals; without
        `note`, there are no notes.
    out
        The new cohort.
    label
        The outcome to predict (`mimic_stays`).
    hours
        Hours from a stay's start during which labs and vitals are taken; also the index time, where it is not the
        discharge.
    notes, codes
        Which ones (`mimic_notes.wanted_notes`, `mimic_codes.wanted_codes`); None: the choice that fits the label.
    first
        Whether to take only each person's first stay.
    as_text
        Whether labs, vitals and diagnoses are written as text, as in the paper.
    text_hours
        As text: one value per item and this many hours.
    items
        .csv with labs and vitals that replace `mimic_items.ITEMS`.
    care_units
        Whether the first care unit becomes the hospital (site) of the cohort.
    allow_leakage
        Whether notes and codes may be taken that were written after the index time.
    phenotypes
        .csv with the codes of each phenotype (`mimic_phenotypes.read_phenotypes`), for the label of this name.
    """

    hosp: Path
    out: Path
    label: Label
    icu: Path | None = None
    note: Path | None = None
    hours: float = 48.0
    notes: NotesRule | None = None
    codes: CodesRule | None = None
    first: bool = False
    as_text: bool = False
    text_hours: float = 24.0
    items: Path | None = None
    care_units: bool = False
    allow_leakage: bool = False
    phenotypes: Path | None = None

    @property
    def notes_rule(self) -> NotesRule:
        """Return `notes`, or the default for the label."""
        return self.notes or ("discharge" if self.label in AT_DISCHARGE else "radiology")

    @property
    def codes_rule(self) -> CodesRule:
        """Return `codes`, or the default for the label."""
        return self.codes or ("all" if self.label in AT_DISCHARGE else "previous")

    @property
    def leaks(self) -> tuple[str, ...]:
        """Return the options that use data written after the index time."""
        if self.label in AT_DISCHARGE:
            return ()
        notes = ["--notes discharge"] if self.notes_rule == "discharge" else []
        codes = [f"--codes {self.codes_rule}"] if self.codes_rule != "previous" and not self._codes_are_label else []
        return (*notes, *codes)

    @property
    def _codes_are_label(self) -> bool:
        return self.label == "phenotypes"

    def check(self) -> None:
        """Raise a UserError that lists all options that contradict each other."""
        wrong = [
            f"--{option} {value:g}: give hours, more than 0"
            for option, value in (("hours", self.hours), ("text-hours", self.text_hours))
            if not 0 < value < float("inf")
        ]
        if self.notes and not self.note:
            wrong.append(f"--notes {self.notes} without notes: name the folder of mimic-iv-note with --note")
        if self.care_units and not self.icu:
            wrong.append("--care-units without care units: name the folder of the icu module with --icu")
        if self._codes_are_label != (self.phenotypes is not None):
            wrong.append(
                f"--phenotypes with --label {self.label}: it lists the codes of the label phenotypes; leave it out"
                if self.phenotypes
                else "--label phenotypes without its codes: name the file that lists them with --phenotypes"
            )
        if self._codes_are_label and self.codes_rule != "previous":
            wrong.append(
                f"--codes {self.codes_rule} with --label phenotypes: the label is made of the codes of this stay, "
                "and would be an input; leave it out"
            )
        if self.leaks and not self.allow_leakage:
            wrong.append(
                f"{' and '.join(self.leaks)} with --label {self.label}: written after the discharge, it tells how the "
                "stay ended; leave it out, or, to compare with work that used it, add --allow-leakage"
            )
        if wrong:
            raise several("these options do not go together", wrong)
