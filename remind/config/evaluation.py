"""`evaluation`: what is made of the trained model."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from remind.config.section import Section

OPERATING_POINT = re.compile(r"youden|(?P<what>sensitivity|specificity) >= (?P<share>0?\.\d*[1-9]\d*)")


class EvaluationConfig(Section):
    """What is made of the trained model on validation patients, before test patients are looked at."""

    calibration: Literal["none", "temperature", "vector"] = Field(
        "temperature", description="of the probabilities: one temperature, or a slope and a bias; two classes only"
    )
    group_calibration: bool = Field(
        False, description="groups of 30 validation patients or more of each class get parameters of their own"
    )
    operating_point: str = Field(
        "", description="'youden', 'sensitivity >= 0.9' or 'specificity >= 0.9'; empty: the likeliest class is decided"
    )

    choose_blend: bool = Field(
        False,
        description="choose model.blend at the end: the share with the least log-loss of validation patients",
    )

    @model_validator(mode="after")
    def _knows_its_operating_point(self) -> Self:
        if self.operating_point and not OPERATING_POINT.fullmatch(self.operating_point):
            raise ValueError(
                f"operating-point: {self.operating_point!r} is none; write 'youden', 'sensitivity >= 0.9' or "
                "'specificity >= 0.9', the share between 0 and 1"
            )
        return self
