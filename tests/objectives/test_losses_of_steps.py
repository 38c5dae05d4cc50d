"""The loss of a step against loops: logit adjustment, mixing across groups, the path between groups."""

import numpy as np
import pytest
import torch

from remind.config import Config
from remind.data.batches.batch import Batch
from remind.fusion.base import FusionOutput, group_of
from remind.methods import methods_of
from remind.objectives.base import StepInput, registry
from remind.objectives.jtt import WRONG
from remind.objectives.pairs import partners

TOKENS = (1, 2)  # of modalities a and b


def objective(text):
    return methods_of(Config.from_flat({"method.objective": text, "train.focal-gamma": 0.0})).objective


class Linear:
    """A model whose logits are linear in the tokens that are present; it keeps what it was asked."""

    def __init__(self):
        self.weight_MDC = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.asked = []

    def __call__(self, tokens_BMD, presence_Bm, group_B):
        assert torch.equal(group_B, group_of(presence_Bm))
        self.asked.append((tokens_BMD, presence_Bm))
        seen = torch.repeat_interleave(presence_Bm, torch.tensor(TOKENS), dim=1).unsqueeze(2)
        return FusionOutput(torch.einsum("bmd,mdc->bc", tokens_BMD * seen, self.weight_MDC))


def step(model, groups=(1, 2, 3, 3, 1, 2), labels=(0, 0, 0, 1, 1, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    presence = torch.tensor([[g & 1 == 1, g & 2 == 2] for g in groups])
    batch = Batch(torch.arange(len(groups)), torch.tensor(groups), presence, torch.tensor(labels), {})
    tokens = torch.randn(len(groups), 3, 2, generator=generator, dtype=torch.float64)
    weight = torch.rand(len(groups), generator=generator, dtype=torch.float64)
    return StepInput(batch, tokens, weight / weight.sum(), model, TOKENS, torch.Generator().manual_seed(seed), {})


def test_the_adjusted_cross_entropy_is_that_of_the_group():
    one = objective("logit_adjustment(tau = 2.0)")
    logits = torch.tensor([[0.3, -0.2, 0.1], [1.0, 0.0, -1.0], [0.0, 0.5, 0.0]], dtype=torch.float64)
    label, group = torch.tensor([0, 1, 2]), torch.tensor([1, 3, 9])
    found = one.criterion(logits, label, group, {1: (8, 1, 0), 3: (0, 0, 3)})
    for i, counts in enumerate(([9, 2, 1], [1, 1, 4], [1, 1, 1])):  # one patient more in each class
        adjusted = logits[i].numpy() + 2.0 * np.log(np.array(counts) / sum(counts))
        expected = np.log(np.exp(adjusted).sum()) - adjusted[label[i]]
        assert found[i].item() == pytest.approx(expected, rel=1e-12)


def test_partners_are_allowed_ones_and_all_come_up():
    allowed = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    drawn = torch.stack([partners(allowed, torch.Generator().manual_seed(i)) for i in range(40)])
    assert set(drawn[:, 0].tolist()) == {1, 2}
    assert set(drawn[:, 1].tolist()) == {0}
    assert set(drawn[:, 2].tolist()) == {2}, "nobody is allowed: its own partner"


def test_lisa_mixes_one_label_across_groups_where_both_have_the_modality():
    model, one = Linear(), objective("lisa")
    given = step(model)
    one.patient_losses(given)
    ((mixed, presence),) = model.asked
    assert torch.equal(presence, given.batch.presence_Bm), "the first patient's group"
    moved = (mixed - given.tokens_BMD).abs().sum(dim=2) > 1e-12
    group, label = given.batch.group_B.tolist(), given.batch.label_B.tolist()
    for i in range(6):
        others = [j for j in range(6) if label[j] == label[i] and group[j] != group[i]]
        for m, bit in enumerate((1, 2, 2)):
            if moved[i, m]:
                assert group[i] & bit
                line = [
                    torch.linalg.matrix_rank(torch.stack([mixed[i, m] - z[i, m], z[j, m] - z[i, m]]), tol=1e-9) == 1
                    for j in others
                    if group[j] & bit
                    for z in [given.tokens_BMD]
                ]
                assert any(line), "on the line to a partner's token"
    assert moved.any()


def test_lisa_without_partners_is_plain_training():
    model = Linear()
    given = step(model, groups=(1, 2), labels=(0, 1))
    assert objective("lisa").step_loss(given) == objective("erm").step_loss(given)


def test_the_path_penalty_is_the_derivative_between_two_groups():
    """By finite differences of the class probabilities along the very paths that were drawn."""
    model, one = Linear(), objective("fairmixup(penalty = 3.0)")
    given = step(model, groups=(1, 1, 3, 3), labels=(0, 1, 0, 1))
    found = one.step_loss(given) - objective("erm").step_loss(step(Linear(), (1, 1, 3, 3), (0, 1, 0, 1)))
    path, presence = model.asked[1]
    assert presence.tolist() == [[True, False]] * 2, "they share modality a alone"
    z = given.tokens_BMD[:, 0]
    best = None
    for first, second in (((0, 1), (2, 3)), ((0, 1), (3, 2)), ((2, 3), (0, 1)), ((2, 3), (1, 0))):
        a, b = z[list(first)], z[list(second)]
        for order in ([0, 1], [1, 0]):
            t = ((path[:, 0] - b[order]) / (a[order] - b[order])).mean(dim=1)
            if torch.allclose(path[:, 0], t[:, None] * a[order] + (1 - t[:, None]) * b[order]):
                best = (a[order], b[order], t)
    a, b, t = best

    def probability(t):
        tokens = torch.zeros(2, 3, 2, dtype=torch.float64)
        tokens[:, 0] = t[:, None] * a + (1 - t[:, None]) * b
        return model(tokens, presence, group_of(presence)).logits_BC.softmax(dim=1)

    slope = (probability(t + 1e-6) - probability(t - 1e-6)) / 2e-6
    assert found.item() == pytest.approx(3.0 * slope.mean(dim=0).abs().mean().item(), rel=1e-5)


def test_the_path_penalty_reaches_the_model():
    model = Linear()
    model.weight_MDC.requires_grad_()
    given = step(model, groups=(1, 1, 3, 3), labels=(0, 1, 0, 1))
    (plain,) = torch.autograd.grad(objective("erm").step_loss(given), model.weight_MDC)
    (with_path,) = torch.autograd.grad(objective("fairmixup").step_loss(given), model.weight_MDC)
    assert not torch.allclose(plain, with_path)


@pytest.mark.parametrize("groups", [(1, 1, 1, 1), (1, 1, 2, 2)])
def test_no_path_between_patients_of_one_group_or_with_nothing_in_common(groups):
    given = step(Linear(), groups=groups, labels=(0, 1, 0, 1))
    assert objective("fairmixup").step_loss(given) == objective("erm").step_loss(given)


PER_PATIENT = [m.name for m in registry.methods() if not m.build.couples_patients]


@pytest.mark.parametrize("ranking", [0.0, 0.3])
@pytest.mark.parametrize("name", [m.name for m in registry.methods()])
def test_the_loss_of_a_step_is_the_weighted_sum_of_its_patients_losses_or_says_that_it_is_not(name, ranking):
    """Other tokens of one patient change the losses of the others, or the rest of the step's loss, just where told."""
    changes = {"method.objective": name, "train.focal-gamma": 0.0, "train.ranking": ranking}
    one = methods_of(Config.from_flat(changes)).objective
    found = []
    for shift in (0.0, 5.0):
        given = step(Linear())
        given.tokens_BMD[2] += shift
        losses_B = one.patient_losses(given)
        assert losses_B.shape == (6,)
        rest = one.coupled_loss(given)
        found.append([*losses_B[[0, 1, 3, 4, 5]].tolist(), 0.0 if rest is None else rest.item()])
        again = step(Linear())
        again.tokens_BMD[2] += shift
        whole = (given.weight_B * losses_B).sum() + (0.0 if rest is None else rest)
        assert one.step_loss(again).item() == pytest.approx(whole.item(), rel=1e-12)
    assert (found[0] != found[1]) == one.couples_patients


def test_the_objectives_that_couple_patients_are_those_that_mix_them():
    assert {"fairmixup", "lisa"} <= {m.name for m in registry.methods()} - set(PER_PATIENT)
    assert {"erm", "groupdro", "cvar", "jtt"} <= set(PER_PATIENT)


def test_jtt_repeats_the_mistakes():
    one, kept = objective("jtt(upweight = 7)"), {}
    assert one.copies(kept) is None
    one.remember(torch.tensor([True, False, True]), kept)
    assert set(kept) == {WRONG}
    assert one.copies(kept).tolist() == [7, 1, 7]


def test_more_vs_fewer_is_added_to_any_objective():
    """Against a loop over the patients, with the part of each one's modalities that was drawn."""
    model = Linear()
    given = step(model)
    one = methods_of(
        Config.from_flat({"method.objective": "erm", "train.focal-gamma": 0.0, "train.ranking": 0.7})
    ).objective
    found = one.step_loss(given).item()
    (tokens, _), (_, fewer) = model.asked
    expected = 0.0
    for i in range(6):
        both = []
        for presence in (given.batch.presence_Bm[i : i + 1], fewer[i : i + 1]):
            logits = model(tokens[i : i + 1], presence, group_of(presence)).logits_BC[0]
            both.append(-logits.log_softmax(0)[given.batch.label_B[i]].item())
        assert (fewer[i] <= given.batch.presence_Bm[i]).all()
        assert fewer[i].any()
        expected += given.weight_B[i].item() * (both[0] + both[1] + 0.7 * max(both[0] - both[1], 0.0))
    assert found == pytest.approx(expected, rel=1e-12)


class Hump:
    """p(class 1) rises from 0.1 to 0.9 in the middle of a path from 0 to 1 and falls again: its ends are equal."""

    def __call__(self, tokens_BMD, presence_Bm, group_B):
        p_B = 0.1 + 0.8 * torch.sin(torch.pi * tokens_BMD[:, 0, 0]).clamp_min(0)
        return FusionOutput(torch.stack([(1 - p_B).log(), p_B.log()], dim=1))


def test_the_path_penalty_sees_a_hump_between_equal_ends():
    """E over t of |d/dt mean p| is how much p varies on the way, 2 × 0.8, not the gap of its ends, which is 0."""
    one, pairs = objective("fairmixup"), 200
    groups, labels = (1,) * pairs + (3,) * pairs, (0, 1) * pairs
    found = []
    for seed in range(60):
        given = step(Hump(), groups, labels, seed)
        given.tokens_BMD[:] = 0.0
        given.tokens_BMD[pairs:, 0, 0] = 1.0
        found.append((one.step_loss(given) - objective("erm").step_loss(given)).item())
    assert np.mean(found) == pytest.approx(1.6, rel=0.1)
    assert min(found) < 0.2 < 2.0 < max(found), "one t a step: flat at the top, steep at the ends"
