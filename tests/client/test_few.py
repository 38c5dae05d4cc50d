"""An update of a model part that one patient or a few patients moved does not leave the site."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.federation.blocks import unpack
from remind.federation.flower import read_as
from remind.federation.messages import Task
from remind.federation.quantised import RESIDUAL
from remind.fusion.prototypes import PROTOTYPES
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.training.sampling import Step
from remind_client.rounds.site import Site
from remind_client.rounds.small_updates import blocks_below_minimum
from remind_client.store.site_store import SiteStore
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import sites_of, train_tasks
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.sites import CPU

NAMES = ("a", "b", "c")
GROUP_N = np.array([1] * 20 + [3] * 12 + [6] * 3)
BLOCKS = ("shared", "group:1", "group:3", "group:6", "group:7", "encoder:a", "encoder:c")


def held(*steps, minimum=10, weight=1.0):
    plan = [Step(np.array(rows), np.full(len(rows), weight / len(rows))) for rows in steps]
    return blocks_below_minimum(plan, GROUP_N, NAMES, BLOCKS, minimum)


def test_every_part_needs_different_patients():
    assert held(range(35)) == {"group:6", "encoder:c"}
    assert held(range(35), minimum=3) == frozenset()
    assert held(range(35), minimum=13) == {"group:3", "group:6", "encoder:c"}
    assert held([0]) == {"shared", "group:1", "encoder:a"}
    assert held([0] * 64, [0] * 64) == {"shared", "group:1", "encoder:a"}, "one patient many times is one patient"
    assert held([*range(20), 20]) == {"group:3"}, "one of a group among many others"
    assert held([*range(10)], [*range(10, 20)]) == frozenset(), "over the steps of a round"
    assert held() == frozenset()


def test_no_patient_may_make_up_most_of_a_part():
    heavy = np.full(20, 1e-6)
    heavy[4] = 1.0
    plan = [Step(np.arange(20), heavy)]
    assert blocks_below_minimum(plan, GROUP_N, NAMES, ("shared", "group:1"), 10) == {"shared", "group:1"}
    plan = [Step(np.arange(20), np.where(np.arange(20) == 4, 0.0, 1.0))]
    assert blocks_below_minimum(plan, GROUP_N, NAMES, ("shared",), 10) == frozenset()


@pytest.mark.parametrize("draws", range(10, 45))
def test_a_deck_of_just_enough_patients_is_never_held_back(draws):
    """Draws without replacement, reshuffled when they run out: no patient is drawn twice more often than another."""
    rows = [k % 10 for k in range(draws)]
    assert blocks_below_minimum([Step(np.array(rows), np.ones(draws))], GROUP_N, NAMES, ("group:1",), 10) == frozenset()


def answer(folder, minimum, rare=None, kept=None, **changes):
    """Tensors that went to a site, and those that came back; `rare`: so many patients are of the second class.

    `kept` is what the site has from earlier rounds.
    """
    config = settings({"train.warmup-rounds": 1, "train.batch": 16, "train.local-steps": 2} | changes)
    patients = cohort([1] * 60 + [3] * 30, split_N=[0] * 90)
    if rare is not None:
        patients = replace(patients, label_N=(np.arange(90) % (90 // rare) == 0).astype(np.int64))
    one = Site("s", patients, config, SiteStore(folder), CPU, minimum)
    counts = one.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    state = State(0, GlobalModel.build(config, patients.schema, counts), weights)
    one.engine.store.save_kept(kept or {})
    task = train_tasks(config, patients.schema, state, [member], [member])[2]
    report, buffer = one.train(*read_as(task.record(), Task))
    return task.sent, task.answered(report.index, unpack(report.index, buffer))


def moved(sent, back) -> set[str]:
    return {name for name in sent if not torch.equal(sent[name], back[name])}


def test_one_patients_gradient_does_not_leave(tmp_path):
    sent, back = answer(tmp_path, 10, **{"train.batch": 1, "train.local-steps": 1, "train.optimizer": "sgd"})
    assert sent.keys() == back.keys()
    assert moved(sent, back) == set()
    assert moved(*answer(tmp_path / "free", 1, **{"train.batch": 1, "train.local-steps": 1}))


@pytest.mark.parametrize(
    ("prototypes", "method"),
    [(PROTOTYPES, {"model.prototypes": 1.0}), ("fusion.weight_mCD", {"method.fusion": "mfcpl"})],
    ids=["any fusion model", "mfcpl"],
)
def test_a_prototype_of_few_patients_goes_back_as_it_came(prototypes, method, tmp_path):
    """Of 60 patients one class has 4, and modality b is one of 30: the minimum holds for each pair of the two."""
    sent, back = answer(tmp_path, 10, rare=4, **method, **{"train.batch": 0})
    moved_mC = (sent[prototypes] != back[prototypes]).any(dim=2)
    assert moved_mC.tolist() == [[True, False], [True, False], [False, False]], "nobody has modality c"
    free, all_back = answer(tmp_path / "free", 1, rare=4, **method, **{"train.batch": 0})
    assert (free[prototypes] != all_back[prototypes]).any(dim=2)[:2].all()


def test_a_rare_group_in_a_small_round_goes_back_as_it_came(tmp_path):
    """Of 32 draws, λ₀ by size, about a third are of group 3: enough for 5, not for 20."""
    proportional = {"dro.initial": "proportional"}
    few = moved(*answer(tmp_path / "few", 20, **proportional))
    enough = moved(*answer(tmp_path / "enough", 5, **proportional))
    assert enough - few == {name for name in enough if name.startswith("fusion.groups.3.")} != set()
    assert any(name.startswith("fusion.groups.1.") for name in few)
    assert "fusion.head.weight" in few


def test_rounding_of_earlier_rounds_does_not_go_with_a_part_that_goes_back(tmp_path):
    """In 8 bits too it comes back as it went, though the site keeps a difference of an earlier round for it."""
    eight = {"dro.initial": "proportional", "federation.updates": "int8"}
    sent, back = answer(tmp_path / "first", 20, **eight)
    kept = {RESIDUAL + name: torch.full_like(tensor, 0.5) for name, tensor in sent.items()}
    rare = {name for name in sent if name.startswith("fusion.groups.3.")}
    assert moved(sent, back) & rare == set()
    assert rare
    again, back = answer(tmp_path / "again", 20, kept=kept, **eight)
    assert moved(again, back) & rare == set()
    head = "fusion.head.weight"
    assert (back[head] - again[head]).mean() > 0.4, "and with one that leaves it does"
    store = SiteStore(tmp_path / "again").kept()
    assert all(torch.equal(store[RESIDUAL + name], kept[RESIDUAL + name]) for name in rare), "it waits"


def test_encoders_that_rest_stay_out_of_the_answer_of_few_patients_too(tmp_path):
    """They are not sent back as received either, which the coordinator would take for something not asked for."""
    rest = {"federation.encoders": "shared", "train.warmup-rounds": 0, "train.routing-rounds": 1}
    sent, back = answer(tmp_path, 100, **rest)
    encoders = {name for name in sent if name.startswith("encoders.")}
    assert encoders
    assert back.keys() == sent.keys() - encoders
    assert moved({name: sent[name] for name in back}, back) == set(), "90 patients are fewer than 100"
