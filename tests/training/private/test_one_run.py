"""An audit of one run (Steinke et al. 2023, arXiv 2305.08846): can it be told which of 200 canaries were in it?

Each canary is a patient with a combination of its own, so that nobody else writes its Φ_k and B_k, and with a gradient
far above C. A coin decides whether it takes part. Anybody who sees the sum of all steps guesses; so many right guesses
refute an ε. The run claims ε 1: 150 guesses cannot refute more than 3.9, so a claim of 8 could never fail.
"""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from remind.config import Scalar
from remind.data.batches.batch import SiteData
from remind.methods import methods_of
from remind.privacy.accounting import noise_multiplier
from remind.privacy.noise import GridNoise
from remind.training.private import gradients as gradients_module
from remind.training.private.draws import poisson_steps
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.sampling import Step
from remind.training.site_data import FreshTokens
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings

NAMES, CANARIES, OTHERS = "abcdefgh", 200, 30
GUESSES = 75  # in, and as many out; of the others nothing is guessed
CLAIM, DELTA, STEPS, RATE, CLIP = 1.0, 1e-5, 20, 0.5, 0.5
HEAVY = 400.0  # weight of a canary: its gradient is far above C
SECRET = bytes(range(32))


def run(noise):
    """In or out of each canary, and the score of it after one run."""
    torch.manual_seed(0)
    changes: dict[str, Scalar] = {
        "method.objective": "erm",
        "model.width": 4,
        "model.experts": 2,
        "model.tokens": 2,
        "model.gate": "always",
    }
    config, of = settings(changes), schema(NAMES, series=())
    groups = [*range(1, CANARIES + 1), *[255] * OTHERS]
    patients = cohort(groups, of=of)
    model = SiteModel(patients.schema, config, tuple(NAMES))
    model.fusion.add_groups(tuple(sorted(set(groups))), 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".residual_" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    source = FreshTokens(model, SiteData(patients, torch.float32))
    work = LocalWork(model, methods_of(config).objective, source, RoundSettings(routing=True), (), None)

    def gradient(private, step):
        model.zero_grad(set_to_none=True)
        with private.recording():
            if len(step.index_B):
                batch, tokens = next(source.batches([step.index_B]))
                private.compute(work.objective, work.step_input(step, batch, tokens, 0))
            else:
                private.compute_empty()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    canaries = np.arange(CANARIES)
    exact = gradient(
        PrivateGradients(model, Clipping(CLIP, 0.0, 1.0), SECRET, "look"), Step(canaries, np.full(CANARIES, HEAVY))
    )
    in_N = np.random.default_rng(7).random(CANARIES) < 0.5
    index = np.concatenate([canaries[in_N], np.arange(CANARIES, CANARIES + OTHERS)])
    relative = dict.fromkeys(range(1, CANARIES + 1), HEAVY) | {255: 1.0}
    drawn = poisson_steps(index, np.array(groups)[index], relative, RATE, STEPS, SECRET, "the run")
    private = PrivateGradients(model, Clipping(CLIP, noise, 1.0), SECRET, "the run")
    total = {}
    for step in drawn:
        for name, grad in gradient(private, step).items():
            total[name] = total[name] + grad if name in total else grad

    def score(k):
        own = [name for name in total if name.startswith(f"fusion.groups.{k}.")]
        length = torch.stack([exact[name].square().sum() for name in own]).sum().sqrt()
        assert length > 0.05 * CLIP, "the canary's own part is there to be seen"
        return sum((total[name] * exact[name]).sum().item() for name in own) / length.item()

    return in_N, np.array([score(k) for k in range(1, CANARIES + 1)])


def refuted(in_N, score_N):
    """The largest ε that so many right guesses refute, at 95 %: the highest are guessed in, the lowest out."""
    order = np.argsort(score_N, kind="stable")
    right = int((~in_N[order[:GUESSES]]).sum() + in_N[order[-GUESSES:]].sum())
    every = np.linspace(0, 6, 601)
    chance = binom.sf(right - 1, 2 * GUESSES, 1 / (1 + np.exp(-every))) + 4 * GUESSES * DELTA
    return float(every[chance <= 0.05].max(initial=0.0))


def noise_of_the_claim():
    return noise_multiplier(CLAIM, DELTA, RATE, STEPS)


def test_the_run_keeps_its_claim():
    assert refuted(*run(noise_of_the_claim())) <= CLAIM


def without_noise(bound, noise, numbers):
    return GridNoise(bound, 1e-9, numbers)


def without_clip(self, parts, patients, like):
    kept, self.how = self.how, Clipping(1e9, self.how.noise, self.how.patients)
    found = CLIPPED(self, parts, patients, like)
    self.how = kept
    return found


CLIPPED = PrivateGradients._clipped


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        pytest.param(gradients_module, "GridNoise", without_noise, id="noise off"),
        pytest.param(PrivateGradients, "_clipped", without_clip, id="clip off"),
    ],
)
def test_the_audit_refutes_a_broken_run(owner, name, broken, monkeypatch):
    noise = noise_of_the_claim()
    monkeypatch.setattr(owner, name, broken)
    assert refuted(*run(noise)) > 3 * CLAIM


def test_what_can_be_refuted_at_all():
    in_N = np.arange(CANARIES) % 2 == 0
    assert 3.8 < refuted(in_N, in_N.astype(float)) < 3.9
    assert refuted(in_N, np.arange(CANARIES).astype(float)) == 0
