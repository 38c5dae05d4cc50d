"""What protections mean for the numbers of a run is said where the numbers are."""

from remind.config import Scalar
from remind_server.outputs.protections import is_summed, remarks
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
