"""The chosen round: the best on validation patients, with the encoders of that round."""

import numpy as np
import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.federation.blocks import index_of, pack
from remind.federation.messages import Examine
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.metrics.scores import EVERY, SCORES
from remind.metrics.selection import Verdict, is_better
from remind.metrics.statistics import merge, total
from remind.model_file import load_model
from remind.site_files import STATE
from remind_server.outputs.run_folder import LAST, MODEL, RunFolder
from remind_server.rounds.state import State
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.grids import SiteGrid
from tests.builders.method_runs import MIXES, config
from tests.builders.observers import Recorder
from tests.builders.sites import site

STEEP = {"train.lr": 0.02, "train.warmup-rounds": 5, "train.routing-rounds": 1, "federation.max-update": 100.0}


def run(folder, settings, observers=(), strategy=FedRemind):
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    strategy(settings, [recorder, *observers]).run(SiteGrid(sites))
    return recorder, sites


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run that chooses among its rounds: its settings, its folder with ``run`` and ``sites``, and what was seen."""
    settings, folder = config(**STEEP, **{"train.select": "overall"}), tmp_path_factory.mktemp("chosen")
    return settings, folder, run(folder / "sites", settings, [RunFolder(folder / "run")])[0]


def values(recorder, score="log_loss"):
    """Score of all validation patients of each round's model, by rounds after which it was the global one."""
    return {r.round - 1: SCORES[score].value(total(r.validation)) for r in recorder.rounds if r.round > 1}


@pytest.mark.parametrize(
    ("rule", "objective", "score"),
    [("fedremind", "groupdro", "log_loss"), ("fedrep", "erm", "auroc"), ("ditto(mu = 0.5)", "erm", "brier")],
)
def test_the_best_round_is_examined_with_what_its_sites_had_then(rule, objective, score, tmp_path):
    changes = {**STEEP, "train.select": "overall", "train.select-score": score}
    found, sites = run(tmp_path / "sites", config(rule=rule, objective=objective, **changes))
    measured, result = values(found, score), found.result
    best = (min if SCORES[score].lower_is_better else max)(measured, key=measured.get)
    assert result.last == 6
    assert result.round in {best, 6}
    assert result.round == best < 6, "these settings overshoot, or the test shows nothing"
    assert result.selected == {"by": "overall", "score": score, "value": measured[best]}
    (then,) = (r.validation for r in found.rounds if r.round == best + 1)
    now = merge(result.validation.values())
    assert {k: s.log_loss_sum for k, s in now.items()} == pytest.approx({k: s.log_loss_sum for k, s in then.items()})
    for one in sites:
        kept = {path.name for path in (tmp_path / "sites" / one.name).glob("encoder-*.pt")}
        # of the best round, the last, and the one before; none of states from which a round could be done again
        assert len(kept) <= 3 * len(one.engine.model.encoders)
        assert set(one.store.digests()) == set(one.engine.model.encoders)


def test_a_site_that_restarts_finds_the_encoders_of_the_best_round(chosen):
    settings, folder, found = chosen
    for seed, (name, mix) in enumerate(MIXES.items()):
        reopened = site(name, cohort(mix, seed), settings, folder / "sites")
        tensors = GlobalModel(found.models[found.result.round - 1]).select(reopened.engine.patients.observed, ())
        task = Examine(round=found.result.round, routing=found.result.routing, index=index_of(tensors, "float32"))
        answer = reopened.examine(task, pack(tensors, "float32"))
        for k, statistics in found.result.test[name].items():
            assert answer.test[k].log_loss_sum == pytest.approx(statistics.log_loss_sum)


def test_last_is_last_and_once_the_run_has_ended_its_encoders_alone_are_kept(tmp_path):
    found, sites = run(tmp_path, config(**STEEP))
    assert (found.result.round, found.result.last, found.result.selected) == (6, 6, None)
    for one in sites:
        assert len(list((tmp_path / one.name).glob("encoder-*.pt"))) == len(one.engine.model.encoders)
        state = torch.load(tmp_path / one.name / STATE, weights_only=True)
        assert (state["earlier"], state["optimizer"]) == ([], {})
        assert not list((tmp_path / one.name).glob("*~*")), "no round of it can be asked for again"


@pytest.mark.parametrize("measured", ["overall", "tail-patients", "mean-tail", "worst-group"])
def test_every_measure(measured, tmp_path):
    rounds = {"train.warmup-rounds": 1, "train.routing-rounds": 1}
    found, _ = run(tmp_path, config(**{"train.select": measured, "data.validation": 0.1} | rounds))
    assert 1 <= found.result.round <= found.result.last == 2


def test_a_model_from_before_a_restart_is_not_chosen(tmp_path):
    settings = config(objective="jtt(identify = 0.5)", **STEEP, **{"train.select": "overall"})
    found, _ = run(tmp_path, settings)
    assert found.result.round >= 5, "three rounds find the mistakes, one looks; the second training begins after four"


def test_an_objective_that_trains_on_validation_patients_is_refused():
    with pytest.raises(UserError, match=r"train\.select: dfr trains on validation patients"):
        FedRemind(config(objective="dfr", **{"train.select": "overall"}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.patience": 2}, "set train.select"),
        ({"train.select": "overall", "federation.participation": 0.5}, "participation = 1"),
        ({"train.select": "overall", "data.validation": 0.0}, "needs validation patients"),
        ({"train.select": "best"}, "train.select"),
    ],
)
def test_settings_that_do_not_go_together(changes, said):
    with pytest.raises(UserError, match=said):
        Config.from_flat(changes)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loss", "train.select-score: there is no 'loss'"),  # differs between objectives, so that it compares no models
        ("aurok", "train.select-score: there is no 'aurok'; did you mean 'auroc'"),
    ],
)
@pytest.mark.parametrize("select", ["overall", "last"])
def test_a_score_that_chooses_no_model_is_refused(name, says, select):
    with pytest.raises(UserError, match=says) as error:
        methods_of(config(**{"train.select": select, "train.select-score": name}))
    assert ", log_loss" in str(error.value)


def test_every_score_that_compares_models_can_choose_one():
    for name, score in EVERY.items():
        if score.comparable:
            methods_of(config(**{"train.select": "overall", "train.select-score": name}))


def test_patience_ends_the_last_stage_early(tmp_path):
    changes = {"train.warmup-rounds": 2, "train.routing-rounds": 12, "train.routing-lr": 0.05, "train.patience": 2}
    settings = config(**(STEEP | changes | {"train.select": "overall"}))
    found, _ = run(tmp_path, settings)
    measured = values(found)
    assert found.result.last < 14
    assert found.result.last - 1 - max(found.result.round, 2) in {1, 2}
    assert measured[min(measured, key=measured.get)] >= found.result.selected["value"]


def test_the_folder_has_both_models_and_says_which_is_which(chosen):
    _, folder, found = chosen
    tensors, said = load_model(folder / "run" / MODEL)
    last, said_last = load_model(folder / "run" / LAST)
    assert said["round"] == str(found.result.round)
    assert (said["last"], said_last["round"]) == ("6", "6")
    assert '"by": "overall"' in said["selected"]
    assert all(torch.equal(tensors[n], t) for n, t in found.models[found.result.round - 1].items())
    assert all(torch.equal(last[n], t) for n, t in found.models[-1].items())


@pytest.mark.parametrize(("rate", "routing", "early"), [(0.02, 5, True), (0.0005, 2, False)])
def test_the_mean_over_rounds_stands_for_the_last_and_each_other_round_for_itself(rate, routing, early, tmp_path):
    """`federation.averaging` beside `train.select`: what is chosen among, and what lies in the folder."""
    rounds = {"train.warmup-rounds": 1, "train.routing-rounds": routing, "train.lr": rate, "train.routing-lr": rate}
    settings = config(**(STEEP | rounds), **{"train.select": "overall", "federation.averaging": 0.9})
    found, _ = run(tmp_path / "sites", settings, [RunFolder(tmp_path / "run")])
    result, own = found.result, values(found)
    mean = {
        name: torch.stack([model[name].double() for model in found.models[1:]]).mean(dim=0) for name in result.tensors
    }
    best = min(own, key=own.get)
    assert (result.round < 1 + routing) is early, "else this shows nothing"
    expected = found.models[best - 1] if early else mean
    assert result.round == (best if early else 1 + routing)
    assert result.selected["value"] == pytest.approx(own[best]) if early else result.selected["value"] < own[best]
    for name, tensor in result.tensors.items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    assert (tmp_path / "run" / LAST).exists() is early
    tensors, _ = load_model(tmp_path / "run" / (LAST if early else MODEL))
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor.double(), mean[name], rtol=1e-5, atol=1e-6)


class FromFile(FedRemind):
    """A coordinator that between two rounds is nothing but a file."""

    path = None

    def _round(self, grid, state):
        super()._round(grid, state).save(self.path, self.methods.weighing)
        return State.load(self.path, self.methods.weighing)


def test_what_is_best_survives_in_the_state_s_file(chosen, tmp_path):
    settings, _, plain = chosen
    FromFile.path = tmp_path / "state.safetensors"
    other, _ = run(tmp_path / "other", settings, strategy=FromFile)
    assert other.result.round == plain.result.round
    assert other.result.selected == plain.result.selected
    assert all(torch.equal(other.result.tensors[n], t) for n, t in plain.result.tensors.items())
    one, again = (total(merge(r.result.test.values())).log_loss_sum for r in (plain, other))
    assert np.isclose(one, again)


def test_few_patients_judge_no_round():
    best = Verdict(3, 0.5, 100)
    assert is_better(Verdict(4, 0.4, 95), best, "log_loss")
    assert not is_better(Verdict(4, 0.6, 95), best, "log_loss")
    assert is_better(Verdict(4, 0.6, 100), best, "auroc")
    assert not is_better(Verdict(4, 0.1, 80), best, "log_loss"), "a site is missing"
    assert is_better(Verdict(4, 0.9, 120), best, "log_loss"), "the best was judged without a site"
    assert not is_better(Verdict(4, 0.5, 100), best, "log_loss"), "a tie is the earlier one's"
