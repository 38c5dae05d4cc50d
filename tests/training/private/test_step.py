"""A private step as a whole: it fails closed, gives noise to every parameter, and an audit sees it broken.

The audit calls one step many times with and without a canary, a patient with a combination of its own and a gradient
far above C, and measures how far the two distributions lie apart along the canary's gradient: at most C/σ standard
deviations if all is right.
"""

import numpy as np
import pytest
import torch
from torch import nn

from remind.errors import UserError
from remind.fusion.experts import Experts
from remind.privacy import tape_parts
from remind.privacy.noise import GridNoise
from remind.privacy.tape import Tape, record
from remind.training.private import gradients as gradients_module
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.private.layers import record_layers, require_recorded
from tests.builders.private_steps import SECRET, given, setting

CLIP, NOISE = 0.5, 2.0


def step(work, index, question="q", weights=None, noise=NOISE, idle=lambda name: False):
    """The gradient that a private step of these patients writes, by parameter."""
    private = PrivateGradients(work.model, Clipping(CLIP, noise, 1.0), SECRET, question, idle)
    work.model.zero_grad(set_to_none=True)
    with private.recording():
        if len(index):
            private.compute(work.objective, given(work, index, [1.0] * len(index) if weights is None else weights))
        else:
            private.compute_empty()
    return {n: p.grad for n, p in work.model.named_parameters() if p.grad is not None}


def test_the_same_question_gives_the_same_bits():
    work = setting()
    once, again, other = step(work, [0, 1]), step(work, [0, 1]), step(work, [0, 1], question="r")
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert all(not torch.equal(once[name], other[name]) for name in once)


def test_every_parameter_gets_noise_whoever_is_drawn():
    work = setting()
    training = {name for name, p in work.model.named_parameters() if p.requires_grad}
    for index in ([], [0], [0, 1, 2, 3, 4, 5, 6, 7, 8]):
        found = step(work, index)
        assert set(found) == training
        assert all(grad.abs().min() > 0 for grad in found.values())
    nobody = torch.cat([grad.flatten() for grad in step(work, []).values()])
    assert nobody.std().item() == pytest.approx(CLIP * NOISE, rel=0.05)


def test_noise_that_was_drawn_for_other_parameters_is_refused():
    """Were it used, some parameter would get none."""
    work = setting()
    private = PrivateGradients(work.model, Clipping(CLIP, NOISE, 1.0), SECRET, "q")
    with private.recording():
        work.model.fusion.head.bias.requires_grad_(False)
        with pytest.raises(ValueError, match="another number of parameters"):
            private.compute_empty()


def test_what_is_idle_in_a_stage_gets_none():
    work = setting()
    found = step(work, [0, 1], idle=lambda name: ".residual_" in name)
    assert found
    assert not any(".residual_" in name for name in found)


def test_a_parameter_that_nobody_claims_stops_the_step_by_name():
    work = setting()
    work.model.fusion.norm.extra = nn.Parameter(torch.ones(8, dtype=torch.float64))
    work.model.fusion.norm.register_forward_hook(lambda layer, inputs, output: output * layer.extra)
    with pytest.raises(UserError, match=r"fusion\.norm\.extra would be trained, but its per-patient gradients"):
        step(work, [0, 1])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"method.fusion": "remind(rank = 2)"}, r"groups\.1\.residual_left_LDr"),
        ({"method.fusion": "remind(compose = true)"}, r"parts\.residual_mLDES"),
    ],
)
def test_what_is_not_on_the_tape_is_refused_before_a_step(changes, name):
    work = setting(changes)
    with pytest.raises(UserError, match=f"{name} would be trained"):
        require_recorded(work.model)
    with pytest.raises(UserError, match="would be trained"):
        step(work, [0, 1, 2])


def test_a_layer_that_couples_patients_is_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(UserError, match="1 normalises over the patients of a batch"):
        require_recorded(model)


@pytest.mark.parametrize("kind", ["experts", "linear", "norm"])
def test_layers_agree_with_opacus(kind):
    opacus = pytest.importorskip("opacus")
    torch.manual_seed(1)
    layer, x = {
        "experts": (Experts(3, 4, 5), torch.randn(6, 3, 2, 4)),
        "linear": (nn.Linear(4, 5), torch.randn(6, 7, 4)),
        "norm": (nn.LayerNorm(4), torch.randn(6, 7, 4)),
    }[kind]
    layer, x = layer.double(), x.double()
    ours = Tape()
    with record_layers(layer), record(ours):
        loss = layer(x).square().sum()
    grads = torch.autograd.grad(loss, [one.output for one in ours.records])
    parts = [part for one, grad in zip(ours.records, grads, strict=True) for part in one.parts(grad)]
    sampled = opacus.GradSampleModule(layer, loss_reduction="sum", force_functorch=kind == "experts")
    sampled(x).square().sum().backward()
    coefficient_B = torch.linspace(0.1, 1.0, 6, dtype=torch.float64)
    for name, parameter in layer.named_parameters():
        (part,) = [part for part in parts if part.parameter is parameter]
        grad_B = parameter.grad_sample  # type: ignore[attr-defined]
        torch.testing.assert_close(tape_parts.squared_norms([part], 6), grad_B.flatten(1).square().sum(1), msg=name)
        expected = torch.einsum("b,b...->...", coefficient_B, grad_B)
        torch.testing.assert_close(tape_parts.weighted_sum(part, coefficient_B), expected, msg=name)


def audited(work, calls=40, weight=400.0):
    """Distance between steps with and without a canary, in standard deviations of the noise, along its gradient."""
    others, canary = [0, 1, 4], 8  # nobody else has the canary's combination
    private = PrivateGradients(work.model, Clipping(1e9, 0.0, 1.0), SECRET, "look")
    with private.recording():
        alone = private.clipped_sum(work.objective, given(work, [canary], [weight]))
    norm = torch.stack([g.square().sum() for g in alone.sums.values()]).sum().sqrt().item()
    assert norm > 8 * CLIP
    direction = {n: g / norm for n, g in alone.sums.items()}

    def along(index, question):
        weights = [weight if i == canary else 1.0 for i in index]
        return sum(
            (g * direction[n]).sum().item() for n, g in step(work, index, question, weights).items() if n in direction
        )

    without = np.array([along(others, f"out {i}") for i in range(calls)])
    inside = np.array([along([*others, canary], f"in {i}") for i in range(calls)])
    return (inside.mean() - without.mean()) / (CLIP * NOISE), np.concatenate(
        [inside - inside.mean(), without - without.mean()]
    ).std() / (CLIP * NOISE)


def passes(work):
    """Whether the audit finds what C and σ promise: a distance of 1/σ and noise of σC, within its own error."""
    distance, spread = audited(work)
    return distance < 1 / NOISE + 0.3 and 0.8 < spread < 1.2


def audited_model():
    return setting({"model.width": 4, "model.experts": 2, "model.tokens": 2})


def test_the_audit_passes():
    distance, spread = audited(audited_model())
    assert 0.2 < distance < 1 / NOISE + 0.3
    assert spread == pytest.approx(1.0, abs=0.2)


def broken_noise(factor):
    return lambda bound, noise, numbers: GridNoise(bound, noise * factor, numbers)


def no_clip(self, parts, patients, like):
    self.how = Clipping(1e9, self.how.noise, self.how.patients)
    found = CLIPPED(self, parts, patients, like)
    self.how = Clipping(CLIP, self.how.noise, self.how.patients)
    return found


def weight_after_clip(self, parts, patients, like):
    found = CLIPPED(self, parts, patients, like)
    return gradients_module.ClippedSum({n: g * like.max() for n, g in found.sums.items()}, found.norm_B)


def clip_by_tensor(self, parts, patients, like):
    each = {name: CLIPPED(self, {name: several}, patients, like) for name, several in parts.items()}
    return gradients_module.ClippedSum({n: one.sums[n] for n, one in each.items()}, next(iter(each.values())).norm_B)


CLIPPED = PrivateGradients._clipped
MUTATIONS = {
    "noise off": ("GridNoise", broken_noise(0.0)),
    "noise halved": ("GridNoise", broken_noise(0.5)),
    "clip off": ("_clipped", no_clip),
    "clip per tensor": ("_clipped", clip_by_tensor),
    "weight after the clip": ("_clipped", weight_after_clip),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_audit_fails_when_the_step_is_broken(mutation, monkeypatch):
    name, broken = MUTATIONS[mutation]
    monkeypatch.setattr(gradients_module if name == "GridNoise" else PrivateGradients, name, broken)
    assert not passes(audited_model())
