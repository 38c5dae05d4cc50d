"""A prediction for a run's test patients gives the numbers of the run's own test table."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.schema import CohortSchema
from remind.encoders.alone import crossfit
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.metrics.calibration import CALIBRATION, Calibration, OperatingPoint, Scaling, write_calibration
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics, collect
from remind.objectives.base import registry as objectives
from remind.prediction.bundle import Bundle, of_part
from remind.prediction.predictor import Predictor, load
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import NAMES, cohort, schema
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.predicting import of_test, train
from tests.builders.sites import site


def statistics(found, label_N) -> dict[int, GroupStatistics]:
    nothing = np.zeros(len(found))
    return collect(found.group_N, label_N, nothing, found.log_p_NC, np.nan_to_num(found.open_N))


def compare(results, recorder, patients):
    for name, of in patients.items():
        test = of_test(of)
        found = statistics(load(results, name).outputs(test), test.label_N)
        expected = recorder.result.test[name]
        assert found.keys() == expected.keys()
        for k, own in expected.items():
            assert found[k].log_loss_sum == own.log_loss_sum, "to the last digit"
            assert found[k].open_sum == own.open_sum
            assert scores(found[k]).auroc == scores(own).auroc
            assert scores(found[k]).accuracy == scores(own).accuracy


@pytest.mark.parametrize("fusion", [m.name for m in fusions.methods()])
def test_every_fusion_model_predicts_what_its_test_table_says(fusion, tmp_path):
    compare(*train(tmp_path, **{"method.fusion": fusion}))


@pytest.mark.parametrize("rule", [m.name for m in rules.methods() if not m.build.pooled])
def test_every_rule_predicts_with_what_the_site_keeps(rule, tmp_path):
    build = next(m.build for m in rules.methods() if m.name == rule)
    changes = {"method.rule": rule, "method.objective": "erm"}
    compare(*train(tmp_path, **changes, **({} if "local" in build.encoders else {"federation.encoders": "shared"})))


@pytest.mark.parametrize(
    "changes",
    [
        {"model.encoders.alone": "linear", "federation.encoders": "shared"},
        {
            "model.encoders.alone": "linear",
            "model.linear": True,
            "model.blend": 0.5,
            "evaluation.choose-blend": True,
            "train.select": "overall",
        },
        {
            "model.encoders.alone": "linear",
            "model.projection": True,
            "method.fusion": "remind(compose = true, rank = 1)",
        },
        {
            "model.encoders.table": "features",
            "model.encoders.series": "set",
            "model.encoders.numbers": "quantile",
            "model.encoders.periodic": 2,
        },
    ],
)
def test_options_of_the_model_are_in_what_a_hospital_keeps(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(crossfit, "LEAST", 2)  # so few patients are enough here
    results, recorder, patients = train(tmp_path, **changes)
    if "model.encoders.alone" in changes:
        part = load(results, "north").bundle.part("north")
        assert len(part.tensors["encoders.@alone.content_T"]) > 500
        assert not load(results, "north").bundle.serves_everybody
    compare(results, recorder, patients)


@pytest.mark.parametrize("objective", [m.name for m in objectives.methods()])
def test_every_objective(objective, tmp_path):
    compare(*train(tmp_path, **{"method.objective": objective, "method.rule": "lg"}))


@pytest.mark.parametrize("routing", [0, 2])
def test_the_chosen_round_with_the_encoders_that_belong_to_it(routing, tmp_path):
    rounds = {"train.warmup-rounds": 3, "train.routing-rounds": routing}
    results, recorder, patients = train(tmp_path, **rounds, **{"train.select": "overall"})
    bundle = load(results, "north").bundle
    assert bundle.round == bundle.part("north").round < 3 + routing, "an early one is best, by this seed"
    assert bundle.routing == bundle.part("north").routing
    compare(results, recorder, patients)


def test_ditto_predicts_with_the_personal_model_its_shared_encoders_included(tmp_path):
    compare(*train(tmp_path, **{"method.rule": "ditto", "federation.encoders": "shared"}))


def test_fedbn_predicts_with_each_hospitals_norms_in_encoders_that_are_shared(tmp_path):
    changes = {"federation.encoders": "shared", "model.encoders.table": "features"}
    results, recorder, patients = train(tmp_path, **{"method.rule": "fedbn"}, **changes)
    compare(results, recorder, patients)


@pytest.mark.parametrize(
    ("rule", "serves"),
    [("fedavg", True), ("ditto", True), ("fedbn", False), ("fedrep", False), ("not installed", True)],
)
def test_a_model_of_which_hospitals_keep_a_part_does_not_serve_everybody(rule, serves):
    given = schema(series=())
    fixed = [table.model_copy(update={"standardise": "given"}) for table in given.modalities]
    config = settings({"method.rule": rule, "federation.encoders": "shared"})
    whole = given.model_copy(update={"modalities": fixed})
    bundle = Bundle("here", config, whole, 1, {1: 9}, {1: 1.0}, {"x": torch.zeros(1)})
    assert bundle.serves_everybody == serves
    own = config.model_copy(update={"model": config.model.model_copy(update={"baseline": "hospital"})})
    assert not replace(bundle, config=own).serves_everybody


def test_a_retrieving_model_with_a_personal_head(tmp_path):
    compare(*train(tmp_path, **{"method.fusion": "moe_retriever", "method.rule": "fedrep"}))


def test_the_table_says_group_counts_gate_and_reasons(tmp_path):
    results, recorder, patients = train(tmp_path)
    (results / CALIBRATION).unlink(missing_ok=True)
    table = load(results, "north", least=10).outputs(of_test(patients["north"])).frame()
    assert list(table.columns) == [
        "patient_id",
        "site",
        "status",
        "group",
        "p_c0",
        "p_c1",
        "calibrated_c0",
        "calibrated_c1",
        "decision",
        "train_n",
        "gate_open",
        "trusted",
        "reasons",
    ]
    counts = recorder.start.counts
    assert dict(zip(table["group"], table["train_n"], strict=True)) == {
        "a": counts[1],
        "a+b": counts[3],
        "a+b+c": counts[7],
    }
    assert np.allclose(table["p_c0"] + table["p_c1"], 1)
    assert table["gate_open"].all(), "gate = always"
    assert not table["trusted"].any()
    assert table["reasons"].str.contains("uncalibrated").all()
    few = table["reasons"].str.contains("few training patients")
    assert (few == (table["train_n"] < 10)).all()


def test_a_calibration_gives_probabilities_decisions_and_trust(tmp_path):
    results, _, patients = train(tmp_path)
    test = of_test(patients["north"])
    point = OperatingPoint(log_odds=5.0, sensitivity=0.1, specificity=1.0, positives=5, negatives=5)
    calibration = Calibration(
        method="vector",
        classes=("c0", "c1"),
        round=2,
        patients=10,
        scaling=Scaling(weights=(2.0, 2.0), bias=(0.0, 0.5)),
        group_scaling={7: Scaling(weights=(1.0, 1.0), bias=(0.0, 9.0))},
        wanted="specificity >= 0.9",
        point=point,
    )
    write_calibration(results / CALIBRATION, calibration)
    found = load(results, "north", least=1).outputs(test)
    expected = calibration.calibrated(found.log_p_NC, found.group_N)
    assert np.array_equal(found.calibrated_NC, expected)
    assert found.decision_N.tolist() == (found.group_N == 7).tolist(), "by the point: log-odds of at least 5"
    table = found.frame()
    plain = [not any("far outside" in reason for reason in reasons) for reasons in found.reasons_N]
    assert table["trusted"].tolist() == plain
    assert any(plain)


def test_a_combination_of_other_hospitals_gets_their_routing(tmp_path):
    """Only south has a + c, and north's new patient has it: Φ_k of the run, not the mean of north's own."""
    results, recorder, patients = train(tmp_path)
    south = patients["south"]
    new = south.take(south.groups_N == 5)
    assert 5 not in set(patients["north"].groups_N.tolist())
    run = load(results, "north")
    found = run.outputs(new)
    assert set(found.train_N.tolist()) == {recorder.start.counts[5]}
    alone = Predictor(of_part(run.bundle.part("north"), "north"), "north").outputs(new)
    assert set(alone.train_N.tolist()) == {0}, "a hospital is told of its own combinations only"
    assert not np.array_equal(found.log_p_NC, alone.log_p_NC)


def test_shared_encoders_without_statistics_of_a_site_need_no_site(tmp_path):
    given = CohortSchema(
        name="given",
        classes=("c0", "c1"),
        modalities=tuple(
            TableSchema(name=n, columns=("p", "q", "r"), categories={"q": ("lo", "hi")}, standardise="none")
            for n in NAMES
        ),
    )
    config = settings({"federation.encoders": "shared"})
    folder = RunFolder(tmp_path / "run")
    sites = [site(n, cohort([1, 3, 7] * 4, i, given), config, tmp_path / "kept") for i, n in enumerate("xy")]
    FedRemind(config, [folder]).run(SiteGrid(sites))
    new = cohort([1, 3, 7] * 2, 9, given)
    found = load(tmp_path / "run").outputs(new)
    assert set(found.site_N.tolist()) == {""}
    assert (found.status_N == "ok").all()
    part = sites[0].store.model()
    own = Predictor(of_part(part, "x"), "x").outputs(new)
    assert np.array_equal(found.log_p_NC, own.log_p_NC), "the encoders are the same everywhere"


LIGHT = """
import sys
before = set(sys.modules)
import remind
assert not {'torch', 'numpy', 'pandas', 'flwr'} & set(sys.modules), 'import remind costs nothing'
import torch
of_torch = set(sys.modules)
table = remind.load(sys.argv[1], 'north').predict({'a': [{'patient_id': '1', 'p': 1, 'q': 'lo', 'r': 0}]})
assert table['status'].tolist() == ['ok']
training = ('local', 'work', 'sampling', 'schedule', 'gradients')
heavy = ('flwr', 'remind_', 'remind.federation.rules', 'remind.objectives', 'timm', 'transformers', 'torchvision')
heavy += ('scipy', 'sklearn', 'lightgbm', 'remind.metrics.calibration_fit')
names = (*heavy, *(f'remind.training.{name}' for name in training))
found = [m for m in set(sys.modules) - before if m.startswith(names)]
assert not found, found
workers = [m for m in set(sys.modules) - of_torch if m.startswith(('torch.optim', 'torch.utils.data'))]
assert not workers, workers
"""


def test_prediction_imports_no_training_and_no_flower(tmp_path):
    results, _, _ = train(tmp_path)
    command = [sys.executable, "-c", LIGHT, str(results)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
