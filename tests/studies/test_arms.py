"""Typed methods become settings; a wrong one gives one message."""

import pytest

from remind.config import Config
from remind.errors import UserError
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.objectives.base import registry as objectives
from remind_server.simulation.flwr_pairs import read_pairs
from remind_studies.arms import all_yardsticks, anchored, anchors, read_arms


def one(text, **common):
    (arm,) = read_arms(text, common)
    return arm


def test_what_is_not_named_is_plain():
    assert one("attention").settings == {
        "method.fusion": "attention",
        "method.objective": "erm",
        "method.rule": "lg",
    }


def test_an_objective_that_weighs_groups_gets_the_rule_under_which_they_span_sites():
    assert one("groupdro").settings["method.rule"] == "fedremind"
    assert one("groupdro").settings["method.fusion"] == "softmoe"
    assert one("groupdro+lg").settings["method.rule"] == "lg"
    assert one("jtt").settings["method.rule"] == "lg"


def test_a_rule_that_needs_travelling_encoders_gets_them():
    assert one("fedavg").settings["federation.encoders"] == "shared"
    assert "federation.encoders" not in one("fedprox").settings


@pytest.mark.parametrize("method", ["pepsy", "fedmac", "clusmfl", "fedfeatgen", "mfcpl"])
def test_a_method_that_shares_what_describes_features_averages_the_encoders(method):
    assert one(method).settings["method.rule"] == "fedavg"
    assert one(method).settings["federation.encoders"] == "shared"
    assert one(f"{method}+lg").settings["method.rule"] == "lg"


def test_remind_is_what_a_run_without_settings_is():
    assert Config.from_flat(one("remind").settings) == Config()


def test_a_preset_is_the_same_here_and_in_a_run_config():
    typed = read_pairs(["paper"], "-c")
    assert Config.from_flat(one("paper").settings) == Config.from_flat(typed)
    assert Config.from_flat(typed).dro.initial == "uniform"


def test_parts_after_remind_win():
    assert one("remind(missing = 'zero')").settings["method.fusion"] == "remind(missing = 'zero')"
    other = one("remind+erm+lg")
    assert other.settings["method.objective"] == "erm"
    assert other.settings["method.rule"] == "lg"


def test_options_labels_and_commas_inside_brackets():
    first, second = read_arms(
        "plain: attention(modality-dropout = 0.3), flexmoe(experts = 8, top-k = 2)+cvar(alpha=0.5)", {}
    )
    assert first.name == "plain"
    assert first.settings["method.fusion"] == "attention(modality-dropout = 0.3)"
    assert second.settings["method.fusion"] == "flexmoe(experts = 8, top-k = 2)"
    assert second.settings["method.objective"] == "cvar(alpha=0.5)"


def test_a_file_of_settings(tmp_path):
    path = tmp_path / "wide.toml"
    path.write_text("seed = 3\n[model]\nwidth = 128\n[dro]\ngamma = 0.5\n")
    arm = one(str(path))
    assert arm.name == "wide"
    assert arm.settings["model.width"] == 128
    assert "seed" not in arm.settings


def test_every_method_can_be_named_alone():
    names = [m.name for registry in (fusions, objectives, rules) for m in registry.methods()]
    assert len(names) == len(set(names)), "a name must mean one thing"
    for name in names:
        assert one(name).name == name


def test_anchors_are_the_same_method_alone_and_in_one_place():
    lower, upper = anchors(one("fedavg"))
    assert lower.settings["method.rule"] == "local"
    assert upper.settings["method.rule"] == "pooled"
    assert lower.anchor
    assert upper.anchor
    assert upper.settings["federation.encoders"] == "local"


def test_yardsticks_are_named_by_their_place_and_a_federation_competes():
    assert (one("boosting").name, one("boosting").anchor) == ("local boosting", True)
    assert (one("boosting+pooled").name, one("boosting+pooled").anchor) == ("boosting+pooled", True)
    assert one("trees: boosting(rounds = 9)+local").options == {"learner": "boosting(rounds = 9)", "place": "local"}
    assert not one("xgb_bagging").anchor


def test_beside_a_method_stand_its_anchors_and_all_yardsticks_none_twice():
    arms = anchored(read_arms("remind, xgb_bagging, boosting", {}), one("remind"))
    names = [arm.name for arm in arms]
    assert len(names) == len(set(names))
    assert {"local remind", "pooled remind", *(arm.name for arm in all_yardsticks())} <= set(names)
    assert {arm.name for arm in arms if not arm.anchor} == {"remind", "xgb_bagging"}
    assert anchors(one("xgb_bagging")) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("boosting+xgb", r"write boosting\+local or boosting\+pooled"),
        ("xgb_bagging+local", "write xgb_bagging"),
        ("boosting(trees = 3)", "there is no such option"),
        ("boostin", "did you mean 'boosting'"),
        ("", "name at least one"),
        ("remindd", "there is no 'remindd'; did you mean 'remind'"),
        ("softmo", "did you mean 'softmoe'"),
        ("papr", "did you mean 'paper'"),
        ("cvar(alfa = 0.5)", "there is no such option; did you mean 'alpha'"),
        ("softmoe, softmoe", "twice"),
        ("cvar(alpha = 7)", "alpha"),
        ("groupdro+afl", "weighs by risk"),
        ("nowhere.toml", "cannot read"),
    ],
)
def test_mistakes_are_one_message(text, says):
    with pytest.raises(UserError, match=says):
        read_arms(text, {})


def test_a_bad_common_setting_is_said_with_the_method():
    with pytest.raises(UserError, match=r"train\.lr"):
        read_arms("softmoe", {"train.lr": -1.0})
