"""A run with an initial model: which parameters stay frozen, how far others move, and which models are refused."""

import pytest
import torch

from remind.adaptation.start import read_start
from remind.config import Config
from remind.errors import UserError
from remind.federation.blocks import block_of
from remind.federation.messages import Task
from remind.model_file import load_model
from remind.training.local import build_optimizer
from remind.training.site_model import SiteModel
from remind_server.rounds.strategy import FedRemind
from tests.builders import predicting
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

HERE = {"west": [3, 6, 6] * 8, "east": [1, 7] * 8}  # group 6 was in no hospital that trained the model
ROUNDS = {"train.warmup-rounds": 2, "train.routing-rounds": 1, "train.lr": 0.02, "train.routing-lr": 0.02}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return predicting.train(tmp_path_factory.mktemp("trained"), **ROUNDS)[0]


def run(folder, trained, of=None, **changes):
    config = Config.from_flat(BASE | ROUNDS | {"start.model": str(trained), "federation.max-update": 100.0} | changes)
    sites = [site(n, cohort(mix, seed + 7, of), config, folder) for seed, (n, mix) in enumerate(HERE.items())]
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    return recorder.result


def moved(result, trained):
    """How far each tensor of the model to begin with has moved."""
    before = load_model(trained / "model.safetensors")[0]
    return {n: float((result.tensors[n] - t).norm()) for n, t in before.items()}


def test_what_is_frozen_stays_to_the_last_bit_and_new_groups_train(tmp_path, trained):
    result = run(tmp_path, trained)
    start = read_start(trained)
    assert 6 not in start.groups
    assert set(moved(result, trained).values()) == {0.0}
    first = start.model(result.config, result.schema, [1, 3, 6, 7]).tensors
    new = [n for n in result.tensors if block_of(n) == "group:6"]
    assert new
    assert all(not torch.equal(result.tensors[n], first[n]) for n in new)


def test_head_trains_the_last_layer_alone(tmp_path, trained):
    far = moved(run(tmp_path, trained, **{"start.shared": "head"}), trained)
    assert {n for n, d in far.items() if d} == {"fusion.head.weight", "fusion.head.bias"}


def test_tuned_moves_less_at_a_lower_rate_and_with_a_stronger_anchor(tmp_path, trained):
    def distance(name, **changes):
        return sum(moved(run(tmp_path / name, trained, **{"start.shared": "tuned"} | changes), trained).values())

    free = distance("free", **{"start.rate": 1.0, "start.anchor": 0.0})
    slow = distance("slow", **{"start.rate": 0.1, "start.anchor": 0.0})
    held = distance("held", **{"start.rate": 0.1, "start.anchor": 100.0})
    assert 0 < held < slow < free


def test_an_anchor_as_strong_as_can_be_gives_the_model_to_begin_with(tmp_path, trained):
    far = moved(run(tmp_path, trained, **{"start.shared": "tuned", "start.anchor": 1e9}), trained)
    assert max(far.values()) == 0


def test_a_new_group_begins_as_the_model_treats_groups_that_it_does_not_know(trained):
    start = read_start(trained)
    config = Config.from_flat(BASE | {"start.model": str(trained)})
    tensors = start.model(config, schema(), [6]).tensors
    means = [t for n, t in start.tensors.items() if n.endswith(".missing_D")]
    assert not tensors["fusion.groups.6.residual_LDES"].any()
    torch.testing.assert_close(tensors["fusion.groups.6.missing_D"], torch.stack(means).mean(dim=0))
    assert all(torch.equal(tensors[n], t) for n, t in start.tensors.items())


def test_the_own_routing_of_groups_is_in_use_from_the_first_round(tmp_path, trained):
    result = run(tmp_path, trained, **{"train.routing-rounds": 0})
    assert result.routing
    of_stage_1 = predicting.train(tmp_path / "one", **{"train.routing-rounds": 0})[0]
    assert not run(tmp_path / "two", of_stage_1, **{"train.routing-rounds": 0}).routing


def test_what_was_given_has_a_learning_rate_of_its_own():
    config = Config.from_flat(BASE | {"train.residual-rate": 5.0})
    model = SiteModel(schema(), config, ["a"])
    model.fusion.add_groups([3], 0)
    optimizer = build_optimizer(config.train, model, True, lambda name: 0.1 if "head" in name else 1.0)
    names = {p: n for n, p in model.named_parameters()}
    of = {names[p]: group["factor"] for group in optimizer.param_groups for p in group["params"]}
    assert of["fusion.head.weight"] == 0.1
    assert of["fusion.groups.3.residual_LDES"] == 5.0
    assert of["fusion.norm.weight"] == 1.0


def test_a_task_tells_a_site_of_its_own_groups_alone(tmp_path, trained):
    config = Config.from_flat(BASE | ROUNDS | {"start.model": str(trained)})
    sites = [site(n, cohort(mix, seed + 7), config, tmp_path) for seed, (n, mix) in enumerate(HERE.items())]
    seen: dict[str, Task] = {}
    for one in sites:

        def train(task, buffer, one=one, work=one.train):
            seen[one.name] = task
            return work(task, buffer)

        one.train = train  # type: ignore[method-assign]
    FedRemind(config, []).run(SiteGrid(sites))
    assert seen["west"].given == (3,)
    assert seen["east"].given == (1, 7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.gate": "never"}, "model.gate: 'always' in the model, 'never' in this run"),
        ({"model.heads": 1}, "model.heads: 2 in the model, 1 in this run"),
        ({"method.fusion": "softmoe"}, "method.fusion: 'remind' in the model, 'softmoe' in this run"),
        ({"start.model": "/nowhere"}, "start.model: /nowhere: no such folder"),
    ],
)
def test_another_model_is_refused_with_what_differs(tmp_path, trained, changes, words):
    with pytest.raises(UserError, match=words):
        run(tmp_path, trained, **changes)


def test_a_cohort_of_another_schema_is_refused_with_what_differs(tmp_path, trained):
    with pytest.raises(UserError, match=r"another schema.*\n.*classes: c0, c1 against c0, c1, c2"):
        run(tmp_path, trained, of=schema(classes=3))


def test_settings_of_a_model_to_begin_with_need_one():
    with pytest.raises(UserError, match=r"name it with start\.model"):
        Config.from_flat({"start.shared": "tuned"})


def test_shared_encoders_go_on_from_the_model_and_train_where_the_rest_is_frozen(tmp_path):
    shared = {"federation.encoders": "shared"}
    trained = predicting.train(tmp_path / "trained", **ROUNDS, **shared)[0]
    far = moved(run(tmp_path / "on", trained, **shared), trained)
    assert {n.split(".")[0] for n, d in far.items() if d} == {"encoders"}
    alone = run(tmp_path / "alone", trained)
    assert not any(n.startswith("encoders.") for n in alone.tensors)
