"""Every outcome: read as it is written; loss and statistics agree, merge exactly and pass the wire."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from remind.config import Config, SyntheticConfig
from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.cohort.schema import CohortSchema, difference
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.federation.message_statistics import Evaluation
from remind.metrics.packed import pack, unpack
from remind.metrics.scores import scores, scores_of
from remind.metrics.statistics import merge
from remind.outcomes.base import Seen, outcomes
from remind.training.outcome_check import check_outcome
from tests.builders.masks import cohort_of_masks, numbers_of

OTHERS = [name for name in outcomes() if name != "classes"]


@cache
def cohort_of(outcome: str, patients: int = 60):
    if outcome == "segmentation":
        return cohort_of_masks(patients)
    return generate(SyntheticConfig(patients=patients, outcome=outcome), 0)


def seen_of(cohort, loss_N=None):
    nothing = np.zeros(len(cohort))
    loss_N = nothing if loss_N is None else loss_N
    return Seen(cohort.groups_N, cohort.label_N, target_of(cohort), loss_N, nothing)


def target_of(cohort):
    return cohort.target_NT if cohort.masks is None else numbers_of(cohort)


def raw_of(cohort, seed=0):
    return np.random.default_rng(seed).standard_normal((len(cohort), cohort.schema.predicts.width))


@pytest.mark.parametrize("outcome", outcomes())
def test_a_cohort_is_read_as_it_was_written(outcome, tmp_path):
    written = cohort_of(outcome)
    write_cohort(written, tmp_path / "c")
    found = read_cohort(tmp_path / "c")
    assert found.schema.fingerprint == written.schema.fingerprint
    assert np.array_equal(found.label_N, written.label_N)
    if written.target_NT is not None:
        np.testing.assert_allclose(found.target_NT, written.target_NT)
    again = CohortSchema.model_validate(written.schema.describe())
    assert again == written.schema
    assert again.predicts.kind == outcome
    assert not check_cohort(tmp_path / "c").problems


def test_the_record_of_classes_is_what_it_was():
    assert "outcome" not in cohort_of("classes").schema.describe()


@pytest.mark.parametrize("outcome", OTHERS)
def test_hospitals_with_another_outcome_are_told_apart(outcome):
    ours, classes = cohort_of(outcome).schema, cohort_of("classes").schema
    assert ours.fingerprint != classes.fingerprint
    assert difference(ours, classes)[0] == f"outcome: {outcome} against classes"


@pytest.mark.parametrize("outcome", OTHERS)
def test_the_loss_that_trains_is_the_loss_that_is_measured(outcome):
    cohort = cohort_of(outcome)
    own, raw_NW = cohort.schema.predicts, raw_of(cohort)
    target = torch.from_numpy(cohort.label_N if target_of(cohort) is None else target_of(cohort))
    raw = torch.from_numpy(raw_NW).requires_grad_()
    loss_N = own.loss(raw, target)
    found = own.collect(seen_of(cohort), raw_NW)
    assert float(loss_N.sum().detach()) == pytest.approx(sum(one.log_loss_sum for one in found.values()))
    loss_N.sum().backward()
    assert bool(torch.isfinite(raw.grad).all())
    assert float(raw.grad.abs().sum()) > 0


@pytest.mark.parametrize("outcome", outcomes())
def test_sites_together_are_the_pooled_patients_and_pass_the_wire(outcome):
    cohort = cohort_of(outcome)
    own, raw_NW = cohort.schema.predicts, raw_of(cohort)
    pooled = own.collect(seen_of(cohort), raw_NW)
    parts = [
        {
            k: Evaluation.model_validate_json(Evaluation.of(one).model_dump_json()).value()
            for k, one in own.collect(seen_of(cohort.take(rows)), raw_NW[rows]).items()
        }
        for rows in np.array_split(np.arange(len(cohort)), 3)
    ]
    together = merge(parts)
    for k, one in pooled.items():
        assert not own.problem(together[k])
        for name in scores_of(outcome):
            assert getattr(scores(together[k]), name) == pytest.approx(getattr(scores(one), name), abs=1e-9), name
        assert scores(unpack(pack(one))) == scores(one)


@pytest.mark.parametrize("outcome", OTHERS)
def test_statistics_of_another_outcome_or_that_nobody_can_have_are_named(outcome):
    cohort = cohort_of(outcome)
    own = cohort.schema.predicts
    one = next(iter(own.collect(seen_of(cohort), raw_of(cohort)).values()))
    assert "of the outcome" in own.problem(replace(one, outcome="classes"))
    if own.sums:
        assert own.problem(replace(one, sums_S=one.sums_S[1:]))
        assert own.problem(replace(one, sums_S=one.sums_S * 10))
    elif not own.by_class:
        assert own.problem(replace(one, scores=one.scores + one.scores))


@pytest.mark.parametrize("outcome", OTHERS)
def test_settings_that_need_classes_are_refused_together(outcome):
    own = cohort_of(outcome).schema.predicts
    settings = {
        "method.objective": "logit_adjustment",
        "evaluation.operating-point": "youden",
        "train.select": "overall",
    }
    with pytest.raises(UserError, match=r"logit_adjustment(.|\n)*operating-point"):
        check_outcome(own, Config.from_flat(settings))
    of_others = {"train.select": "overall", "train.select-score": "mae" if own.by_class else "macro_f1"}
    with pytest.raises(UserError, match="select-score"):
        check_outcome(own, Config.from_flat(of_others))
    check_outcome(own, Config())
