"""FedMAC against loops over patients and modalities: weights by reconstruction, and each added loss by itself."""

import math

import pytest
import torch

from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_linear, loop_norm, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
TAU = 0.3


def cosine(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def mapped(maps, i, x):
    return torch.stack([(maps.weight_mDD[i, :, e] * x).sum() for e in range(len(x))]) + maps.bias_mD[i]


def features(fusion, batch, b):
    """z, ẑ and u of a patient."""
    z = [t[b].mean(dim=0) if batch.presence[b, i] else fusion.embedding_mD[i] for i, t in enumerate(batch.tokens)]
    told = [mapped(fusion.reconstruct, i, (z[(i + 1) % 3] + z[(i + 2) % 3]) / 2) for i in range(3)]
    w = loop_softmax(torch.tensor([cosine(t, x) / TAU for t, x in zip(told, z, strict=True)], dtype=torch.float64))
    u = sum(w[i] * mapped(fusion.value, i, z[i]) for i in range(3))
    return z, told, u


def test_equals_the_loop():
    fusion = noisy(model("fedmac", context(), options=f"temperature = {TAU}").double())
    batch = patients(context(), GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        expected = loop_linear(fusion.head, loop_norm(fusion.norm, features(fusion, batch, b)[2]))
        torch.testing.assert_close(logits[b], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("reconstruct", "between", "aggregate"), [(0.7, 0, 0), (0, 0.9, 0), (0, 0, 1.3), (0, 0, 0)])
def test_the_added_losses(reconstruct, between, aggregate):
    options = f"temperature = {TAU}, reconstruct = {reconstruct}, between = {between}, aggregate = {aggregate}"
    fusion = noisy(model("fedmac", context(), options=options).double()).train()
    batch = patients(context(), GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion)
    loss = output.loss(LABEL, cross_entropy) - cross_entropy(output.logits_BC, LABEL)
    known = [features(fusion, batch, b) for b in range(len(GROUPS))]
    has = batch.presence.tolist()

    def contrast(x, b, i):
        rivals = [math.exp(cosine(x, known[c][0][i]) / TAU) for c in range(len(GROUPS)) if has[c][i]]
        return -math.log(math.exp(cosine(x, known[b][0][i]) / TAU) / sum(rivals))

    for b, (z, told, u) in enumerate(known):
        there = [i for i in range(3) if has[b][i]]
        pairs = [(i, j) for i in there for j in there if i != j]
        expected = reconstruct * sum((told[i] - z[i]).square().mean().item() for i in there) / len(there)
        expected += between * sum(contrast(z[i], b, j) for i, j in pairs) / max(len(pairs), 1)
        expected += aggregate * sum(contrast(u, b, i) for i in there) / len(there)
        assert loss[b].item() == pytest.approx(expected, abs=1e-9)


def test_what_the_others_tell_well_weighs_more():
    """The map of modality 0 copies its input: if the other two modalities predict it, it gets the largest weight."""
    fusion = model("fedmac", context(), options="temperature = 0.1").double()
    with torch.no_grad():
        fusion.reconstruct.weight_mDD.zero_()
        fusion.reconstruct.weight_mDD[0] = torch.eye(8)
        fusion.reconstruct.bias_mD[1:] = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
        fusion.value.weight_mDD.zero_()
        fusion.value.bias_mD.copy_(torch.eye(3, 8))
    x = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = {}
    fusion.norm.register_forward_pre_hook(lambda module, inputs: seen.update(u=inputs[0]))
    fusion([x, x, x], torch.ones(1, 3, dtype=torch.bool), torch.tensor([7]))
    assert seen["u"][0, :3].argmax() == 0
    assert seen["u"][0, 0] > 0.5


def test_alone_there_is_nobody_to_contrast_with():
    fusion = model("fedmac", context(), options="reconstruct = 0").train()
    output = patients(context(), (5,)).given_to(fusion)
    assert output.auxiliary_B.item() == pytest.approx(0, abs=1e-6)
    one = model("fedmac", context(1)).train()
    assert patients(context(1), (1, 1)).given_to(one).loss(LABEL[:2], cross_entropy).isfinite().all()
