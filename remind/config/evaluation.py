"""`evaluation`: calibration and operating point of the trained model."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from remind.config.section import Section

OPERATING_POINT = re.compile(r"youden|(?P<what>sensitivity|specificity) >= (?P<share>0?\.\d*[1-9]\d*)")

CalibrationMethod = Literal["none", "temperature", "vector"]


class EvaluationConfig(Section):
    """Calibration and operating point, fitted on validation patients before test patients are evaluated."""

    calibration: CalibrationMethod = Field(
        "temperature", description="none, one temperature, or (vector) a slope and a bias, with two classes only"
    )
    group_calibration: bool = Field(
        False, description="groups with 30 or more validation patients of each class get their own parameters"
    )
    operating_point: str = Field(
        "", description="'youden', 'sensitivity >= 0.9' or 'specificity >= 0.9'; empty: the most probable class"
    )

    choose_blend: bool = Field(
        False,
        description="choose model.blend at the end: the share with the least log-loss of validation patients",
    )

    @model_validator(mode="after")
    def _knows_its_operating_point(self) -> Self:
        if self.operating_point and not OPERATING_POINT.fullmatch(self.operating_point):
            raise ValueError(
                f"operating-point: {self.operating_point!r} is not one; write 'youden', 'sensitivity >= 0.9' or "
                "'specificity >= 0.9', the share between 0 and 1"
            )
        return self
