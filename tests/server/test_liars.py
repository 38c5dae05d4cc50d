"""One hospital of four lies in every round: the model stays as good, and the record names the hospital."""

import json
import math
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from remind.config import Config
from remind.data.sites.hospitals import virtual_hospitals
from remind.federation.blocks import index_of, pack, unpack
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Refusal, Report
from remind.metrics.scores import scores
from remind.metrics.statistics import merge, total
from remind_server.outputs.tables import summary
from remind_server.rounds.strategy import FedRemind
from tests.builders.grids import KnownAnswers
from tests.builders.observers import Recorder
from tests.builders.sites import site

SETTINGS = {
    "synthetic.patients": 200,
    "synthetic.interaction": 0.0,
    "model.width": 16,
    "model.experts": 4,
    "model.heads": 2,
    "model.tokens": 4,
    "model.dropout": 0.0,
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 3,
    "train.batch": 16,
    "train.lr": 5e-3,
    "train.routing-lr": 2e-3,
    "data.alpha": 100.0,
}
LEARNING = {"synthetic.patients": 500, "train.warmup-rounds": 3, "train.local-steps": 10, "train.batch": 24}
SITES, LIAR = 4, 1
NEAR = 0.06  # of AUROC, of 57 test patients


@cache
def hospitals(patients=SETTINGS["synthetic.patients"]):
    config = Config.from_flat(SETTINGS | {"synthetic.patients": patients})
    return virtual_hospitals(config.data, config.synthetic, config.seed, SITES)


class Lying(KnownAnswers):
    """What one site answers to one kind of message is changed on its way, in every round."""

    known: ClassVar[dict[str, RecordDict]] = {}

    def __init__(self, sites, kind, lie):
        super().__init__(sites, self.known)
        self.kind, self.lie, self.liar = kind, lie, list(self._contexts)[LIAR]

    def _work(self, message):
        answer = super()._work(message)
        if (message.metadata.dst_node_id, message.metadata.message_type) != (self.liar, self.kind):
            return answer
        return Message(self.lie(answer.content), reply_to=message)


def run(folder, kind="", lie=None, **changes):
    config = Config.from_flat(SETTINGS | changes)
    sites = [site(h.name, h.cohort, config, folder) for h in hospitals(config.synthetic.patients)]
    recorder = Recorder()
    FedRemind(config, [recorder]).run(Lying(sites, kind, lie))
    return recorder


def auroc(recorder) -> float:
    """Of the honest sites' test patients."""
    honest = [found for name, found in recorder.result.test.items() if name != liar()]
    return scores(total(merge(honest))).auroc


def liar() -> str:
    return hospitals()[LIAR].name


def no(record):
    """A site that refuses."""
    return to_record(Refusal(reason="no"))


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Runs in which that site refuses each training task, by what steers λ; and the run without the site."""
    folder = tmp_path_factory.mktemp("without")
    silent = {risk: run(folder / risk, "train", no, **{"dro.risk": risk}) for risk in ("train", "validation")}
    return silent | {"": run(folder / "alone", "query", no)}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The run in which nobody lies."""
    return run(tmp_path_factory.mktemp("honest"))


def said(change):
    """A lie in the JSON."""

    def lie(record):
        content = json.loads(record["message"]["json"])
        change(content)
        return RecordDict({**record, "message": ConfigRecord({"json": json.dumps(content)})})

    return lie


def losses(part, mean, of="loss_sum"):
    def change(content):
        for group in content[part].values():
            group[of] = mean * group["count"]

    return said(change)


def patients(number):
    def change(content):
        content["counts"] = dict.fromkeys(content["counts"], number)

    return said(change)


def evaluated(part, times):
    """Statistics of many patients that do not exist, all of them wrong."""

    def change(content):
        for group in content[part].values():
            group["count"] = number = group["count"] * times
            group["confusion"] = [[0, number], [0, 0]]
            group["scores"] = [[0, 0, 5, number]]

    return said(change)


def update(change, only=""):
    """A lie in the tensors whose name contains `only`: what comes back is a function of what they were."""

    def lie(record):
        report, buffer = from_record(record)
        assert isinstance(report, Report)
        tensors = {n: change(t) if only in n else t for n, t in unpack(report.index, buffer).items()}
        return to_record(report.model_copy(update={"index": index_of(tensors, "float32")}), pack(tensors, "float32"))

    return lie


TRAINING: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a loss that takes λ": (losses("train", 1e9), {}, "max-loss"),
    "a loss of 10^12": (losses("train", 1e11), {}, "loss"),
    "a validation loss that takes λ": (losses("validation", 100.0), {"dro.risk": "validation"}, "max-loss"),
    "patients out of nowhere": (evaluated("validation", 1000), {"dro.risk": "validation"}, "it enrolled"),
    "the model tenfold": (update(lambda tensor: tensor * 10), {}, "max-update"),
    "the model thrown away": (update(lambda tensor: tensor * 0), {}, "max-update"),
    "far more than others move": (
        update(lambda tensor: tensor * 3),
        {"federation.max-update": 10.0},
        "max-update-ratio",
    ),
}


@pytest.mark.parametrize("case", TRAINING)
def test_a_liar_in_training_is_left_out_and_named_every_round(case, without, tmp_path):
    lie, changes, words = TRAINING[case]
    found = run(tmp_path, "train", lie, **changes)
    for record in found.rounds:
        assert set(record.absent) == {liar()}
        assert words in record.absent[liar()]
        assert len(record.answered) == SITES - 1
        assert min(record.weights_after.values()) > 1e-6, "no group's λ goes to 0"
    assert found.result.left_out == {liar(): len(found.rounds)}
    assert summary(found.result)["rounds_left_out"] == {liar(): len(found.rounds)}
    silent = without[changes.get("dro.risk", "train")]
    assert auroc(found) == auroc(silent)
    assert [r.weights_after for r in found.rounds] == [r.weights_after for r in silent.rounds]


POOL, CONTROLS = "fusion.pool_mCPD", "fusion.controls_NK"
HUGE = 1e30  # finite in float32; its square is not
CLUSMFL, PEPSY = {"method.fusion": "clusmfl(pool = 4)"}, {"method.fusion": "pepsy"}
LG = {"method.rule": "lg", "method.objective": "erm"}


def everywhere(value):
    return lambda tensor: torch.full_like(tensor, value)


# What is no plain average of tensors: parts that sites fill or that are matched, rules with more than an average.
BESIDE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "huge centres": (update(lambda t: t * HUGE, POOL), CLUSMFL | LG, f"{POOL}: it tells a centre"),
    "centres a little too long": (update(lambda t: t.sign() * 4.1, POOL), CLUSMFL | LG, "at most 4"),
    "a pool of its own": (update(everywhere(1.0), POOL), CLUSMFL | LG, "it tells 4 centres"),
    "huge controls": (update(everywhere(HUGE), CONTROLS), PEPSY | LG, "max-update"),
    "controls far beyond others'": (
        update(lambda t: t * 3, CONTROLS),
        PEPSY | LG | {"federation.max-update": 10.0},
        "max-update-ratio",
    ),
    "huge tensors under control variates": (update(everywhere(HUGE)), LG | {"method.rule": "scaffold"}, "max-update"),
    "huge tensors under models of each site": (
        update(everywhere(HUGE)),
        LG | {"method.rule": "fedmsplit"},
        "max-update",
    ),
    "a huge loss of its own model": (losses("local", 1e9), LG | {"method.rule": "feddg_ga"}, "max-loss"),
}


@pytest.fixture(scope="module")
def silent_under(tmp_path_factory):
    """The run in which that site refuses each training task, by fusion model and rule."""
    return cache(lambda items: run(tmp_path_factory.mktemp("silent"), "train", no, **dict(items)))


@pytest.mark.parametrize("case", BESIDE)
def test_a_liar_beside_the_average_is_left_out_and_named_and_touches_nothing(case, silent_under, tmp_path):
    lie, changes, words = BESIDE[case]
    found = run(tmp_path, "train", lie, **changes)
    silent = silent_under(tuple((k, v) for k, v in sorted(changes.items()) if k.startswith("method")))
    for record in found.rounds:
        assert set(record.absent) == {liar()}
        assert words in record.absent[liar()]
    assert found.result.left_out == {liar(): len(found.rounds)}
    assert [r.weights_after for r in found.rounds] == [r.weights_after for r in silent.rounds]
    for of, without_it in zip(found.models, silent.models, strict=True):
        assert all(torch.equal(tensor, without_it[name]) for name, tensor in of.items())


@pytest.mark.parametrize("changes", [CLUSMFL | LG, PEPSY | LG, LG | {"method.rule": "scaffold"}])
def test_honest_sites_keep_within_the_limits_beside_the_average(changes, tmp_path):
    assert run(tmp_path, **changes).result.left_out == {}


@pytest.mark.slow
def test_the_model_is_about_as_good_as_without_the_site(tmp_path):
    """A liar that is left out costs its own patients, no more; the tests above show that it is as if it were silent."""
    silent, alone = run(tmp_path / "silent", "train", no, **LEARNING), run(tmp_path / "alone", "query", no, **LEARNING)
    assert auroc(silent) > auroc(alone) - NEAR > 0.6


@pytest.mark.parametrize(("number", "words"), [(100_000, "max-patients-ratio"), (10**12, "max-patients allows")])
def test_patients_that_nobody_has_do_not_join(number, words, without, tmp_path):
    found = run(tmp_path, "query", patients(number))
    assert set(found.start.refused) == {liar()}
    assert words.partition(" ")[0] in found.start.refused[liar()]
    assert auroc(found) == auroc(without[""]), "as if it were not there"


EXAMINED = [
    losses("test", 1e9),
    losses("test", 1e9, "log_loss_sum"),
    evaluated("test", 1000),
    evaluated("validation", 10**6),
]


@pytest.mark.parametrize("lie", EXAMINED)
def test_a_liar_in_the_examination_is_named_and_changes_no_table(lie, honest, tmp_path):
    found = run(tmp_path, "evaluate", lie)
    assert set(found.result.absent) == {liar()}
    assert set(found.result.test) == set(honest.result.test) - {liar()}
    assert auroc(found) == auroc(honest)


@pytest.mark.parametrize("step", [5.0, 0.3])
def test_the_highest_loss_that_is_believed_moves_lambda_by_a_bounded_step(step, tmp_path):
    """Within the limits a liar is not left out; what it can do in a round is bounded, and 0 is never reached."""
    highest = 10 * math.log(2)
    found = run(tmp_path, "train", losses("train", highest), **{"dro.gamma": 0.1, "dro.max-log-odds-step": step})
    assert found.result.left_out == {}
    moved = []
    for record in found.rounds:
        odds = [math.log(record.weights_after[k] / record.weights_used[k]) for k in record.weights_used]
        moved.append(max(odds) - min(odds))
        assert min(record.weights_after.values()) > 0
    assert max(moved) <= step + 1e-9
    assert max(moved) > 0.25, "the bound is what holds it"


def pushed(tensor):
    """Within every limit, and always in one direction."""
    return tensor + 0.045 * tensor.norm() / tensor.numel() ** 0.5


def distance(one, other) -> float:
    """Between the shared parts of two final models."""
    return math.sqrt(sum(float((t - other[n]).square().sum()) for n, t in one.items() if "groups" not in n))


@pytest.mark.slow
def test_a_liar_within_the_limits_moves_a_robust_aggregate_far_less_than_a_mean(tmp_path):
    moved = {}
    for name in ("mean", "median"):
        changes = {"method.aggregator": name, "train.lr": 5e-4, "train.routing-rounds": 0, "train.local-steps": 1}
        truth = run(tmp_path / name / "truth", **changes)
        lied = run(tmp_path / name / "lied", "train", update(pushed), **changes)
        assert lied.result.left_out == {}
        moved[name] = distance(truth.models[-1], lied.models[-1])
    assert moved["median"] < moved["mean"] / 3, moved


def test_honest_sites_are_never_left_out(honest):
    assert honest.result.left_out == {}
    assert all(not record.absent for record in honest.rounds)
    assert {name for record in honest.rounds for name in record.update_sizes} == set(honest.result.test)
