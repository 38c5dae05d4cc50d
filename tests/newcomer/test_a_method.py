"""A fusion model, an objective and a federated rule, with a state or without, are one file each."""

import pytest
import torch

import remind.federation.rules.base as rules_base
import remind.fusion.base as fusion_base
import remind.objectives.base as objectives_base
from tests.builders.contracts import hold
from tests.builders.method_runs import completes, config
from tests.builders.recipes import added, files_of
from tests.builders.trees import Tree
from tests.federation import test_every_rule as rule_contract
from tests.fusion import test_every_method as fusion_contract
from tests.objectives import test_losses_of_steps as objective_contract

FUSION = files_of("methods-fusion.md", "Adding a method")
OBJECTIVE = files_of("methods.md", "Add an objective")
RULES = files_of("methods.md", "Add a federated rule")
RULE, WITH_STATE = ({path: text} for path, text in RULES.items())


def test_each_is_one_file():
    assert list(FUSION) == ["remind/fusion/fifteenth.py"]
    assert list(OBJECTIVE) == ["remind/objectives/fifteenth.py"]
    assert list(RULES) == ["remind/federation/rules/sixteenth.py", "remind/federation/rules/fifteenth.py"]


def test_a_fusion_model_passes_the_contract(tmp_path, monkeypatch):
    with added(FUSION, tmp_path, monkeypatch, fusion_base.registry):
        assert "test_learns" in hold(fusion_contract, name="fifteenth")
        completes(tmp_path / "run", config(fusion="fifteenth(modality-dropout = 0.1)"))


def test_an_objective_passes_the_contract(tmp_path, monkeypatch):
    with added(OBJECTIVE, tmp_path, monkeypatch, objectives_base.registry):
        for ranking in (0.0, 0.3):
            objective_contract.test_the_loss_of_a_step_is_the_weighted_sum_of_its_patients_losses_or_says_that_it_is_not(
                "fifteenth", ranking
            )
        recorder = completes(tmp_path / "run", config(objective="fifteenth(alpha = 0.5)"))
    assert recorder.rounds[-1].weights_after != recorder.rounds[0].weights_used


def test_a_rule_with_a_state_passes_the_contract(tmp_path, monkeypatch):
    with added(WITH_STATE, tmp_path, monkeypatch, rules_base.registry):
        assert len(hold(rule_contract, text="fifteenth")) >= 5
        settled, half = (
            completes(tmp_path / str(rate), config(rule=f"fifteenth(rate = {rate})")).models for rate in (1.0, 0.5)
        )
    assert any(not torch.equal(settled[0][n], half[0][n]) for n in settled[0])


def test_a_rule_passes_the_contract(tmp_path, monkeypatch):
    with added(RULE, tmp_path, monkeypatch, rules_base.registry):
        assert len(hold(rule_contract, text="sixteenth")) >= 5
        recorder = completes(tmp_path / "run", config(rule="sixteenth(keep = 'head')"))
    assert recorder.models[-1]
    assert not any("head" in name for name in recorder.models[-1])


@pytest.mark.slow
def test_all_tests_that_take_every_method_hold_for_them(tmp_path):
    """In a copy of the tree that has these files: tests which name methods must not demand that there be no others."""
    tree = Tree.copy(tmp_path)
    tree.add(FUSION | OBJECTIVE | RULES)
    of_all = "is_in_a_run or of_the_list or of_the_document or couple_patients or stand_still or of_the_specification"
    tree.passes(
        *("tests/federation/test_every_rule.py", "tests/federation/test_reductions.py", "tests/fusion"),
        *("tests/federation/test_drawn_sites.py", "tests/federation/aggregators/test_aggregators.py"),
        *("tests/objectives", "tests/federation/test_fedbn.py", "tests/server/test_method_matrix.py"),
        *("tests/client/test_private_site.py", "tests/training/private/test_gradients.py"),
        *("-k", f"fifteenth or sixteenth or {of_all}"),
    )
