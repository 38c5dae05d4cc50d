"""The presets are valid run configs with the values of algorithm §2 and the budgets in their comments."""

import re
from pathlib import Path

import pytest

from remind.config import Config, SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.encoders.base import map_shapes
from remind.methods import methods_of
from remind.training.outcome_check import check_outcome
from remind_server.simulation.flwr_pairs import read_pairs
from remind_studies.studies.private import guaranteed

PRESETS = Path(__file__).parents[3] / "simulation" / "presets"
PAPER = {  # algorithm §2: D, E, batch, lr, weight decay, seeds, epochs
    "fprm": (128, 32, 32, 5e-5, 5e-6, (2, 42, 778), 50),
    "embed": (768, 128, 32, 5e-5, 5e-5, (0, 1, 42), 20),
    "mimic-iv": (768, 128, 32, 1e-4, 5e-5, (0, 1, 42), 20),
}


def read(name):
    path = PRESETS / f"{name}.toml"
    return Config.from_flat(read_pairs([str(path)], "--run-config"), path.name), path.read_text(encoding="utf-8")


def test_there_is_no_preset_that_is_not_tested():
    tested = {*PAPER, "paper", "recommended", "private", "private-joint", "segmentation"}
    assert {path.stem for path in PRESETS.glob("*.toml")} == tested


@pytest.mark.parametrize("name", PAPER)
def test_values_of_the_paper(name):
    width, experts, batch, lr, decay, seeds, epochs = PAPER[name]
    config, text = read(name)
    assert (config.model.width, config.model.experts, config.train.batch) == (width, experts, batch)
    assert (config.train.lr, config.train.routing_lr, config.train.weight_decay) == (lr, lr, decay)
    assert config.seed == seeds[0]
    assert f"Its seeds: {', '.join(map(str, seeds))}" in text
    assert config.train.rounds == epochs  # one round is one epoch
    assert f"{epochs} epochs" in text


@pytest.mark.parametrize("name", PAPER)
def test_what_all_cohorts_share_is_that_of_the_paper_preset(name):
    own, _ = read(name)
    shared, _ = read("paper")
    differs = {key for key, value in shared.flat().items() if own.flat()[key] != value}
    cohort = {"seed", "model.width", "model.experts", "train.lr", "train.routing-lr", "train.weight-decay"}
    budget = {"train.warmup-rounds", "train.routing-rounds", "train.local-steps", "federation.deadline"}
    assert {key for key in differs if not key.startswith("model.encoders.")} <= cohort | budget
    assert (shared.model.slots, shared.model.heads, shared.model.tokens, shared.model.threshold) == (1, 8, 16, 0.8)
    assert (shared.train.schedule, shared.train.step_rounds, shared.train.step_factor) == ("step", 5, 0.1)
    assert (shared.train.focal_gamma, shared.dro.gamma, shared.dro.initial) == (2, 0.02, "uniform")
    assert shared.train.residual_rate == own.train.residual_rate == 1, "the paper has one learning rate"


def test_the_budget_of_the_comments():
    fprm, text = read("fprm")
    steps = 0.7 * 3394 / fprm.train.batch
    assert round(steps) == int(re.search(r"= (\d+) steps an epoch", text)[1])
    assert round(steps / 5) == fprm.train.local_steps
    for name in ("embed", "mimic-iv"):
        config, text = read(name)
        steps, n, hospitals = re.search(r"(\d+) is that for n = ([\d ]+) at (\d) hospitals", text).groups()
        assert int(steps) == config.train.local_steps
        assert 0.7 * int(n.replace(" ", "")) / (32 * int(hospitals)) == pytest.approx(int(steps), rel=0.01)


def test_encoders_of_the_paper():
    assert read("fprm")[0].model.encoders.image == "resnet50"
    assert read("fprm")[0].model.encoders.volume == "r3d_18"
    assert read("embed")[0].model.encoders.image == "vit_base_patch16_224"
    assert read("mimic-iv")[0].model.encoders.text.endswith("t5-base")


def test_what_is_recommended_differs_from_the_defaults_in_seven_settings():
    recommended, _ = read("recommended")
    differs = {key: value for key, value in recommended.flat().items() if Config().flat()[key] != value}
    assert differs == {
        "method.fusion": "remind(modality-dropout = 0.3)",
        "evaluation.choose-blend": True,
        "model.blend": 0.5,
        "model.encoders.alone": "both",
        "model.linear": True,
        "train.focal-gamma": 0.0,
        "train.select": "overall",
    }
    methods_of(recommended)  # they go together


def test_the_preset_for_private_runs_has_a_small_model_that_learns_fast():
    private, _ = read("private")
    differs = {key: value for key, value in private.flat().items() if Config().flat()[key] != value}
    assert differs == {
        "model.width": 16,
        "model.experts": 4,
        "train.lr": 0.01,
        "train.routing-lr": 0.01,
        "federation.max-update": 2.0,
        "evaluation.calibration": "none",
        "privacy.mode": "site",
    }
    methods_of(private)  # they go together


def test_the_preset_for_noise_that_hospitals_share_is_what_the_study_of_privacy_runs():
    """With the learning rates and sizes of the preset for one hospital's noise, as its row in docs/privacy.md."""
    joint, _ = read("private-joint")
    private, _ = read("private")
    small = ("model.width", "model.experts", "train.lr", "train.routing-lr")
    shared = {key: private.flat()[key] for key in small}
    assert joint == Config.from_flat({**shared, **guaranteed("joint", 8.0)})
    methods_of(joint)  # they go together


def test_the_preset_for_masks_has_an_encoder_with_feature_maps():
    config, text = read("segmentation")
    schema = generate(SyntheticConfig(patients=4, outcome="segmentation", law="brats", size=16), 0).schema
    for choice in (config.model.encoders.choice, *re.findall(r'choice = "([^"]+)"', text)):
        encoders = config.model.encoders.model_copy(update={"choice": choice})
        assert map_shapes(schema.modalities[0], config.model.model_copy(update={"encoders": encoders}))
    check_outcome(schema.predicts, config)
    methods_of(config)  # they go together
