"""Masked attention equals attention on the shorter sequence."""

import pytest
import torch

from remind.fusion.attention import AttentionFusion, AttentionOptions
from remind.fusion.base import Context
from tests.builders.fusions import CLASSES, Patients, context, model, noisy, patients
from tests.fusion.loops import loop_attention, loop_linear, loop_norm, loop_perceptron

GROUPS = (5, 2, 7, 4, 3)


@pytest.mark.parametrize("layers", [1, 3])
def test_equals_a_model_that_never_heard_of_the_missing(layers):
    of = context()
    fusion = noisy(model("attention", of, options=f"layers = {layers}").double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b, group in enumerate(GROUPS):
        has = [i for i in range(3) if group >> i & 1]
        shorter = Context(
            model=of.model,
            classes=CLASSES,
            modalities=tuple("abc"[: len(has)]),
            tokens=tuple(of.tokens[i] for i in has),
        )
        small = AttentionFusion(shorter, AttentionOptions(layers=layers)).double().eval()
        small.load_state_dict(fusion.state_dict())
        full = torch.tensor([(1 << len(has)) - 1])
        alone = Patients([batch.tokens[i][b : b + 1] for i in has], torch.ones(1, len(has), dtype=torch.bool), full)
        torch.testing.assert_close(logits[b], alone.given_to(small).logits_BC[0], rtol=0, atol=1e-11)


def test_equals_the_loop():
    of = context()
    fusion = noisy(model("attention", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    (layer,) = fusion.layers
    for b, group in enumerate(GROUPS):
        z = torch.cat([z[b] for i, z in enumerate(batch.tokens) if group >> i & 1])
        z = z + loop_attention(layer.attention, torch.stack([loop_norm(layer.attention_norm, t) for t in z]))
        rows = [t + loop_perceptron(layer.mlp, loop_norm(layer.mlp_norm, t)) for t in z]
        mean = torch.stack([loop_norm(fusion.norm, t) for t in rows]).mean(0)
        torch.testing.assert_close(logits[b], loop_linear(fusion.head, mean), rtol=0, atol=1e-10)


def test_order_of_tokens_does_not_matter():
    of = context()
    fusion = noisy(model("attention", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    expected = batch.given_to(fusion).logits_BC
    batch.tokens = [z.flip(1) for z in batch.tokens]
    torch.testing.assert_close(batch.given_to(fusion).logits_BC, expected, rtol=0, atol=1e-11)
