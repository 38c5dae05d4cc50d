"""Intermediate fusion against a loop."""

import torch

from tests.builders.fusions import context, model, noisy, patients
from tests.fusion.loops import loop_gelu, loop_head, loop_linear, loop_norm

GROUPS = (5, 2, 7, 1)


def test_features_side_by_side_placeholders_for_the_missing():
    of = context()
    fusion = noisy(model("intermediate", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b, group in enumerate(GROUPS):
        h = []
        for i, z in enumerate(batch.tokens):
            norm, linear, _ = fusion.features[i]
            own = loop_gelu(loop_linear(linear, loop_norm(norm, z[b].mean(0))))
            h.append(own if group >> i & 1 else fusion.placeholder_mD[i])
        torch.testing.assert_close(logits[b], loop_head(fusion.hidden, fusion.head, torch.cat(h)), rtol=0, atol=1e-10)
