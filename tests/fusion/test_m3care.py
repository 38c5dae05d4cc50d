"""M3Care against loops over pairs of patients: similarity, imputation from neighbours, the fixed sample."""

import math

import torch

from tests.builders.fusions import context, model, noisy, patients
from tests.fusion.loops import loop_layer, loop_linear, loop_perceptron

GROUPS = (5, 2, 7, 5, 1, 6)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def scale(rows):
    """Mean squared distance of two different rows, plus a constant that keeps it positive."""
    if len(rows) < 2:
        return 1.0
    pairs = [((a - b) ** 2).sum().item() for n, a in enumerate(rows) for b in rows[:n]]
    return sum(pairs) / len(pairs) + 1e-6


def kernel(a, b, of):
    distance = ((a - b) ** 2).sum().item() / of
    return sum(math.exp(-distance / width) for width in (0.5, 1, 2)) / 3


class Loop:
    """h, presence and similarity of some patients, with the bandwidths of `reference`."""

    def __init__(self, fusion, h, has, reference):
        self.fusion, self.h, self.has = fusion, h, has
        self.modalities = range(len(h[0]))
        self.projected = [[loop_perceptron(fusion.project[i], h_b[i]) for i in self.modalities] for h_b in h]
        self.scales = [
            tuple(scale([space[b][i] for b in reference if has[b][i]]) for space in (h, self.projected))
            for i in self.modalities
        ]

    def near(self, a, b):
        if a == b:
            return 1.0
        shared = [i for i in self.modalities if self.has[a][i] and self.has[b][i]]
        if not shared:
            return 0.0
        total = 0.0
        for i in shared:
            mix, (raw, projected) = sigmoid(self.fusion.mix_m[i].item()), self.scales[i]
            total += (1 - mix) * kernel(self.projected[a][i], self.projected[b][i], projected)
            total += mix * kernel(self.h[a][i], self.h[b][i], raw)
        return max(0.0, total / len(shared) - sigmoid(self.fusion.threshold.item()))

    def mean(self, a, i, among, of):
        weight = {b: self.near(a, b) for b in among if self.has[b][i]}
        total = max(sum(weight.values()), 1e-6)
        return sum((w / total * of[b] for b, w in weight.items()), torch.zeros_like(self.h[0][0]))

    def imputed(self, a, i, neighbours):
        """`neighbours` of each patient."""
        first, second = self.fusion.first[i], self.fusion.second[i]
        x = {
            b: loop_linear(first, self.mean(b, i, neighbours[b], {c: self.h[c][i] for c in neighbours[b]})).clamp(min=0)
            for b in neighbours[a]
        }
        return loop_linear(second, self.mean(a, i, neighbours[a], x)).clamp(min=0)

    def logits(self, a, neighbours):
        parts = []
        for i in self.modalities:
            imputed = self.imputed(a, i, neighbours)
            share = loop_linear(self.fusion.gates[i], torch.cat([self.h[a][i], imputed])).sigmoid()
            parts.append(share * self.h[a][i] + (1 - share) * imputed if self.has[a][i] else imputed)
        z = loop_layer(self.fusion.layer, torch.stack(parts) + self.fusion.position_mD)
        mean = torch.nn.functional.layer_norm(z, z.shape[1:], self.fusion.norm.weight, self.fusion.norm.bias).mean(
            dim=0
        )
        return loop_linear(self.fusion.head, mean)


def means(batch):
    """h of each patient and modality, 0 where absent."""
    return [
        [z[b].mean(dim=0) * batch.presence[b, i] for i, z in enumerate(batch.tokens)] for b in range(len(batch.group))
    ]


def close(seed):
    """Patients similar enough to be neighbours under the model's threshold."""
    of = context()
    fusion = noisy(model("m3care", of).double())
    with torch.no_grad():
        fusion.threshold.fill_(-2.0)
    return of, fusion, patients(of, GROUPS, seed, dtype=torch.float64)


def test_training_compares_the_patients_of_the_step():
    _, fusion, batch = close(0)
    logits = batch.given_to(fusion.train()).logits_BC
    everyone = range(len(GROUPS))
    loop = Loop(fusion, means(batch), batch.presence.tolist(), everyone)
    assert sum(loop.near(a, b) > 0 for a in everyone for b in everyone) > len(GROUPS)
    for b in everyone:
        torch.testing.assert_close(logits[b], loop.logits(b, dict.fromkeys(everyone, everyone)), rtol=0, atol=1e-8)


def test_outside_training_neighbours_are_a_fixed_sample_and_oneself():
    of, fusion, batch = close(0)
    others = patients(of, [7, 3, 4, 5], seed=5, dtype=torch.float64)
    fusion.set_support(others.pool())
    logits = batch.given_to(fusion).logits_BC
    number = len(GROUPS)
    sample = range(number, number + 4)
    loop = Loop(fusion, means(batch) + means(others), batch.presence.tolist() + others.presence.tolist(), sample)
    for b in range(number):
        neighbours = dict.fromkeys(sample, sample) | {b: [b, *sample]}
        torch.testing.assert_close(logits[b], loop.logits(b, neighbours), rtol=0, atol=1e-8)


def test_few_patients_who_have_nothing_in_common_are_neighbours_at_the_start():
    of = context()
    fusion = model("m3care", of)
    h_BmD, has_Bm = torch.randn(64, 3, of.width), torch.ones(64, 3).bool()
    near_BB = fusion._near(h_BmD, has_Bm, h_BmD, has_Bm, fusion._scales(h_BmD, has_Bm))
    assert (near_BB.fill_diagonal_(0.0) > 0).float().mean() < 0.4
    assert (fusion._near(h_BmD, has_Bm, h_BmD * 0.99, has_Bm, fusion._scales(h_BmD, has_Bm)).diagonal() > 0).all()


def test_nobody_alike():
    of = context()
    fusion = noisy(model("m3care", of).double())
    with torch.no_grad():
        fusion.threshold.fill_(20.0)
    fusion.set_support(patients(of, [7, 7], seed=3, dtype=torch.float64).pool())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    loop = Loop(fusion, means(batch), batch.presence.tolist(), [])
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], loop.logits(b, {b: [b]}), rtol=0, atol=1e-8)
