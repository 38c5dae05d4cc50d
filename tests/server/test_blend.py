"""The share of hospitals' own scores in a prediction, chosen at the end of a run on validation patients."""

import pytest

from remind.config import Scalar
from remind.encoders.alone import learners
from remind.errors import UserError
from remind.fusion.around import BLEND
from remind.metrics.scores import scores
from remind.metrics.statistics import merge, total
from remind_server.outputs.tables import summary
from remind_server.rounds import examiner
from tests.builders.configs import settings
from tests.builders.method_runs import config, run

MIXES = {"s1": [1, 3, 7] * 40, "s2": [3, 5, 7] * 40}
BLENDED: dict[str, Scalar] = {
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "model.encoders.alone": "linear",
    "model.blend": 0.5,
    "evaluation.choose-blend": True,
}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(learners, "TREES", 8)


def log_loss(result, part="validation"):
    return scores(total(merge(getattr(result, part).values()))).log_loss


def test_the_share_with_the_least_log_loss_of_validation_patients_is_chosen(tmp_path, monkeypatch):
    found = run(tmp_path / "chosen", config(**BLENDED), MIXES)[0].result
    losses = {}
    for share in examiner.BLENDS:
        with monkeypatch.context() as only:
            only.setattr(examiner, "BLENDS", (share,))
            one = run(tmp_path / f"{share}", config(**BLENDED), MIXES)[0].result
        assert one.blend == one.tensors[BLEND].item() == share
        losses[share] = log_loss(one)
        if share == found.blend:
            assert log_loss(one, "test") == log_loss(found, "test"), "test patients are scored with the chosen share"
    assert len(set(losses.values())) == len(losses)
    assert found.blend == min(losses, key=losses.get)
    assert log_loss(found) == losses[found.blend]
    assert summary(found)["model"]["blend"] == found.blend


def test_without_being_asked_for_the_share_stays(tmp_path):
    found = run(tmp_path, config(**BLENDED | {"evaluation.choose-blend": False}), MIXES)[0].result
    assert found.blend is None
    assert found.tensors[BLEND].item() == 0.5


def test_what_a_choice_needs():
    lacking: tuple[dict[str, Scalar], ...] = ({"model.blend": 0.0}, {"data.validation": 0.0})
    for changes in lacking:
        with pytest.raises(UserError, match=r"evaluation\.choose-blend needs"):
            settings(BLENDED | changes)
