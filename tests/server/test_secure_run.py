"""Runs under secure aggregation: the plain run's result within the grid's step; nothing readable on the wire."""

import csv
from collections import Counter

import numpy as np
import pytest
import torch
from flwr.app import Error, Message
from sqlalchemy import select

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.flower import from_record
from remind.federation.messages import Enrolment, Task
from remind.federation.secure_messages import Deal, Dealt, Keys, MaskedAnswer, Prepare, Unmask, Unmasked
from remind.metrics.statistics import merge
from remind.secagg.codec import TENSORS
from remind.secagg.limits import TOGETHER
from remind_client.site_config import VARIABLE
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import group_table
from remind_server.dashboard.views.hospitals import hospitals
from remind_server.dashboard.views.matrix import matrix
from remind_server.dashboard.views.report import run_report
from remind_server.dashboard.views.run_list import Wanted, run_list
from remind_server.dashboard.views.verdict import verdict
from remind_server.outputs.run_folder import FINAL_CSV, RunFolder
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.simulate import simulate
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url
from remind_server.store.schema import FINISHED, INCOMPLETE, Run, Site
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import WireGrid
from tests.builders.observers import Recorder
from tests.builders.secure_runs import MIXES, ONE, SECURE, config
from tests.builders.sites import site


def run(folder, settings, lost=lambda message: False, mixes=None):
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate((mixes or MIXES).items())]
    recorder, grid = Recorder(), WireGrid(sites, lost)
    FedRemind(settings, [recorder]).run(grid)
    return recorder, grid


def changed(recorder, frozen=()):
    """The model after the first round, without the blocks of these groups."""
    parts = tuple(f"fusion.groups.{k}." for k in frozen)
    return {n: t.double() for n, t in recorder.models[0].items() if not n.startswith(parts)}


@pytest.mark.parametrize(
    ("rule", "objective"),
    [
        ("fedremind", "groupdro"),
        ("fedavg", "erm"),
        ("fedprox", "erm"),
        ("fedadam", "erm"),
        ("fgdro_kl(units = 'groups')", "erm"),
    ],
)
def test_a_round_is_the_plain_round_within_the_step_of_the_grid(rule, objective, tmp_path):
    plain, _ = run(tmp_path / "plain", config(rule, objective, **ONE))
    masked, _ = run(tmp_path / "masked", config(rule, objective, **ONE | SECURE))
    one, other = changed(plain, frozen=[5]), changed(masked, frozen=[5])
    # Each of S sites rounds a product and a weight by half a step; the sum is divided by the sum of the weights.
    bound = 4 * TENSORS.step / 0.2 + 1e-6
    if rule == "fedadam":  # its step is η·m/(√v + τ), so that an error counts η/τ-fold: 10
        bound *= 10
    assert max((one[n] - other[n]).abs().max() for n in one) <= bound
    assert masked.rounds[0].risks == pytest.approx({k: r for k, r in plain.rounds[0].risks.items() if k != 5}, abs=1e-6)


def test_a_group_of_fewer_than_three_sites_stays_as_it_was_and_is_named(tmp_path, caplog):
    settings = config(**SECURE | {"train.warmup-rounds": 0, "train.routing-rounds": 2})
    with caplog.at_level("WARNING", logger="flwr"):
        masked, _ = run(tmp_path, settings)
    assert "fewer than 3 hospitals train group:5" in caplog.text
    assert masked.rounds[0].weights_after[5] == masked.rounds[0].weights_used[5]
    first, last = masked.models[0], masked.models[-1]
    assert all(torch.equal(last[n], first[n]) for n in first if n.startswith("fusion.groups.5."))
    assert any(not torch.equal(last[n], first[n]) for n in first if n.startswith("fusion.groups.7."))
    assert 5 not in masked.rounds[0].risks


def test_the_examination_is_the_sum_of_the_plain_ones(tmp_path):
    still = {"train.lr": 1e-9, "train.routing-lr": 1e-9, "train.weight-decay": 0.0}
    plain, _ = run(tmp_path / "plain", config(**ONE | still))
    masked, _ = run(tmp_path / "masked", config(**ONE | still | SECURE))
    assert set(masked.result.test) == {TOGETHER}
    expected = merge(plain.result.test.values())
    found = merge(masked.result.test.values())
    assert found.keys() == expected.keys() - {5}
    for k, one in found.items():
        assert one.count == expected[k].count
        assert np.array_equal(one.confusion_CC, expected[k].confusion_CC)
        assert one.scores.cells() == expected[k].scores.cells()
        assert one.log_loss_sum == pytest.approx(expected[k].log_loss_sum, abs=1e-4)
        assert one.use_sum_E == pytest.approx(expected[k].use_sum_E, abs=1e-4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two rounds, and all that its sites answered."""
    return run(tmp_path_factory.mktemp("whole"), config(**SECURE))


def test_a_whole_run_is_one_heavy_exchange_and_a_small_one_a_round(whole):
    recorder, grid = whole
    assert len(recorder.rounds) == 2
    assert recorder.rounds[0].weights_after != recorder.rounds[0].weights_used
    kinds = Counter(type(message).__name__ for _, message, _ in grid.answers)
    assert kinds == {"Enrolment": 4, "Keys": 4, "Dealt": 4, "MaskedAnswer": 12, "Unmasked": 12}
    assert merge(recorder.result.test.values()).keys() == {1, 3, 7}
    assert recorder.result.absent == {}


def test_what_a_site_answers_is_masked(whole):
    """Captured: every buffer is uniform bytes, and no other message holds a loss, a score or a tensor."""
    for kind, message, buffer in whole[1].answers:
        assert isinstance(message, Enrolment | Keys | Dealt | MaskedAnswer | Unmasked)
        if isinstance(message, MaskedAnswer):
            counts = np.bincount(buffer, minlength=256)
            expected = counts.sum() / 256
            assert expected > 20, kind
            assert np.sum((counts - expected) ** 2 / expected) < 380  # 255 degrees of freedom: mean 255, sd 22.6
            assert set(message.model_dump()) == {"kind", "round", "seconds", "beside", "privacy"}
        else:
            assert buffer.size == 0


@pytest.mark.parametrize(("phase", "kind"), [("keys", Prepare), ("deal", Deal), ("train", Task), ("unmask", Unmask)])
def test_a_site_that_is_lost_in_a_phase_leaves_the_sum_of_the_others(phase, kind, tmp_path):
    def lost(message):
        request, _ = from_record(message.content)
        return message.metadata.dst_node_id == 2 and isinstance(request, kind)

    recorder, _ = run(tmp_path, config(**ONE | SECURE | {"federation.deadline": 0.5}), lost)
    assert recorder.result is not None
    first = recorder.rounds[0]
    assert first.answered == (("s1", "s2", "s3", "s4") if phase == "unmask" else ("s2", "s3", "s4"))
    assert {3, 7} <= set(first.risks)


class Once(WireGrid):
    """The first answer of a site to a request of one type is lost, and the site is not connected for a while."""

    def __init__(self, sites, kind, away=0.0):
        super().__init__(sites)
        self.kind, self.away, self.lost, self.back = kind, away, [], 0.0

    def _look(self, message_id):
        message = self._outbox[message_id]
        if (
            not self.lost
            and message.metadata.dst_node_id == 2
            and isinstance(from_record(message.content)[0], self.kind)
        ):
            self.lost.append(message)
            self.back = self.clock.now() + self.away
            self._work(message)
        if message not in self.lost:
            return super()._look(message_id)
        return Message(Error(5, "no heartbeat"), reply_to=message) if self.clock.now() < self.back else None

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node != 2 or self.clock.now() >= self.back]


def run_once_lost(folder, kind, away):
    settings = config(**ONE | SECURE | {"federation.deadline": 30.0})
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    recorder, grid = Recorder(), Once(sites, kind, away)
    FedRemind(settings, [recorder]).run(grid)
    assert len(grid.lost) == 1
    return recorder, grid


@pytest.mark.parametrize(("kind", "away"), [(Prepare, 0.0), (Deal, 0.0), (Deal, 20.0), (Unmask, 0.0)])
def test_a_site_whose_answer_is_lost_is_asked_again_for_keys_and_shares(kind, away, tmp_path):
    """A hospital that was killed while keys were dealt would else take no part in all rounds to come."""
    recorder, grid = run_once_lost(tmp_path, kind, away)
    assert recorder.rounds[0].answered == ("s1", "s2", "s3", "s4")
    assert recorder.rounds[0].refused == {}
    replies: dict[type, str] = {Prepare: "Keys", Deal: "Dealt", Unmask: "Unmasked"}
    twice = replies[kind]
    kinds = Counter(type(message).__name__ for _, message, _ in grid.answers)
    assert kinds == Counter({"Enrolment": 4, "Keys": 4, "Dealt": 4, "MaskedAnswer": 8, "Unmasked": 8}) + Counter(
        [twice]
    )
    texts = Counter(message.model_dump_json() for _, message, _ in grid.answers if type(message).__name__ == twice)
    assert sorted(texts.values()) == [1] * (kinds[twice] - 2) + [2], "the same answer again"


def test_a_site_that_stays_away_while_keys_are_dealt_is_left_out_after_one_deadline(tmp_path):
    recorder, grid = run_once_lost(tmp_path, Deal, 1000.0)
    assert recorder.rounds[0].answered == ("s2", "s3", "s4")
    assert recorder.rounds[0].refused == {"s1": "went offline before it answered"}
    assert 30 <= grid.clock.now() < 40


def test_one_loss_too_many_ends_the_run_and_opens_nothing(tmp_path):
    def lost(message):
        request, _ = from_record(message.content)
        return message.metadata.dst_node_id in (2, 3) and isinstance(request, Task)

    settings = config(**SECURE | {"federation.deadline": 0.2, "federation.retries": 0, "federation.min-sites": 1})
    with pytest.raises(UserError, match="2 of 4 sites answered; unmasking a sum needs 3"):
        run(tmp_path, settings, lost)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method.rule": "qffl", "method.objective": "erm"}, "weighs each site's answer"),
        ({"method.rule": "lg"}, "each site's own losses"),
        ({"method.rule": "afl", "method.objective": "erm"}, "each site's own losses"),
        ({"method.objective": "dfr"}, "validation patients by site"),
        ({"train.select": "best"}, "train.select"),
        ({"dro.risk": "validation"}, "dro.risk"),
        ({"federation.participation": 0.5}, "federation.participation"),
    ],
)
def test_what_needs_single_answers_is_refused_before_the_run(changes, why):
    with pytest.raises(UserError, match=why):
        FedRemind(config(**SECURE | changes))


def test_two_sites_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least 3 must"):
        run(tmp_path, config(**SECURE), mixes={n: MIXES[n] for n in ("s1", "s2")})


def test_a_simulated_run_fills_its_folder_and_the_store(tmp_path, monkeypatch):
    """All virtual hospitals in Flower's messages, with everything that follows a run; at a hospital's machine, too."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "of-a-real-hospital" / "site.toml"))
    folder = tmp_path / "run"
    few: dict[str, Scalar] = {"synthetic.patients": 300, "results": str(folder)}
    settings = Config.from_flat(BASE | ONE | SECURE | few)
    engine = open_store(store_url(tmp_path))
    result = simulate(settings, 3, [RunFolder(folder), StoreObserver(engine, folder)])
    assert result.test.keys() == {TOGETHER}
    with (folder / FINAL_CSV).open() as file:
        rows = list(csv.DictReader(file))
    assert {row["site"] for row in rows} == {"all", TOGETHER}
    known = result.test[TOGETHER]
    hidden = [row for row in rows if row["mask"] and int(row["mask"]) not in known]
    assert not any(row["n"] == "0" for row in hidden)
    with engine.connect() as connection:
        assert connection.execute(select(Run.status)).scalar() in (FINISHED, INCOMPLETE)
        assert TOGETHER in connection.execute(select(Site.name)).scalars().all()
    reader = Reader(engine)
    table = group_table(reader, 1, "log_loss")
    assert run_list(reader, Wanted()).lines[0].sites == len(run_report(reader, 1).sites) == 3, "the sum is no hospital"
    assert verdict(reader, table, "auroc").sites == 0
    assert TOGETHER not in {row.name for row in hospitals(reader, table, "auroc").rows}
    assert TOGETHER not in matrix(reader, table, "auroc").sites
    engine.dispose()
