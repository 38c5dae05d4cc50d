"""What cohort.toml declares of a series, and what sites must share about it."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import Problem, listed, suggest
from remind.data.cohort.sections import Name, Scalar, Section, Standardise, without_repeats
from remind.data.cohort.text import declared_text

SCALES = ("mean", "std", "standardise")


class SeriesSection(Section):
    """A modality with many observations per patient: (time, item, value)."""

    kind: Literal["series"]
    time: Name = "time"
    time_unit: Literal["second", "minute", "hour", "day"] | None = None
    start: Name | None = None
    item: Name = "item"
    value: Name = "value"
    items: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    exclude: tuple[Scalar, ...] = ()
    horizon: Annotated[float, Field(gt=0)] | None = None
    clip: bool = False
    mean: dict[Name, float] = Field({})
    std: dict[Name, Annotated[float, Field(gt=0)]] = Field({})
    standardise: Standardise = "train"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.standardise != "given" and (self.mean or self.std):
            raise ValueError('mean and std are only used with standardise = "given"; add it or remove them')
        if set(self.mean) != set(self.std):
            raise ValueError(f"mean and std name different items: {sorted(set(self.mean) ^ set(self.std))}")
        without_repeats("items and exclude", tuple(declared_text(v) for v in (*(self.items or ()), *self.exclude)))
        if self.start is not None and self.time_unit is not None:
            raise ValueError("start makes hours of dates: leave time_unit out")
        if self.clip and self.horizon is None:
            raise ValueError("clip = true needs a horizon to clip at")
        if self.absent and (self.file is not None or self.items is None or self.horizon is None):
            raise ValueError("absent = true needs items and horizon, so that other sites know them, and no file")
        return self


class SeriesSchema(ModalitySchema):
    """A modality with observations (time, item, value); times lie between 0 and `horizon_hours`.

    Attributes
    ----------
    mean, std
        The given statistics of every item's values if `standardise` is ``"given"``; else empty.
    standardise
        ``"train"``: from the site's training patients; ``"given"``; ``"none"``.
    """

    kind: Literal["series"] = "series"
    items: tuple[str, ...]
    horizon_hours: float
    mean: dict[str, float] = Field({})
    std: dict[str, float] = Field({})
    standardise: Standardise = "train"

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave scales that are learned out of the record: fingerprints are those of the time before declared ones."""
        found: dict[str, Any] = handler(self)
        return found if self.standardise != "train" else {k: v for k, v in found.items() if k not in SCALES}


def schema_of(name: str, section: SeriesSection, items: tuple[str, ...], horizon: float) -> SeriesSchema:
    """Return the schema of a section with these items."""
    return SeriesSchema(
        name=name,
        items=items,
        horizon_hours=horizon,
        mean=section.mean,
        std=section.std,
        standardise=section.standardise,
    )


def check_scales(problems: list[Problem], field: str, schema: SeriesSchema) -> None:
    """Require that given statistics are those of the items."""
    for item in schema.mean:
        if item not in schema.items:
            what = f"mean names {item!r}, which is not one of the items used"
            problems.append(Problem("cohort.toml", what, suggest(item, schema.items), column=f"{field}.mean"))
    lacking = [item for item in schema.items if item not in schema.mean]
    if schema.standardise == "given" and lacking:
        what = f'standardise = "given" without mean and std of {listed(lacking)}'
        problems.append(Problem("cohort.toml", what, "give them", column=field))
