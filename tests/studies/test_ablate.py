"""Ablation: each arm differs only in the part that its name says."""

import pytest

from remind.config import Config
from remind.errors import UserError
from remind.metrics.statistics import merge
from remind_studies.arms import all_yardsticks
from remind_studies.cells.runners import run
from tests.builders.studies import differences, plan, request


def test_each_arm_lacks_its_part_and_nothing_else():
    of = request()
    (panel,) = plan("ablate", of)
    assert panel.reference == "remind"
    assert panel.clients == 3
    assert {arm.name: differences(of, panel, arm) for arm in panel.arms if not arm.anchor} == {
        "remind": {},
        "without DRO": {"method.objective": "erm"},
        "without expert specialisation": {"model.gate": "never"},
        "without both": {"method.objective": "erm", "model.gate": "never"},
        "without B_k": {"method.fusion": 'remind(missing = "zero")'},
        "λ within sites": {"method.rule": "lg"},
    }


def test_every_option_that_is_on_is_left_out_once():
    on = {
        "model.encoders.alone": "linear",
        "model.linear": True,
        "model.projection": True,
        "model.prototypes": 0.3,
        "model.encoders.pretraining-rounds": 2,
        "dro.initial": "shrunk",
        "train.anchor": 1.0,
        "federation.averaging": 0.5,
        "train.shrink": 1.0,
        "model.encoders.numbers": "quantile",
        "model.encoders.periodic": 2,
        "model.encoders.table": "features",
        "model.encoders.series": "set",
    }
    of = request("r: remind(compose = true, rank = 2, modality-dropout = 0.3)", **on)
    (panel,) = plan("ablate", of)
    changed = {a.name: differences(of, panel, a) for a in panel.arms if a.name.startswith("without ") and not a.anchor}
    default = Config().flat()
    for key in on:
        assert {key: default[key]} in changed.values()
    for options in (
        "compose = true, rank = 2",
        "compose = true, modality-dropout = 0.3",
        "rank = 2, modality-dropout = 0.3",
    ):
        found = [c["method.fusion"] for c in changed.values() if "method.fusion" in c]
        assert any(set(options.split(", ")) == set(f[len("remind(") : -1].split(", ")) for f in found)
    assert "without B_k" not in changed, "B is composed: there is none to leave out"
    assert len(changed) == 3 + len(on) + 3


def test_options_of_the_model_stay():
    (panel,) = plan("ablate", request("r: remind(modality-dropout = 0.3)"))
    without = next(arm for arm in panel.arms if arm.name == "without B_k")
    assert without.settings["method.fusion"] == 'remind(modality-dropout = 0.3, missing = "zero")'


def test_where_encoders_travel_the_rule_within_sites_is_fedavg():
    (panel,) = plan("ablate", request(**{"federation.encoders": "shared"}))
    within = next(arm for arm in panel.arms if arm.name == "λ within sites")
    assert within.settings["method.rule"] == "fedavg"


def test_other_methods_stand_beside():
    (panel,) = plan("ablate", request("softmoe, r: remind(missing = 'zero')"))
    found = [(arm.name, arm.anchor) for arm in panel.arms if not arm.runner]
    assert found[-3:] == [("softmoe", False), ("local r", True), ("pooled r", True)]
    assert [arm for arm in panel.arms if arm.runner] == list(all_yardsticks())
    assert panel.reference == "r"


def test_another_fusion_model_is_refused():
    with pytest.raises(UserError, match="ablate varies REMIND itself, and none of attention, softmoe is REMIND"):
        plan("ablate", request("attention, softmoe"))


def losses(panel, arm, of, folder):
    result = run(panel.cell(arm, of.common, 0), folder)
    merged = merge({k: e.value() for k, e in own.items()} for own in result.outcomes[0].test.values())
    return {k: (s.count, s.loss_sum) for k, s in merged.items()}


def test_without_expert_specialisation_it_is_soft_moe(tmp_path):
    of = request()
    (panel,) = plan("ablate", of)
    arms = {arm.name: arm for arm in panel.arms} | {"soft": of.main.but("soft", {"method.fusion": "softmoe"})}
    names = ("without expert specialisation", "soft", "remind")
    without, softmoe, whole = (losses(panel, arms[n], of, tmp_path / n[:3]) for n in names)
    assert without.keys() == softmoe.keys()
    assert all(without[k] == (softmoe[k][0], pytest.approx(softmoe[k][1], rel=1e-6)) for k in softmoe)
    assert whole != without
