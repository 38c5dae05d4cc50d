"""Runs whose hospitals share the noise: one exact sum a round, learning, drops, budgets, repeated questions."""

from collections import Counter

import numpy as np
import pytest
import torch
from flwr.app import Message

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrolment, Task
from remind.federation.secure_messages import Dealt, Keys, MaskedAnswer, Unmask, Unmasked
from remind.privacy.accounting import Mechanism, compose, epsilon
from remind.secagg.limits import least_honest
from remind_client.ledger.spender import limits_of
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import FIRST_NODE_ID
from tests.builders.configs import BASE
from tests.builders.grids import WireGrid
from tests.builders.joint_runs import MIXES, config, sites
from tests.builders.observers import Recorder
from tests.builders.secure_resumes import Dying, Killed, resumed

ONE: dict[str, Scalar] = {"train.warmup-rounds": 1, "train.routing-rounds": 0}


def run(several, lost=lambda message: False):
    recorder, grid = Recorder(), WireGrid(several, lost)
    FedRemind(several[0].config, [recorder]).run(grid)
    return recorder, grid


def apart(one, other, names):
    return max((one[n].double() - other[n].double()).abs().max().item() for n in names)


QUIET: dict[str, Scalar] = {"privacy.clip": 10.0, "privacy.noise": 2e-4, "train.optimizer": "sgd", "train.lr": 1.0}


@pytest.mark.parametrize("piece", [0, 3])
def test_a_round_is_one_step_on_the_mean_over_all_patients(piece, tmp_path):
    """With next to no noise and a wide clip it is the plain round of one full step, whatever the pieces."""
    common: dict[str, Scalar] = {**ONE, "train.weight-decay": 0.0, "train.schedule": "constant"}
    joint, _ = run(sites(tmp_path / "joint", config(**common | QUIET | {"train.batch": piece})))
    settings: dict[str, Scalar] = {
        "federation.secure-aggregation": True,
        "train.batch": 0,
        "train.optimizer": "sgd",
        "train.lr": 1.0,
    }
    shared: dict[str, Scalar] = {
        "federation.encoders": "shared",
        "method.objective": "erm",
        "evaluation.calibration": "none",
    }
    plain = Config.from_flat(BASE | common | settings | shared | {"train.local-steps": 1})
    reference, _ = run(sites(tmp_path / "plain", plain))
    names = [n for n in reference.models[0] if not n.startswith("fusion.groups.5.")]
    assert apart(joint.models[0], reference.models[0], names) < 5e-4
    began = {n: t for n, t in joint.models[0].items() if n.startswith("fusion.groups.5.")}
    assert all(torch.equal(t, reference.models[0][n]) for n, t in began.items())  # of two sites alone: never sent


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    losses: dict[str, Scalar] = {"privacy.loss-every": 1, "privacy.loss-noise": 1.0, "dro.initial": "uniform"}
    several = sites(tmp_path_factory.mktemp("whole"), config(**losses))
    return several, *run(several)


@pytest.mark.slow
def test_a_run_repeats_to_the_bit_and_depends_on_every_secret(whole, tmp_path):
    settings = whole[0][0].config
    again, _ = run(sites(tmp_path / "2", settings))
    other, _ = run(sites(tmp_path / "3", settings, secrets={"s2": bytes(range(32))}))
    last = whole[1].models[-1]
    assert all(torch.equal(again.models[-1][n], t) for n, t in last.items())
    assert not torch.equal(last["fusion.head.weight"], other.models[-1]["fusion.head.weight"])


def test_what_leaves_is_masked_and_nothing_else(whole):
    kinds = Counter(type(message).__name__ for _, message, _ in whole[2].answers)
    assert kinds == {"Enrolment": 4, "Keys": 4, "Dealt": 4, "MaskedAnswer": 12, "Unmasked": 12}
    for _, message, buffer in whole[2].answers:
        assert isinstance(message, Enrolment | Keys | Dealt | MaskedAnswer | Unmasked)
        if isinstance(message, MaskedAnswer):
            counts = np.bincount(buffer, minlength=256)
            expected = counts.sum() / 256
            assert np.sum((counts - expected) ** 2 / expected) < 380


def test_losses_are_sums_with_noise(whole):
    risks = whole[1].rounds[0].risks
    assert set(risks) == {1, 3, 7}
    assert all(0 <= risk < 10 for risk in risks.values())


def test_the_ledger_says_what_all_noise_gives_and_what_this_sites_alone(whole):
    several, recorder, _ = whole
    assert recorder.rounds[-1].frozen == (5,)
    told = recorder.rounds[-1].privacy
    assert set(told) == set(MIXES)
    steps = [s.release for s in several[0].spender.ledger.spends("run") if s.release.mechanism.what == "gradient"]
    makers = least_honest(4, 4, 1)
    assert [each.mechanism.noise for each in steps] == [1.0, 1.0]
    assert [each.own for each in steps] == [pytest.approx(1 / np.sqrt(makers))] * 2
    assert all(one.own is not None and one.own > one.epsilon for one in told.values())


def test_noise_of_the_sum_is_that_of_the_guarantee_or_more(tmp_path):
    """Two runs that differ in their secrets alone: their steps differ by noise, of σC/(q·n) at least."""
    changes: dict[str, Scalar] = {"privacy.noise": 50.0, "train.optimizer": "sgd", "train.lr": 1.0, **ONE}
    settings = config(**changes | {"train.weight-decay": 0.0, "train.schedule": "constant"})
    one, _ = run(sites(tmp_path / "1", settings))
    secrets = {name: bytes([i + 1]) * 32 for i, name in enumerate(MIXES)}
    other, _ = run(sites(tmp_path / "2", settings, secrets=secrets))
    names = [n for n in one.models[0] if n.startswith(("fusion.experts", "encoders"))]
    patients = sum(sum(site.engine.patients.counts.values()) for site in sites(tmp_path / "3", settings))
    difference = torch.cat([(one.models[0][n] - other.models[0][n]).flatten() for n in names])
    expected = 50.0 / patients * np.sqrt(4 / least_honest(4, 4, 1)) * np.sqrt(2)
    assert difference.std().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("phase", ["train", "unmask"])
def test_a_site_that_is_lost_in_a_phase_leaves_the_sum_of_the_others(phase, tmp_path):
    def lost(message):
        request, _ = from_record(message.content)
        return message.metadata.dst_node_id == 2 and isinstance(request, Task if phase == "train" else Unmask)

    quiet = config(**QUIET | ONE | {"federation.deadline": 0.5, "train.weight-decay": 0.0, "train.batch": 0})
    recorder, _ = run(sites(tmp_path, quiet), lost)
    assert recorder.rounds[0].answered == (("s2", "s3", "s4") if phase == "train" else ("s1", "s2", "s3", "s4"))
    assert any(t.any() for t in recorder.models[0].values())


@pytest.mark.parametrize("keeps", [False, True])
def test_the_same_question_gets_the_same_bytes_and_costs_nothing_again(keeps, tmp_path):
    several = sites(tmp_path, config(**ONE), keeps_answers=keeps)
    again = []

    class Twice(WireGrid):
        def _work(self, message):
            reply = super()._work(message)
            if message.metadata.message_type == "train":
                spent = [len(one.spender.ledger.spends()) for one in several]
                _, first = from_record(reply.content)
                _, second = from_record(super()._work(message).content)
                assert [len(one.spender.ledger.spends()) for one in several] == spent
                again.append(np.array_equal(first, second))
            return reply

    FedRemind(several[0].config, []).run(Twice(several))
    assert again == [True] * 4


def test_a_site_whose_budget_ends_leaves_and_the_run_goes_on(tmp_path):
    settings = config(**{"train.warmup-rounds": 3, "train.routing-rounds": 1})
    two_rounds = epsilon(compose([Mechanism("counts", 0.1), Mechanism("gradient", 1.0, 1.0, 2)]), 1e-5)
    few = limits_of(
        settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"epsilon": two_rounds})})
    )
    several = sites(tmp_path, settings, limits={"s2": few})
    recorder, _ = run(several)
    answered = [record.answered for record in recorder.rounds]
    everybody, others = ("s1", "s2", "s3", "s4"), ("s1", "s3", "s4")
    assert answered == [everybody, everybody, others, others]
    assert recorder.rounds[-1].how["s2"] == "left"


def test_a_model_that_overflows_for_patients_is_answered_like_any_other(tmp_path):
    """A refusal, or a sum that is no number, would tell whether patients are here for whom it overflows."""
    losses: dict[str, Scalar] = {"privacy.loss-every": 1, "privacy.loss-noise": 1.0, "train.optimizer": "sgd"}
    several, recorder = sites(tmp_path, config(**ONE | losses)), Recorder()

    class Hostile(WireGrid):
        def _work(self, message):
            task, buffer = from_record(message.content)
            if not isinstance(task, Task):
                return super()._work(message)
            huge = np.full(buffer.size // 4, 3e38, np.float32).view(np.uint8)
            site = several[message.metadata.dst_node_id - FIRST_NODE_ID]
            return Message(to_record(*site.train_masked(task, huge)), reply_to=message)

    FedRemind(several[0].config, [recorder]).run(Hostile(several))
    assert recorder.rounds[0].answered == ("s1", "s2", "s3", "s4")
    assert all(torch.isfinite(tensor).all() for tensor in recorder.models[-1].values())
    assert all(np.isfinite(risk) for risk in recorder.rounds[0].risks.values())


@pytest.mark.slow
def test_it_learns(tmp_path):
    rounds: dict[str, Scalar] = {"train.warmup-rounds": 10, "train.routing-rounds": 0, "train.lr": 0.01}
    still: dict[str, Scalar] = {"privacy.noise": 0.05, "train.schedule": "constant"}
    release: dict[str, Scalar] = {"privacy.loss-every": 1, "privacy.loss-noise": 0.01}
    recorder, _ = run(sites(tmp_path, config(**rounds | still | release)))
    first, last = recorder.rounds[0].risks, recorder.rounds[-1].risks
    assert sum(last.values()) < 0.95 * sum(first.values())  # .91; rounding differs between processors


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"federation.secure-aggregation": False}, "shares of noise protect in the sum alone"),
        ({"train.local-steps": 2}, "noise of the others does not hide"),
        ({"federation.encoders": "local"}, "would be trained without noise"),
        ({"train.shrink": 1.0}, "they are of local steps"),
    ],
)
def test_what_would_break_the_guarantee_is_refused(changes, why):
    with pytest.raises(UserError, match=why):
        config(**changes)


@pytest.mark.parametrize("rule", ["fedprox", "fedadam", "fedavgm"])
def test_rules_that_are_more_than_a_step_on_a_sum_are_refused(rule):
    with pytest.raises(UserError, match="one step on a sum of gradients"):
        FedRemind(config(**{"method.rule": rule}))


def test_site_noise_under_masks_is_refused():
    with pytest.raises(UserError, match="set it to 'joint'"):
        FedRemind(config(**{"privacy.mode": "site"}))


def test_so_many_that_may_collude_that_no_noise_is_left_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"privacy\.colluding = 2: among 4 hospitals"):
        run(sites(tmp_path, config(**{"privacy.colluding": 2})))
    with pytest.raises(UserError, match="set mode = 'joint'"):
        Config.from_flat({"privacy.mode": "site", "privacy.colluding": 2})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(sites(tmp_path_factory.mktemp("uninterrupted"), config()))[0]


@pytest.mark.parametrize("point", ["before", "opened"])
def test_a_killed_run_goes_on_and_pays_again_only_for_what_was_opened(point, uninterrupted, tmp_path):
    """Sums that were opened are a release; the round begun again has other masks, so it is another one."""
    settings = config()
    several, folder = sites(tmp_path / "killed", settings, keeps_answers=True), Checkpoints(tmp_path / "run")
    with pytest.raises(Killed):
        Dying(settings, checkpoints=folder, point=point).run(WireGrid(several))
    recorder = Recorder()
    FedRemind(resumed(settings), [recorder], checkpoints=folder).run(WireGrid(several))
    assert [record.round for record in recorder.rounds] == [2]
    paid = [s.round for s in several[0].spender.ledger.spends("run") if s.release.mechanism.what == "gradient"]
    assert paid == ([0, 1] if point == "before" else [0, 1, 1])
    alike = all(torch.equal(recorder.models[-1][n], t) for n, t in uninterrupted.models[-1].items())
    assert alike == (point == "before")
