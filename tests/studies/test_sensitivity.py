"""Table 16: one setting at a time, the configured value always among them."""

import pytest

from remind.errors import UserError
from remind_studies.cells.runners import run
from tests.builders.studies import differences, plan, request


def arms(panel, of):
    return {arm.name: differences(of, panel, arm) for arm in panel.arms}


def test_each_panel_varies_one_setting():
    of = request(**{"model.experts": 8})
    gamma, experts, missing, residual = plan("sensitivity", of)
    assert arms(gamma, of) == {
        "γ = 0.02": {},
        "γ = 0.1": {"dro.gamma": 0.1},
        "γ = 0.5": {"dro.gamma": 0.5},
        "γ = 1": {"dro.gamma": 1.0},
    }
    assert arms(experts, of) == {
        "E = 2": {"model.experts": 2},
        "E = 4": {"model.experts": 4},
        "E = 8": {},
        "E = 16": {"model.experts": 16},
        "E = 32": {"model.experts": 32},
    }
    assert [list(found.values())[1:] for found in (arms(missing, of), arms(residual, of))] == [
        [{"method.fusion": 'remind(missing = "zero")'}],
        [{"method.fusion": 'remind(residual = "sine")'}],
    ]


def test_the_reference_is_the_configured_run_in_every_panel_and_run_once():
    of = request("r: remind(residual = 'sine')", **{"dro.gamma": 0.3, "model.experts": 6})
    keys = set()
    for panel in plan("sensitivity", of):
        reference = next(arm for arm in panel.arms if arm.name == panel.reference)
        keys.add(panel.cell(reference, of.common, 1).key(""))
        assert len({panel.cell(arm, of.common, 1).key("") for arm in panel.arms}) == len(panel.arms)
    assert len(keys) == 1


def test_values_of_ones_own():
    of = request(**{"model.experts": 8})
    gamma, experts, *_ = plan("sensitivity(gamma = '0, 2', experts = '0.01')", of)
    assert list(arms(gamma, of)) == ["γ = 0", "γ = 0.02", "γ = 2"]
    assert list(arms(experts, of)) == ["E = 1", "E = 8"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("gamma = 'much'", "gamma: 'much'"),
        ("gamma = '-1'", "-1 is not"),
        ("experts = '0'", "experts: 0 is not"),
        ("experts = '1, nan'", "nan is not"),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        plan(f"sensitivity({options})", request())


def test_another_fusion_model_is_refused():
    with pytest.raises(UserError, match="sensitivity varies REMIND itself"):
        plan("sensitivity", request("softmoe"))


def test_variants_train(tmp_path):
    of = request()
    _, _, missing, residual = plan("sensitivity", of)
    for panel in (missing, residual):
        found = [run(panel.cell(arm, of.common, 0), tmp_path / arm.name).outcomes[0].test for arm in panel.arms]
        assert found[0] != found[1]
