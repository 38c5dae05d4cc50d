"""`data` and `synthetic`: the patients, and how they are divided into hospitals."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config.section import Count, Fraction, NonNegative, Positive, Section


class DataConfig(Section):
    """The patients, and how they are divided into hospitals."""

    cohort: str = Field("synthetic", description="a cohort folder or its cohort.toml; or 'synthetic'")
    root: str = Field("", description="folder of the cohort's files, if cohort.toml is in another folder")
    sites: Literal["auto", "column", "dirichlet"] = Field(
        "auto", description="hospitals from the cohort's site column, or drawn; auto: the column if there is one"
    )
    alpha: Positive = Field(
        0.5, description="Dirichlet concentration over groups: smaller values give more skewed mixes"
    )
    rules: str = Field("", description="what hospitals lack, e.g. '3: no imaging; 2: only clinical, labs'")
    pooled: Annotated[int, Field(ge=0)] = Field(
        0, description="for method.rule='pooled': number of hospitals whose patients are pooled; set by --num-clients"
    )
    validation: Fraction = Field(0.1, description="share of each site's patients held out for validation")
    test: Fraction = Field(0.2, description="share of each site's patients held out for the final test")

    min_evaluated: Annotated[int, Field(ge=0)] = Field(
        0,
        description="minimum number of test and of validation patients of a group at a site, if the group has enough; "
        "a hospital uses its policy's minimum if that is larger",
    )

    @model_validator(mode="after")
    def _leaves_training_patients(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} + test {self.test} leave no training patients")
        return self


class SyntheticConfig(Section):
    """The built-in cohort, used where data.cohort = 'synthetic'."""

    patients: Count = Field(4000, description="number of patients")
    law: Literal["fprm", "embed", "mimic-iv", "brats", "independent"] = Field(
        "fprm",
        description="how combinations are distributed: one of the paper's cohorts, four sequences of MRI (brats), or "
        "Pr(g_k) of algorithm §1",
    )
    missing: str = Field("0.1, 0.4, 0.6, 0.2", description="law 'independent': Pr(modality i is missing), one each")
    interaction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7,
        description="share of the label's signal in cross-modal products whose signs differ per group; not of masks",
    )
    noise: NonNegative = Field(
        0.3,
        description="standard deviation of the label noise, in units of the signal's; of masks, of the volumes' grain, "
        "in units of 25 grey levels of 255",
    )
    outcome: str = Field("classes", description="what the label is: an outcome of docs/cohorts.md")
    kinds: str = Field(
        "",
        description="a kind per modality, such as 'image, table, text, codes'; empty: M2 a series, the rest tables, or "
        "with masks all volumes",
    )
    standardise: Literal["train", "given"] = Field(
        "train",
        description="numbers of tables and series by each hospital's training patients, or by declared mean and "
        "deviation, which tell nothing of patients (privacy.mode)",
    )
    size: Annotated[int, Field(ge=8, le=512)] = Field(32, description="pixels along a side of images, volumes, videos")
