"""Methods by name: the recipes of the documents pass the contract tests; what is no method is refused at once."""

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import remind.federation.rules.base as rules_base
import remind.fusion.base as fusion_base
import remind.objectives.base as objectives_base
from remind.config import Section
from remind.fusion.base import FusionModel, FusionOptions
from remind.objectives.base import Objective
from remind.registry import Options, Registry
from tests.builders import recipes
from tests.builders.recipes import recipe
from tests.federation import test_every_rule as rule_contract
from tests.fusion import test_every_method as contract
from tests.server.test_method_matrix import completes, config


@contextmanager
def added(base, text: str, folder: Path, monkeypatch):
    """Within the block the file is one of the method's folder."""
    path = base.registry.package.replace(".", "/") + "/fifteenth.py"
    with recipes.added({path: text}, folder, monkeypatch, base.registry):
        yield


def test_the_recipe_for_a_fusion_model_passes_the_contract(tmp_path, monkeypatch):
    with added(fusion_base, recipe("methods-fusion.md", "class Fifteenth("), tmp_path, monkeypatch):
        name = "fifteenth"
        for routing in (False, True):
            contract.test_tokens_of_absent_modalities_touch_neither_output_nor_gradient(name, routing, float("nan"))
            contract.test_patients_do_not_see_each_other_and_their_order_does_not_matter(name, routing)
            contract.test_every_present_modality_has_a_say(name, routing)
            contract.test_any_combination_of_any_number_of_modalities(name, routing, 8)
            contract.test_double_precision_throughout(name, routing)
            contract.test_bfloat16_autocast(name, routing)
            contract.test_the_last_layer_is_called_head(name, routing)
        contract.test_gradients_reach_every_parameter_in_one_stage_or_the_other(name)
        contract.test_all_that_counts_can_travel(name)
        contract.test_modality_dropout_changes_training_and_nothing_else(name)
        contract.test_learns(name)
        completes(tmp_path / "run", config(fusion="fifteenth(modality-dropout = 0.1)"))


def test_the_recipe_for_an_objective_runs_the_whole_way(tmp_path, monkeypatch):
    with added(objectives_base, recipe("methods.md", "class Fifteenth(Objective)"), tmp_path, monkeypatch):
        recorder = completes(tmp_path / "run", config(objective="fifteenth(alpha = 0.5)"))
    assert recorder.rounds[-1].weights_after != recorder.rounds[0].weights_used


def test_the_recipe_for_a_rule_with_a_memory_runs_the_whole_way(tmp_path, monkeypatch):
    with added(rules_base, recipe("methods.md", "class Fifteenth(Rule)"), tmp_path, monkeypatch):
        settled, half = (
            completes(tmp_path / str(rate), config(rule=f"fifteenth(rate = {rate})")).models for rate in (1.0, 0.5)
        )
        for dtype in (torch.float32, torch.float64):
            rule_contract.test_a_step_is_a_pure_function_that_keeps_names_shapes_and_types("fifteenth", dtype)
        rule_contract.test_a_block_in_no_reply_keeps_its_value_and_its_memory("fifteenth")
        rule_contract.test_a_group_that_appears_later_has_no_memory_yet("fifteenth")
        rule_contract.test_a_site_receives_the_tensors_of_the_model_by_their_names("fifteenth")
    assert any((settled[0][n] != half[0][n]).any() for n in settled[0])


def test_the_recipe_for_a_rule_runs_the_whole_way(tmp_path, monkeypatch):
    with added(rules_base, recipe("methods.md", "class Sixteenth(Rule)"), tmp_path, monkeypatch):
        recorder = completes(tmp_path / "run", config(rule="sixteenth(keep = 'head')"))
    assert recorder.models[-1]
    assert not any("head" in name for name in recorder.models[-1])


def test_a_class_that_is_no_method_is_refused_when_it_is_registered():
    things = Registry("thing", "things", FusionModel, FusionOptions)
    about: dict[str, Any] = {"title": "", "paper": "", "year": 2030}
    with pytest.raises(TypeError, match=r"thing 'a': Objective must derive from remind\.fusion\.base\.FusionModel"):
        things.register("a", **about)(Objective)
    with pytest.raises(TypeError, match="thing 'a': Unfinished must define fuse"):

        @things.register("a", **about)
        class Unfinished(FusionModel):
            pass

    wrong: list[Any] = [Options, Section]
    for options in wrong:
        with pytest.raises(TypeError, match=r"must derive from remind\.fusion\.base\.FusionOptions"):

            @things.register("a", **about, options=options)
            class Wrong(FusionModel):
                def fuse(self, tokens, presence_Bm, group_B, routing): ...


def test_a_method_without_options_has_those_of_its_folder():
    things = Registry("thing", "tests", FusionModel, FusionOptions)

    @things.register("plain", title="", paper="", year=2030)
    class Plain(FusionModel):
        def fuse(self, tokens, presence_Bm, group_B, routing): ...

    assert things._methods["plain"].options is FusionOptions


@pytest.mark.parametrize(
    "place",
    [
        "remind.fusion.base.FusionModel",
        "remind.fusion.sparse.Gate",
        "remind.encoders.base.Encoder",
        "remind.federation.rules.units.UnitRule",
        "remind_studies.study.Study",
    ],
)
def test_what_is_abstract_cannot_be_made(place):
    module, _, name = place.rpartition(".")
    with pytest.raises(TypeError, match="Can't instantiate abstract class"):
        getattr(import_module(module), name)(*[None] * 5)
