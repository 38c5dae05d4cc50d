"""The attack on groups of real models: it succeeds on what is sent without protection, and not through noise."""

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from remind.config import Scalar
from remind.data.cohort.cohort import TRAIN
from remind.errors import UserError
from remind.federation.blocks import unpack
from remind.privacy.attack import inner_product, judge, least_squares
from remind.training.private.draws import poisson_steps
from remind.training.private.gradients import Clipping, PrivateGradients
from remind_client.engine.private_steps import simulated_secret
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_studies.cells.cell import Cell
from remind_studies.cells.leakage import attacked
from remind_studies.cells.observed import EXACT, VIEWS, Hospital, Target
from remind_studies.cells.runners import run
from remind_studies.studies.leakage import CHOSEN
from remind_studies.studies.leakage import VIEWS as ROWS
from remind_studies.studies.private import guaranteed
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.private_sites import given_scale, question
from tests.builders.sites import CPU
from tests.builders.studies import LARGER, plan, request

GROUP, CANDIDATES, OTHERS = 3, 80, 30
SENT: dict[str, Scalar] = {  # a model with more numbers of a group's own than there are candidates
    **CHOSEN,
    "model.width": 32,
    "model.experts": 8,
    "train.warmup-rounds": 0,
    "train.routing-rounds": 4,
    "train.local-steps": 10,
}
PATIENTS = cohort([GROUP] * CANDIDATES + [1, 7, 5] * (OTHERS // 3), of=given_scale(), split_N=[TRAIN] * 110)
MEMBERS, BESIDE = np.arange(CANDIDATES), np.arange(CANDIDATES, CANDIDATES + OTHERS)


def target(changes=None) -> Target:
    return Target(settings(SENT | (changes or {})), PATIENTS, GROUP)


def found(view, size, changes=None, draws=4):
    results = attacked(VIEWS[view](target(changes)), MEMBERS, BESIDE, size, draws, 0)
    return fmean(one.named for one in results), fmean(one.ranked for one in results)


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_one_gradient_tells_who_is_in_it(size):
    assert found("gradient", size) == (1, 1)


def test_a_minimum_count_stops_small_groups_and_no_others():
    assert found("minimum", 9)[0] == pytest.approx(9 / CANDIDATES)
    assert found("minimum", 10) == (1, 1)


def test_a_sum_over_hospitals_still_tells_who():
    assert found("sum", 3) == (1, 1)


def test_a_round_of_local_steps_blurs_and_does_not_hide():
    named, ranked = found("round", 1, {"train.batch": 0}, draws=8)
    assert named > 10 / CANDIDATES
    assert ranked > 0.9


@pytest.mark.parametrize("size", [1, 5, 10])
def test_noise_of_epsilon_8_leaves_guessing(size):
    named, ranked = found("noise", size, guaranteed("site", 8.0) | {"train.batch": 0}, draws=20)
    assert named < size / CANDIDATES + 0.2
    assert ranked < 0.85


def test_more_noise_hides_more():
    loud, quiet = ({**guaranteed("site", 8.0), "privacy.noise": noise} for noise in (0.001, 100.0))
    assert found("noise", 1, loud, draws=20)[1] > 0.85
    assert found("noise", 1, quiet, draws=30)[1] == pytest.approx(0.5, abs=0.1)


def test_what_the_coordinator_computes_is_what_the_hospital_does():
    of = target()
    plain = of.plain(MEMBERS[:7], 0.5)
    np.testing.assert_allclose(plain, 0.5 * of.gradients(MEMBERS[:7]).sum(axis=0), rtol=1e-4, atol=1e-7)
    moved = of.update([])
    assert not moved.any()


def test_the_noisy_view_is_the_sum_of_the_steps_of_a_hospital():
    """Without noise, to compare: it comes from another place of the stream, as a step draws it for all parameters."""
    of, clip, rate = target(), 0.05, 0.3
    index_N = np.sort(np.concatenate([MEMBERS[:20], BESIDE]))
    group_N = PATIENTS.groups_N[index_N]
    steps = poisson_steps(index_N, group_N, dict.fromkeys([1, 3, 5, 7], 1.0), rate, 5, bytes(32), "q")
    how = Clipping(clip, 0.0, 1.0)
    private, expected = PrivateGradients(of.work.model, how, bytes(32), "q"), []
    for step in steps:
        of.work.model.zero_grad(set_to_none=True)
        with private.recording():
            private.compute(of.work.objective, of.input(step))
        expected.append(np.concatenate([p.grad.double().numpy().ravel() for p in of.parameters()]))
    norms = np.linalg.norm(of.gradients(index_N, EXACT), axis=1)
    assert norms.max() > clip, "somebody is clipped"
    np.testing.assert_allclose(of.noisy(steps, how, "q"), np.sum(expected, axis=0), rtol=1e-4, atol=clip / 1000)


# A hospital's own answer


ONE_STEP: dict[str, Scalar] = {
    "train.local-steps": 1,
    "train.routing-rounds": 1,
    "train.batch": 0,
    "train.optimizer": "sgd",
    "train.weight-decay": 0.0,
    "train.routing-lr": 1.0,
    "train.residual-rate": 1.0,
}


def answered(folder: Path, members, changes=None):
    """What a hospital with these members answers to a round of one step, and each candidate's gradient."""
    config = settings(SENT | ONE_STEP | (changes or {}))
    patients = PATIENTS.take(np.sort(np.concatenate([members, BESIDE])))
    secret = simulated_secret(int(members.sum()), "s")
    site = Site("s", patients, config, SiteStore(folder), CPU, secret=secret)
    task, buffer = question(site, 0)
    report, reply = site.train(task, buffer)
    sent, back = unpack(task.index, buffer), unpack(report.index, reply)
    of = Target(config, PATIENTS, GROUP)
    with torch.no_grad():
        for name, parameter in of.work.model.named_parameters():
            if name in sent:
                parameter.copy_(sent[name])
    seen_P = np.concatenate([(sent[name] - back[name]).double().numpy().ravel() for name in of.names])
    return seen_P, of


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_the_answer_of_a_hospital_gives_its_patients_away(tmp_path, size):
    members = np.random.default_rng(size).permutation(MEMBERS)[:size]
    seen_P, of = answered(tmp_path, members)
    assert judge(least_squares(seen_P, of.gradients(MEMBERS)), np.isin(MEMBERS, members)).named == 1


def test_the_answer_of_a_hospital_with_a_guarantee_does_not(tmp_path):
    changes = {**guaranteed("site", 8.0), "privacy.counts-noise": 2.0}  # with 5 the group is not even said
    results = []
    for draw in range(8):
        members = np.random.default_rng(draw).permutation(MEMBERS)[:10]
        seen_P, of = answered(tmp_path / str(draw), members, changes)
        results.append(
            judge(inner_product(seen_P, of.gradients(MEMBERS, of.config.privacy.clip)), np.isin(MEMBERS, members))
        )
    assert fmean(one.named for one in results) < 10 / CANDIDATES + 0.15


# The study


def test_rows_and_whom_it_looks_for():
    of = request(common=LARGER | {"synthetic.standardise": "given", "synthetic.kinds": "table, table, table, table"})
    (panel,) = plan("leakage(sizes = '1, 3', epsilon = '8, 1')", of)
    assert [arm.name for arm in panel.arms] == [*ROWS.values(), "ε = 8", "ε = 1"]
    cells = {arm.name: panel.cell(arm, of.common, 0) for arm in panel.arms}
    assert cells["ε = 1"].config.privacy.epsilon == 1
    assert cells["one gradient"].config.privacy.mode == "none"
    assert panel.options["group"] not in (0, 15)
    with pytest.raises(UserError, match="group 'nose': 'nose' is not a modality"):
        plan("leakage(group = 'nose')", of)
    with pytest.raises(UserError, match="sizes: 0 is not a number of patients"):
        plan("leakage(sizes = '0')", of)


def test_a_cohort_that_is_standardised_by_its_patients_goes_without_guarantee():
    with pytest.raises(UserError, match=r"standardised by each hospital.s own patients: declare standardise"):
        plan("leakage", request())
    (panel,) = plan("leakage(epsilon = '')", request())
    assert [arm.name for arm in panel.arms] == list(ROWS.values())


def test_a_cell_says_what_was_found(tmp_path):
    of = request(common=LARGER)
    (panel,) = plan("leakage(epsilon = '', sizes = '1, 4, 5000', draws = 1)", of)
    arms = {arm.name: arm for arm in panel.arms}
    result = run(panel.cell(arms["guessing"], of.common, 0), tmp_path)
    number = result.facts["candidates"]
    assert result.facts["named, of 4"] == pytest.approx(4 / number)
    assert set(result.facts) == {f"{what}, of {n}" for what in ("named", "ranked") for n in (1, 4)} | {"candidates"}
    found = run(panel.cell(arms["one gradient"], of.common, 0), tmp_path).facts
    assert found["ranked, of 1"] > 0.9
    many = Cell.of(
        {**of.common, **arms["guessing"].settings, "seed": 0},
        of.clients,
        {**panel.options, "view": "guessing", "sizes": "5000"},
        "leakage",
    )
    with pytest.raises(UserError, match="sizes must be smaller"):
        run(many, tmp_path)


def test_a_hospital_is_its_members_and_others():
    assert Hospital(np.array([5, 1]), np.array([3])).patients().tolist() == [1, 3, 5]
