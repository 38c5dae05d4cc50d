"""The card of a model says which guarantee its training gave to patients."""

import pytest
from huggingface_hub import ModelCard

from remind.config import Config, PrivacyConfig, Scalar
from remind.export.card import Wishes, _privacy
from remind.export.folder import export_run
from remind_server.outputs.run_folder import RunFolder
from remind_server.simulation.simulate import simulate
from tests.builders.configs import BASE

PRIVATE: dict[str, Scalar] = {
    "privacy.mode": "site",
    "privacy.epsilon": 6.5,
    "privacy.delta": 1e-4,
    "evaluation.calibration": "none",
    "federation.encoders": "frozen",
    "synthetic.patients": 200,
    "synthetic.kinds": "table, table, table, table",
    "synthetic.standardise": "given",
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
}


@pytest.mark.slow
def test_a_private_runs_card_has_its_epsilon(tmp_path):
    config = Config.from_flat(BASE | PRIVATE | {"results": str(tmp_path / "run")})
    simulate(config, 2, [RunFolder(tmp_path / "run")])
    export_run(tmp_path / "run", tmp_path / "out", Wishes(10), {})
    text = ModelCard.load(tmp_path / "out" / "README.md").text
    assert "Differential privacy of training patients: **ε = 6.5 at most, at δ = 0.0001**" in text
    assert "`privacy.mode = site`: each hospital adds all of the noise" in text
    assert "does not hold for a simulation" in text
    assert "without noise" not in text


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        (PrivacyConfig(), "**none**. The model was trained without noise"),
        (PrivacyConfig(mode="joint", colluding=2), "all of them but 2 keep their shares secret"),
    ],
)
def test_each_mode_has_its_words(privacy, said):
    assert said in _privacy(privacy)
