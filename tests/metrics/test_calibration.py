"""From logits to probabilities and decisions."""

import numpy as np
import pytest
from pydantic import ValidationError

from remind.errors import UserError
from remind.metrics.calibration import (
    Calibration,
    OperatingPoint,
    Scaling,
    read_calibration,
    write_calibration,
)

LOGITS_BC = np.array([[0.0, 2.0], [1.0, -1.0], [0.0, 0.5], [3.0, 0.0]])
GROUP_B = np.array([1, 1, 3, 3])
POINT = OperatingPoint(log_odds=-3.0, sensitivity=0.9, specificity=0.6, positives=40, negatives=60)


def of_two(**changes):
    content = {"method": "temperature", "classes": ("no", "yes"), "round": 3, "patients": 100}
    return Calibration(**content, scaling=Scaling.of_temperature(2.0, 2), **changes)


def test_a_temperature_divides_the_log_odds():
    p_BC = of_two().calibrated(LOGITS_BC, GROUP_B)
    np.testing.assert_allclose(p_BC[:, 1], 1 / (1 + np.exp(-(LOGITS_BC[:, 1] - LOGITS_BC[:, 0]) / 2)))
    np.testing.assert_allclose(p_BC.sum(axis=1), 1)
    log_p_BC = LOGITS_BC - np.logaddexp.reduce(LOGITS_BC, axis=1, keepdims=True)
    np.testing.assert_allclose(of_two().calibrated(log_p_BC, GROUP_B), p_BC)


def test_a_group_has_its_own_scaling_and_threshold():
    own = Scaling(weights=(1.0, 1.0), bias=(0.0, -2.0))
    calibration = of_two(group_scaling={3: own}, group_points={3: POINT})
    p_BC = calibration.calibrated(LOGITS_BC, GROUP_B)
    assert p_BC[2, 1] == pytest.approx(1 / (1 + np.exp(1.5)))
    assert calibration.decide(p_BC, GROUP_B).tolist() == [1, 0, 1, 0]
    assert of_two(point=POINT).decide(p_BC, GROUP_B).tolist() == [1, 1, 1, 0]


def test_without_anything_they_are_the_model_s_own():
    none = Calibration.none(("a", "b", "c"))
    p_BC = none.calibrated(np.array([[1.0, 2.0, 3.0]]), np.array([1]))
    np.testing.assert_allclose(p_BC, np.exp([[1, 2, 3]]) / np.exp([1, 2, 3]).sum())
    assert none.decide(p_BC, np.array([1])).tolist() == [2]


def test_certain_probabilities_can_be_decided_on():
    assert of_two(point=POINT).decide(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1, 1])).tolist() == [1, 0]
    assert POINT.threshold == pytest.approx(1 / (1 + np.exp(3)))


def test_on_disk_and_back(tmp_path):
    calibration = of_two(
        group_points={5: POINT}, wanted="sensitivity >= 0.9", group_scaling={5: Scaling.of_temperature(3, 2)}
    )
    write_calibration(tmp_path / "calibration.json", calibration)
    assert read_calibration(tmp_path / "calibration.json") == calibration
    assert (tmp_path / "calibration.json").stat().st_mode & 0o077 == 0
    assert read_calibration(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["", "{}", '{"method": "magic"}', "[1]", "\x00"])
def test_a_damaged_file_is_one_message(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(UserError, match=r"calibration\.json: cannot be read"):
        read_calibration(tmp_path / "calibration.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling": {"weights": [1.0], "bias": [0.0]}},
        {"scaling": {"weights": [1.0, 1.0], "bias": [0.0]}},
        {"scaling": {"weights": [1.0, 0.0], "bias": [0.0, 0.0]}},
        {"scaling": {"weights": [1.0, float("nan")], "bias": [0.0, 0.0]}},
        {"classes": ["a", "b", "c"], "scaling": {"weights": [1.0] * 3, "bias": [0.0] * 3}, "point": POINT.model_dump()},
        {"surplus": 1},
    ],
)
def test_what_does_not_fit_is_refused(changes):
    with pytest.raises(ValidationError):
        Calibration.model_validate(of_two().model_dump() | changes)
