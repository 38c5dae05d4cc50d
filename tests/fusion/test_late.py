"""Late fusion against a loop."""

import torch

from tests.builders.fusions import context, model, noisy, patients
from tests.fusion.loops import loop_head, loop_norm, loop_softmax

GROUPS = (5, 2, 7, 1)


def test_probabilities_are_averaged_over_the_modalities_present():
    of = context()
    fusion = noisy(model("late", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    p = batch.given_to(fusion).logits_BC.exp()
    for b, group in enumerate(GROUPS):
        own = []
        for i, z in enumerate(batch.tokens):
            norm, hidden = fusion.hidden[i]
            if group >> i & 1:
                own.append(loop_softmax(loop_head(hidden, fusion.head[i], loop_norm(norm, z[b].mean(0)))))
        torch.testing.assert_close(p[b], sum(own) / len(own), rtol=0, atol=1e-10)


def test_a_sure_modality_cannot_outshout_the_rest():
    of = context()
    fusion = model("late", of)
    with torch.no_grad():
        for i, head in enumerate(fusion.head):
            head.weight.zero_()
            head.bias.copy_(torch.tensor([1000.0, 0.0, 0.0]) if i == 0 else torch.tensor([0.0, 5.0, 0.0]))
    output = patients(of, (7,)).given_to(fusion).logits_BC
    assert output.isfinite().all()
    assert output.argmax() == 1
