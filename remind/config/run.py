"""`run` and `start`: which run this is, and the model that it begins with."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config.section import NonNegative, Section

RUN_ID = r"|[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # it names files and folders


class RunSection(Section):
    """Which run this is."""

    id: Annotated[str, Field(pattern=f"^({RUN_ID})$")] = Field(
        "",
        description="identity of the run, which a resume keeps: it names folders here and at the sites; "
        "empty: Flower's run number",
    )
    resume: bool = Field(
        False, description="go on from the last checkpoint in the results folder; set by the commands that resume"
    )


class StartConfig(Section):
    """A trained model that the run begins with, instead of a new one; hospitals train their encoders anew."""

    model: str = Field("", description="the folder of `remind export`, or of a run; empty: begin with a new model")
    shared: Literal["frozen", "head", "tuned"] = Field(
        "frozen",
        description="what of that model trains: nothing (its head and routers stay too), its last layer, or all of it",
    )
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="learning rate of what trains of it, in units of the run's"
    )
    anchor: NonNegative = Field(1.0, description="decay of what trains of it towards its values at the beginning")

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if not self.model and self != StartConfig.model_construct():
            raise ValueError("shared, rate and anchor are of the model to begin with: name it with start.model")
        return self
