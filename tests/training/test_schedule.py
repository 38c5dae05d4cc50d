"""Learning rates by hand."""

import pytest

from remind.config import TrainConfig
from remind.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("step", [0.4, 0.4, 0.1, 0.1]),
        ("cosine", [0.4, 0.02 + 0.38 * (2 + 2**0.5) / 4, 0.21, 0.02 + 0.38 * (2 - 2**0.5) / 4]),
    ],
)
def test_values(schedule, expected):
    config = TrainConfig(schedule=schedule, lr=0.4, routing_lr=0.8, step_rounds=2, step_factor=0.25)
    assert [learning_rate(config, 1, t, 4) for t in range(4)] == pytest.approx(expected)
    assert [learning_rate(config, 2, t, 4) for t in range(4)] == pytest.approx([2 * lr for lr in expected])


def test_a_stage_of_one_round_trains_at_the_full_rate():
    assert learning_rate(TrainConfig(schedule="cosine", lr=0.4), 1, 0, 1) == pytest.approx(0.4)
