"""Studies of every outcome: yardsticks that fit, the outcome's own score and its direction, refusals."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from remind.config import Config
from remind.data.features import Columns, Features
from remind.data.synthetic.generate import generate
from remind.errors import UserError
from remind.metrics.scores import EVERY, scores_of
from remind.outcomes.base import outcomes
from remind_server.simulation.flwr_pairs import write_pairs
from remind_studies import bench as module
from remind_studies.bench import bench
from remind_studies.cells.pool import work
from remind_studies.report.view import views
from remind_studies.study import registry
from remind_studies.yardsticks.base import NUMBER, Model, Yardstick, mean_loss
from remind_studies.yardsticks.base import registry as yardsticks
from remind_studies.yardsticks.tasks import Patients, _classes, _sample, answers
from tests.builders.configs import ROUNDS, SIZE
from tests.builders.masks import drawn
from tests.builders.studies import SMALL
from tests.builders.study_reports import study as study_results

MASKS = "segmentation"  # yardsticks cannot predict it
OTHERS = [name for name in outcomes() if name not in ("classes", MASKS)]
COMMON = SMALL | {"synthetic.patients": 240}


def patients(kind: str, number: int = 150):
    """Patients of a synthetic cohort with two noisy columns that tell of the outcome."""
    config = Config.from_flat({**SIZE, **ROUNDS, "synthetic.patients": number, "synthetic.outcome": kind})
    cohort = generate(config.synthetic, 0)
    rng = np.random.default_rng(1)
    told_N = cohort.label_N if cohort.target_NT is None else np.nan_to_num(cohort.target_NT).sum(axis=1)
    told_N = (told_N - told_N.mean()) / told_N.std() + rng.normal(scale=0.3, size=len(cohort))
    values_NF = np.stack([told_N, rng.normal(size=len(cohort))], axis=1)
    features = Features(values_NF, Columns(("told", "noise"), (0, 0)))
    return cohort.schema.predicts, Patients(features, cohort.label_N, cohort.target_NT)


class Fixed(Model):
    """Answers that depend on the features alone."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def predict(self, features):
        told_NC = np.sin(features.values_NF.sum(axis=1))[:, None] * np.arange(1, max(self.classes, 1) + 1)
        if self.classes == NUMBER:
            return told_NC
        return np.exp(told_NC) / np.exp(told_NC).sum(axis=1, keepdims=True)


class Guess(Yardstick):
    """Learns nothing."""

    federated = False

    def models(self, hospitals, classes):
        return [Fixed(classes) for _ in hospitals]


@pytest.mark.parametrize("kind", [name for name in outcomes() if name != MASKS])
def test_the_loss_of_the_questions_is_that_of_the_outcome(kind):
    """What yardsticks minimise is the likelihood that the outcome's models are trained with."""
    outcome, own = patients(kind)
    (found,) = answers(Guess(yardsticks.choose("logistic")[1]), outcome, [(own, own)])
    output_NW = found.outputs(own.features)
    asked = [_sample(outcome, own, question) for question in range(len(found.models))]
    classes = _classes(outcome)
    losses = [
        mean_loss(m.predict(s.features), s.label_N, classes) * len(s) for m, s in zip(found.models, asked, strict=True)
    ]
    if outcome.by_class:
        expected = -output_NW[np.arange(len(own.label_N)), own.label_N].sum()
    else:
        expected = outcome.loss(torch.from_numpy(output_NW), torch.from_numpy(own.target_NT)).sum().item()
    if kind == "multilabel":  # the outcome's loss is a mean over the labels, all of which are known here
        expected *= outcome.width
    assert sum(losses) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    "name",
    ["boosting(rounds = 30)", "exchanged_trees(rounds = 30)", "logistic", "xgb_bagging(rounds = 30)"],
)
def test_yardsticks_learn_every_outcome(kind, name):
    outcome, own = patients(kind, 240)
    half = np.arange(len(own.label_N)) % 2 == 0

    def part(mask):
        target_NT = None if own.target_NT is None else own.target_NT[mask]
        return Patients(own.features.take(mask), own.label_N[mask], target_NT)

    train, test = part(half), part(~half)
    method, options = yardsticks.choose(name)
    yardstick = method.build(options)
    own_answers, _ = answers(yardstick, outcome, [(train, test), (test, train)])

    def loss(output_NW):
        if outcome.by_class:
            return -output_NW[np.arange(len(test.label_N)), test.label_N].mean()
        return outcome.loss(torch.from_numpy(output_NW), torch.from_numpy(test.target_NT)).mean().item()

    blind = part(half)
    blind.features.values_NF[:] = 0
    (nothing, _) = answers(yardstick, outcome, [(blind, test), (blind, blind)])
    zeros = Features(np.zeros_like(test.features.values_NF), test.features.columns)
    assert loss(own_answers.outputs(test.features)) < 0.95 * loss(nothing.outputs(zeros))


def test_rows_of_a_patient_share_a_fold():
    from remind_studies.yardsticks.base import folds

    outcome, own = patients("survival")
    asked = _sample(outcome, own, 0)
    fold_R = folds(asked, 5)
    assert asked.person_N is not None
    for person in np.unique(asked.person_N):
        assert len(set(fold_R[asked.person_N == person].tolist())) == 1
    assert len(set(fold_R.tolist())) == 5


@pytest.fixture
def in_this_process(monkeypatch):
    """Run cells one after the other here: processes take longer to start than these runs to train."""

    def run_cells(cells, names, folder, jobs, say):
        found = {key: work(cell, key, folder.path) for key, cell in cells.items() if not folder.has(key)}
        return {key: reason for key, reason in found.items() if reason}

    monkeypatch.setattr(module, "run_cells", run_cells)


CHOICES: dict[str, Any] = {
    "cohort": "synthetic",
    "methods": "softmoe, remind, xgb_bagging(rounds = 3)",
    "seeds": "2",
    "clients": 2,
    "metric": "",
    "tune": 0,
    "anchors": False,
    "jobs": 2,
    "command": "remind bench compare",
}


def study(folder, name, kind, **changes):
    said: list[str] = []
    settings = COMMON | {"synthetic.outcome": kind}
    bench(name, **(CHOICES | {"run_config": write_pairs(settings), "out": folder, "say": said.append} | changes))
    return json.loads((folder / "results.json").read_text()), (folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_a_comparison_of_every_outcome(kind, tmp_path, in_this_process):
    found, page = study(tmp_path, "compare", kind, methods="softmoe, remind, xgb_bagging(rounds = 3), boosting")
    outcome = outcomes()[kind]
    assert found["metric"] == outcome.chief
    (panel,) = found["panels"]
    shown = {one["metric"] for one in panel["summaries"]}
    assert shown == set(scores_of(kind, ()))
    overall = {
        one["arm"]: one["mean"]
        for one in panel["summaries"]
        if (one["measure"], one["metric"]) == ("overall", found["metric"])
    }
    assert all(value is not None for value in overall.values()), "every arm has the outcome's own score"
    best = next(o for o in panel["best"] if (o["measure"], o["metric"]) == ("overall", found["metric"]))
    anchors = {arm["name"] for arm in panel["arms"] if arm["anchor"]}
    ranked = {arm: value for arm, value in overall.items() if arm not in anchors}
    choose = min if EVERY[found["metric"]].lower_is_better else max
    assert best["first"] == choose(ranked, key=lambda arm: ranked[arm])
    assert any(group["ranked"] for group in panel["groups"])
    assert EVERY[found["metric"]].title in page
    if kind == "regression":
        assert "mean absolute error (points)" in page
        assert "Lower is better." in page
        assert found["margin"] == pytest.approx(0.05), "half a hundredth of the declared scale"
        assert "±0.05 points" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ablate",
        "extreme",
        "transfer",
        "unseen(least = 10)",
        "sensitivity",
        "cost",
        "joining(sites = '2')",
        "federation(sites = '2', alpha = '1', participation = '1')",
    ],
)
def test_other_studies_of_a_number(name, tmp_path, in_this_process):
    method = registry.choose(name)[0].build
    methods = method.methods if name.startswith("joining") else "remind"
    found, _ = study(tmp_path, name, "regression", methods=methods, seeds="1")
    assert found["panels"]
    assert not found["missing"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "calibration"}, "for classes only: calibrated are probabilities"),
        ({"name": "privacy"}, "for classes only: what runs with a guarantee"),
        ({"name": "adapt"}, "for classes only: a hospital adapts models of classes"),
        ({"metric": "auroc"}, "--metric: auroc is none of a number; use one of ccc, log_loss, mae, r2, rmse"),
        ({"metric": "loss"}, "--metric: loss is the mean of the objective's own loss"),
        ({"methods": "remind, clusmfl"}, "--methods: clusmfl: .*method.fusion = 'clusmfl'"),
        ({"methods": "remind, logit_adjustment"}, "--methods: logit_adjustment: "),
    ],
)
def test_what_needs_classes_is_refused_before_anything_runs(changes, says, tmp_path):
    with pytest.raises(UserError, match=r"(?s)" + says):
        study(tmp_path / "out", changes.pop("name", "compare"), "regression", **changes)
    assert not list(tmp_path.rglob("*.json"))


def test_a_score_of_a_region_that_there_is_not_is_refused_and_others_are_said_by_name():
    masks, _ = drawn(1, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"dice_4 is none of a mask of .*the regions whole, core, enhancing"):
        module._metric("dice_4", masks)
    assert module._metric("dice_3", masks) == "dice_3"
    of_classes = study_results()
    cohort = of_classes.cohort.model_copy(update={"outcome": masks.kind, "parts": masks.parts})
    (view,) = views(of_classes.model_copy(update={"cohort": cohort}))
    assert view.name_of("dice_2") == "Dice of region core"
