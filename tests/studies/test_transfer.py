"""Study transfer: three rows of as many rounds, and a column for each group."""

import pytest

from remind import groups
from remind.errors import UserError
from tests.builders.studies import plan, request


def test_three_rows_and_the_groups_columns():
    of = request("softmoe, remind")
    counts = groups.counts(of.cohort.groups_N)
    most = max(len(groups.members(k)) for k in counts)
    panels = plan("transfer(least = 5, share = 0.5)", of)
    assert [panel.name for panel in panels] == ["softmoe", "remind"]
    for panel in panels:
        everyone, alone, first = panel.arms
        assert panel.reference == everyone.name == "everyone"
        rounds = alone.settings["train.rich-rounds"]
        assert first.settings["train.rich-rounds"] == pytest.approx(int(rounds) / 2, abs=0.5)
        assert alone.settings["train.rich-modalities"] == first.settings["train.rich-modalities"] == most
        assert everyone.settings["train.rich-rounds"] == 0
        assert panel.measures == tuple(f"among:{k}" for k, n in sorted(counts.items()) if n >= 5)
        assert f"patients with {most} modalities or more first" in panel.title


@pytest.mark.parametrize(
    ("options", "words"), [("modalities = 99", "no patient has 99"), ("modalities = 1", "every patient")]
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        plan(f"transfer({options})", request())


@pytest.mark.parametrize("study", ["transfer", "unseen", "calibration", "adapt"])
def test_trees_are_no_model_whose_training_a_study_changes(study):
    """They had rows of their own: three times the same trees, as if they had been trained on the rich alone."""
    with pytest.raises(UserError, match=r"changes how a model is trained, and .*boosting is none; leave it out"):
        plan(study, request("remind, boosting"))


def test_a_setting_that_the_study_sets_is_not_ignored():
    with pytest.raises(UserError, match=r"train.rich-rounds: transfer sets it; give"):
        plan("transfer(least = 5)", request(**{"train.rich-rounds": 1}))
