"""A site under a privacy guarantee: what leaves, what it depends on, and what is refused beforehand."""

import numpy as np
import pytest
import torch

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.blocks import unpack
from remind.federation.bounds import ORDINARY
from remind.federation.flower import read_as
from remind.federation.messages import Task
from remind.federation.rules.fedadam import FedAdam
from remind.federation.rules.fedremind import FedRemindRule
from remind.fusion.base import registry as fusions
from remind.fusion.remind import Remind
from remind.methods import methods_of, says_private
from remind.objectives.base import registry as objectives
from remind.objectives.erm import ERM
from remind.privacy.accounting import compose, epsilon
from remind.registry import Method, Options
from remind_client.engine.private_steps import PrivateSteps, simulated_secret
from remind_client.engine.site_engine import SiteEngine
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.private_sites import given_scale

PRIVATE: dict[str, Scalar] = {
    "privacy.mode": "site",
    "privacy.noise": 1.0,
    "privacy.counts-noise": 0.1,
    "evaluation.calibration": "none",
    "method.objective": "erm",
    "model.gate": "entropy",
}
MIXES = {"s1": [1, 1, 3] * 10, "s2": [3, 5, 7] * 10}
CPU = torch.device("cpu")


def sites(folder, changes=None, secrets=None, keeps_answers=False, mixes=None):
    config = settings(PRIVATE | (changes or {}))
    return [
        Site(
            name,
            cohort(mix, seed, of=given_scale()),
            config,
            SiteStore(folder / name),
            CPU,
            keeps_answers=keeps_answers,
            secret=(secrets or {}).get(name, simulated_secret(0, name)),
        )
        for seed, (name, mix) in enumerate((mixes or MIXES).items())
    ]


def run(several):
    recorder = Recorder()
    FedRemind(several[0].config, [recorder]).run(SiteGrid(several))
    return recorder


def test_a_run_trains_and_repeats_to_the_bit(tmp_path):
    first = run(sites(tmp_path / "1"))
    again = run(sites(tmp_path / "2"))
    other = run(sites(tmp_path / "3", secrets={"s1": bytes(range(32))}))
    assert all(torch.equal(first.models[-1][n], t) for n, t in again.models[-1].items())
    assert not torch.equal(first.models[-1]["fusion.head.weight"], other.models[-1]["fusion.head.weight"])
    residual = "fusion.groups.3.residual_LDES"
    assert not first.models[0][residual].any()  # stage 1 holds it at 0: it gets no noise either
    assert first.models[1][residual].all()  # stage 2: all of it


def test_the_same_question_gets_the_same_bytes_and_another_other_noise(tmp_path):
    one = sites(tmp_path, keeps_answers=True)[0]
    task, buffer = asked(one)
    report, answer = one.train(task, buffer)
    assert np.array_equal(one.train(task, buffer)[1], answer)
    _, changed = one.train(task.model_copy(update={"seed": task.seed + 1}), buffer)
    before, first, second = (unpack(task.index, b) for b in (buffer, answer, changed))
    step = {n: (first[n] - before[n]).flatten() for n in before if "head" in n}
    other = {n: (second[n] - before[n]).flatten() for n in before if "head" in n}
    assert all(not torch.equal(step[n], other[n]) for n in step)
    assert report.train == {}
    assert report.validation == {}


def asked(site):
    """The first task of a run of this one site."""
    caught = []

    class Stop(SiteGrid):
        def _work(self, message):
            if message.metadata.message_type == "train":
                caught.append(message)
                raise KeyboardInterrupt
            return super()._work(message)

    with pytest.raises(KeyboardInterrupt):
        FedRemind(site.config, []).run(Stop([site]))
    return read_as(caught[0].content, Task, ORDINARY)


def test_an_update_does_not_depend_on_whether_a_group_has_patients_in_the_draw(tmp_path):
    """Who is not drawn leaves a block with noise, and never as it came."""
    one = sites(tmp_path, {"privacy.rate": 1e-9})[0]
    task, buffer = asked(one)
    _, answer = one.train(task, buffer)
    before, after = unpack(task.index, buffer), unpack(task.index, answer)
    still = [n for n in before if torch.equal(before[n], after[n]) and ".residual_" not in n]
    assert still == []


def test_parts_that_a_rule_leaves_alone_get_no_noise_and_count_in_no_norm(tmp_path):
    """Private adaptation: experts, routers and encoders stay as they are, to the bit."""
    one = sites(tmp_path, {"method.rule": 'adapt(parts = "head+groups")', "privacy.rate": 1.0})[0]
    task, buffer = asked(one)
    before = {name: p.detach().clone() for name, p in one.engine.model.named_parameters()}
    _, answer = one.train(task, buffer)
    sent, answered = unpack(task.index, buffer), unpack(task.index, answer)
    moved = {name for name in sent if not torch.equal(sent[name], answered[name])}
    assert moved == {name for name in sent if ".head." in name or name.endswith(".missing_D")}
    encoders = {n: p for n, p in one.engine.model.named_parameters() if n.startswith("encoders.")}
    assert encoders
    assert all(torch.equal(before[name], p) for name, p in encoders.items())


@pytest.mark.parametrize("kind", [Remind, ERM, FedRemindRule, FedAdam])
def test_what_a_class_says_of_privacy_does_not_hold_for_those_made_of_it(kind):
    def said(build):
        return says_private(Method("added", "", "", 0, Options, build))

    assert said(kind)
    assert not said(type("Added", (kind,), {}))


def test_a_hospital_sends_no_score(tmp_path):
    several = sites(tmp_path, keeps_answers=True)
    recorder = run(several)
    assert all(not by_group for by_group in recorder.result.test.values())


def test_counts_leave_with_noise_once():
    exact = {1: 40, 3: 30}
    said = PrivateSteps.of(Config.from_flat(usable({"privacy.counts-noise": 5.0})), bytes(range(32)), exact, 2).counts
    again = PrivateSteps.of(Config.from_flat(usable({"privacy.counts-noise": 5.0})), bytes(range(32)), exact, 2).counts
    fresh = PrivateSteps.of(
        Config.from_flat(usable({"privacy.counts-noise": 5.0})), bytes(range(32)), {1: 41, 3: 30}, 2
    )
    assert said == again
    assert said != exact
    assert said[3] != fresh.counts[3]  # other patients, other noise on every count


def usable(changes):
    return {"privacy.mode": "site", "evaluation.calibration": "none"} | changes


def test_noise_is_found_for_the_epsilon_of_the_run():
    config = Config.from_flat(usable({"privacy.epsilon": 3.0, "train.batch": 32}))
    steps = PrivateSteps(config, bytes(32), {1: 300, 3: 200})
    assert steps.schedule.rate == pytest.approx(32 / 500)
    whole = compose([steps.schedule.counted, *[steps.schedule.round] * config.train.rounds])
    assert 2.9 < epsilon(whole, config.privacy.delta) <= 3.0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"model.linear": True}, "model.linear fits on patients without noise"),
        ({"model.encoders.alone": "shares"}, "model.encoders.alone fits on patients"),
        ({"model.encoders.numbers": "quantile"}, "model.encoders.numbers fits on patients"),
        ({"evaluation.calibration": "temperature"}, "evaluation.calibration needs scores of validation patients"),
        ({"train.select": "overall"}, "train.select needs scores"),
        ({"precision": "bfloat16"}, "precision: norms of gradients need float32"),
    ],
)
def test_settings_that_break_the_guarantee_are_refused(setting, said):
    with pytest.raises(UserError, match=f"cannot be guaranteed: .*{said}"):
        Config.from_flat(usable(setting))


@pytest.mark.parametrize("name", [one.name for one in fusions.methods()])
def test_fusion_models_without_a_test_of_their_gradients_are_refused(name):
    config = Config.from_flat(usable({"method.fusion": name, "method.objective": "erm"}))
    if fusions.choose(name)[0].build.private:
        methods_of(config)
        return
    with pytest.raises(UserError, match=rf"method\.fusion: {name} does not go with privacy\.mode.*choose attention"):
        methods_of(config)


@pytest.mark.parametrize("name", sorted({one.name for one in objectives.methods()} - {"erm", "groupdro"}))
def test_other_objectives_are_refused(name):
    with pytest.raises(UserError, match=rf"method\.objective: {name} does not go with privacy\.mode"):
        methods_of(Config.from_flat(usable({"method.objective": name})))


@pytest.mark.parametrize("name", ["ditto", "qffl", "afl", "drfa"])
def test_rules_that_use_losses_or_steps_twice_are_refused(name):
    with pytest.raises(UserError, match=rf"method\.rule: {name} does not go with privacy\.mode"):
        methods_of(Config.from_flat(usable({"method.rule": name, "method.objective": "erm"})))


def test_numbers_standardised_by_the_patients_are_refused(tmp_path):
    patients = cohort([1, 3] * 8, of=schema(series=("b",)))
    with pytest.raises(UserError, match=r'modality a \(table\) is standardised by.*standardise = "given"'):
        SiteEngine("s", patients, settings(PRIVATE), SiteStore(tmp_path), CPU, bytes(32))


def test_dropout_comes_from_the_secret_and_not_from_the_runs_seed(tmp_path):
    """The coordinator knows the seed of the run: to leave out a patient would move the dropout of those that follow."""
    task, _ = asked(sites(tmp_path / "a")[0])

    def seed(engine, key="key"):
        return engine.work.seed(task, key)

    private, other = (
        sites(tmp_path / name, secrets={"s1": secret})[0].engine
        for name, secret in (("b", bytes(32)), ("c", bytes(range(32))))
    )
    plain = SiteEngine("s1", private.patients.cohort, settings({}), SiteStore(tmp_path / "d"), CPU)
    assert seed(plain) == task.seed
    assert len({task.seed, seed(private), seed(other), seed(private, "another question")}) == 4
