"""`run` and `start`: the identity of the run, and its initial model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config.section import NonNegative, Section

RUN_ID = r"|[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # it names files and folders


class RunSection(Section):
    """Identity of the run."""

    id: Annotated[str, Field(pattern=f"^({RUN_ID})$")] = Field(
        "",
        description="identity of the run, unchanged by a resume: name of its folders here and at the sites; "
        "empty: Flower's run number",
    )
    resume: bool = Field(
        False, description="resume from the last checkpoint in the results folder; set by the commands that resume"
    )


Trained = Literal["frozen", "head", "tuned"]


class StartConfig(Section):
    """A trained model with which the run begins, instead of a new one; hospitals train new encoders."""

    model: str = Field("", description="the folder of `remind export`, or of a run; empty: a new model")
    shared: Trained = Field(
        "frozen",
        description="part of that model that trains: none (head and routers are frozen too), its last layer, or all",
    )
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="learning rate of that part, as a factor of the run's"
    )
    anchor: NonNegative = Field(1.0, description="decay of that part towards its initial values")

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if not self.model and self != StartConfig.model_construct():
            raise ValueError("shared, rate and anchor need an initial model: name it with start.model")
        return self
