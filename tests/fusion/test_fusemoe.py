"""FuseMoE against a loop over patients, tokens and experts."""

import pytest
import torch

from remind.fusion.fusemoe import FuseMoEOptions
from remind.fusion.sparse import balance_loss
from tests.builders.fusions import context, model, noisy, patients
from tests.fusion.loops import loop_attention, loop_expert, loop_linear, loop_norm, loop_top_k

GROUPS = (5, 2, 7, 5, 1, 6)


def slow(fusion, of, batch, b):
    """Logits of one patient, and the weight of every expert for each of their tokens."""
    parts, router = [], []
    for i, length in enumerate(of.tokens):
        present = batch.presence[b, i]
        parts.append(batch.tokens[i][b] if present else torch.stack([fusion.indicator_mD[i]] * length))
        router += [i] * length
    z = torch.cat(parts)
    z = z + loop_attention(fusion.attention, torch.stack([loop_norm(fusion.attention_norm, t) for t in z]))
    blocks, weights = [[] for _ in of.tokens], []
    for t, i in zip(z, router, strict=True):
        x = loop_norm(fusion.moe_norm, t)
        score = torch.stack([-((x - w) ** 2).sum().sqrt() for w in fusion.gates[i].centre_ED])
        kept = loop_top_k(score, 2)
        weights.append([kept[e].item() if e in kept else 0.0 for e in range(len(score))])
        out = t + sum(w * loop_expert(fusion.moe.experts, e, x) for e, w in kept.items())
        blocks[i].append(loop_norm(fusion.norm, out))
    return loop_linear(fusion.head, torch.cat([sum(block) / len(block) for block in blocks])), weights


def test_equals_the_loop():
    of = context()
    fusion = noisy(model("fusemoe", of, options="experts = 5").double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion)
    for b in range(len(GROUPS)):
        logits, weights = slow(fusion, of, batch, b)
        torch.testing.assert_close(output.logits_BC[b], logits, rtol=0, atol=1e-9)
        use = torch.tensor(weights, dtype=torch.float64).mean(dim=0)
        torch.testing.assert_close(output.use_BE[b], use, rtol=0, atol=1e-9)


def test_balance_counts_the_tokens_of_all_routers_together():
    of = context()
    fusion = noisy(model("fusemoe", of, options="experts = 5, auxiliary = 0.25").double()).train()
    seen = []
    for gate in fusion.gates:
        gate.register_forward_hook(lambda _, __, routed: seen.append(routed))
    auxiliary = patients(of, GROUPS, dtype=torch.float64).given_to(fusion).auxiliary_B
    assert len(seen) == 3
    together = balance_loss(torch.cat([r.weight_NE for r in seen]), torch.cat([r.load_NE for r in seen])).item()
    assert auxiliary.tolist() == pytest.approx([0.25 * together] * len(GROUPS))


def test_settings_of_the_paper():
    assert (FuseMoEOptions().top_k, FuseMoEOptions().auxiliary) == (2, 0.01)
