"""Misspelt names are answered with the name that was probably meant."""

import pytest

from remind import groups
from remind.config import Config
from remind.data.cohort.problems import suggest
from remind.errors import UserError
from remind.methods import methods_of
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
        ("train.learning-rate", "train.lr"),
        ("learning_rate", "train.lr"),
        ("train.batch-size", "train.batch"),
        ("model.image-weights", "model.encoders.image-weights"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_right_one(typed, meant):
    assert did_you_mean(typed, Config().flat()) == f"; did you mean {meant!r}?"


def test_nothing_near_suggests_nothing():
    assert did_you_mean("qqqqq", Config().flat()) == ""
    assert did_you_mean("x", []) == ""
    assert did_you_mean("train.frobnicate", Config().flat()) == "", "the section alone is not similar"


def test_names_of_other_things_suggest():
    with pytest.raises(UserError, match="did you mean 'fundus'"):
        groups.parse("fundsu+table", ("fundus", "table"))
    with pytest.raises(UserError, match="did you mean 'proportional'"):
        Config.from_flat({"dro.initial": "proportionl"})
    with pytest.raises(UserError, match=r"did you mean 'groupdro'"):
        methods_of(Config.from_flat({"method.objective": "groupdr"}))
    assert suggest("agee", ["age", "sex"]) == "did you mean 'age'?"
    assert suggest("zzz", ["age", "sex"]) == "there are age, sex"


def test_the_config_suggests():
    with pytest.raises(UserError, match=r"train\.local-step: no such key; did you mean 'train\.local-steps'\?"):
        Config.from_flat({"train.local-step": 3})
    with pytest.raises(UserError, match=r"no tensorbord; did you mean 'tensorboard'\?"):
        Config.from_flat({"sinks": "tensorbord"})
