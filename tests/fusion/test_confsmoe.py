"""ConfSMoE against loops: confidences as the gate, imputation before and after the experts, training of the gate."""

import math

import pytest
import torch

from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_expert, loop_linear, loop_norm, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
KEPT = 2


def loop_patient(fusion, of, batch, b):
    """Logits, and the confidences of the kept experts of each own token."""
    out, seen, confidences = [], [], []
    for i, z in enumerate(batch.tokens):
        present = bool(batch.presence[b, i])
        for token in z[b] if present else fusion.missing[i]:
            x = loop_norm(fusion.moe_norm, token)
            confidence = 1 / (1 + (-loop_linear(fusion.confidence, x)).exp())
            kept = sorted(range(len(confidence)), key=lambda e: -confidence[e].item())[:KEPT]
            out.append(token + sum(confidence[e] * loop_expert(fusion.moe.experts, e, x) for e in kept))
            seen.append(present)
            if present:
                confidences += [confidence[e].item() for e in kept]
    number = math.ceil(sum(seen) / 4)
    keys = {n: loop_linear(fusion.key, o) for n, o in enumerate(out) if seen[n]}
    final = []
    for n, raw in enumerate(out):
        o = raw
        if not seen[n]:
            query = loop_linear(fusion.query, o)
            score = {j: (query * key).sum() / math.sqrt(len(o)) for j, key in keys.items()}
            best = sorted(score, key=lambda j: -score[j].item())[:number]
            weight = loop_softmax(torch.stack([score[j] for j in best]))
            o = raw + sum(w * loop_linear(fusion.value, out[j]) for w, j in zip(weight, best, strict=True))
        final.append(loop_norm(fusion.norm, o))
    blocks = torch.stack(final).split(list(of.tokens))
    return loop_linear(fusion.head, torch.cat([block.mean(dim=0) for block in blocks])), confidences


def test_equals_the_loop():
    of = context()
    fusion = noisy(model("confsmoe", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], loop_patient(fusion, of, batch, b)[0], rtol=0, atol=1e-9)


def test_confidence_learns_the_probability_of_the_true_class_from_own_tokens():
    of = context()
    fusion = noisy(model("confsmoe", of, options="auxiliary = 3.0").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    loss = batch.given_to(fusion).loss(LABEL, cross_entropy)
    for b in range(len(GROUPS)):
        logits, confidences = loop_patient(fusion, of, batch, b)
        true = loop_softmax(logits)[LABEL[b]].item()
        error = sum((c - true) ** 2 for c in confidences) / len(confidences)
        expected = cross_entropy(logits.unsqueeze(0), LABEL[b : b + 1]).item() + 3 * error
        assert loss[b].item() == pytest.approx(expected, abs=1e-9)
