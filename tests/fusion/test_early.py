"""Early fusion against a loop."""

import torch

from tests.builders.fusions import context, model, noisy, patients
from tests.fusion.loops import loop_head

GROUPS = (5, 2, 7, 1)


def test_means_side_by_side_zeros_for_the_missing():
    of = context()
    fusion = noisy(model("early", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b, group in enumerate(GROUPS):
        x = [z[b].mean(0) if group >> i & 1 else torch.zeros(8).double() for i, z in enumerate(batch.tokens)]
        torch.testing.assert_close(logits[b], loop_head(fusion.hidden, fusion.head, torch.cat(x)), rtol=0, atol=1e-10)
