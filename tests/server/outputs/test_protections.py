"""What protections mean for the numbers of a run is said where the numbers are."""

from remind.config import Scalar
from remind_server.outputs.protections import is_summed, nothing_between, remarks, remarks_on_chance
from tests.builders.configs import settings


def test_a_run_without_protections_needs_no_remark():
    assert remarks(settings({}).flat()) == []
    assert not is_summed(settings({}).flat())


def test_sums_and_noise_are_said_with_their_numbers():
    (sums,) = remarks(settings({"federation.secure-aggregation": True}).flat())
    assert "fewer than 3 hospitals" in sums
    private: dict[str, Scalar] = {
        "privacy.mode": "site",
        "privacy.counts-noise": 7.0,
        "privacy.delta": 1e-4,
        "evaluation.calibration": "none",
    }
    (noise,) = remarks(settings(private).flat())
    assert "σ = 7.0 patients" in noise
    assert "δ = 0.0001" in noise


SITE: dict[str, Scalar] = {"privacy.mode": "site", "evaluation.calibration": "none"}


def test_why_a_round_has_no_scores_is_said():
    assert nothing_between(settings({}).flat()) == ""
    assert "under secure aggregation; the final" in nothing_between(
        settings({"federation.secure-aggregation": True}).flat()
    )
    assert "under privacy.mode = site, and no risk;" in nothing_between(settings(SITE).flat())
    losses = settings(SITE | {"privacy.loss-every": 5}).flat()
    assert "and the risk every 5 round(s) alone;" in nothing_between(losses)


def test_a_private_model_that_is_hardly_better_than_guessing_is_called_so():
    private = settings(SITE).flat()
    for scores in ((0.52, 0.47, 0.57), (0.7, 0.45, 0.95), (0.57, 0.54, 0.6), (0.4, 0.3, 0.45)):
        (said,) = remarks_on_chance(private, "auroc", *scores)
        assert "hardly more than guessing" in said
        assert "remind bench privacy" in said
    assert remarks_on_chance(private, "auroc", 0.8, 0.75, 0.85) == []
    assert remarks_on_chance(settings({}).flat(), "auroc", 0.5, 0.4, 0.6) == []
    (said,) = remarks_on_chance(private, "auroc", None, None, None)
    assert "no score of the final model is known" in said
