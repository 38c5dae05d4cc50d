"""Misspelt names are answered with the name that was probably meant."""

import pytest

from remind.config import Config
from remind.errors import UserError
from remind.suggest import did_you_mean


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train.local-step", "train.local-steps"),
        ("train.local_steps", "train.local-steps"),
        ("lr", "train.lr"),
        ("optimiser", "train.optimizer"),
        ("method.gamma", "dro.gamma"),
        ("Train.LR", "train.lr"),
        ("model.image-weights", "model.encoders.image-weights"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_right_one(typed, meant):
    assert did_you_mean(typed, Config().flat()) == f"; did you mean {meant!r}?"


def test_nothing_near_suggests_nothing():
    assert did_you_mean("qqqqq", Config().flat()) == ""
    assert did_you_mean("x", []) == ""


def test_the_config_suggests():
    with pytest.raises(UserError, match=r"train\.local-step: no such key; did you mean 'train\.local-steps'\?"):
        Config.from_flat({"train.local-step": 3})
    with pytest.raises(UserError, match=r"no tensorbord; did you mean 'tensorboard'\?"):
        Config.from_flat({"sinks": "tensorbord"})
