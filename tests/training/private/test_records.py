"""All records of a patient count as one: their gradients are summed, and the sum has the norm that is clipped."""

import numpy as np
import pytest
import torch

from remind.training.private.gradients import Clipping, PrivateGradients
from tests.builders.private_encoders import KINDS, work_of
from tests.builders.private_steps import SECRET, given

FEW = {"model.encoders.buckets": 16}  # so that several records of a patient share a row


class Untied(torch.nn.Module):
    """In place of a table: each record reads a copy of its row, so that its gradient can be seen alone."""

    def __init__(self, table):
        super().__init__()
        self.table, self.rows, self.copies = table.detach(), [], []

    def forward(self, row):
        self.rows.append(row)
        self.copies.append(self.table[row].requires_grad_())
        return self.copies[-1]

    __getitem__ = forward


@pytest.mark.parametrize(
    ("kind", "within", "name"),
    [("codes", "", "embedding"), ("words", "backbone", "embedding"), ("series", "", "slope_IK")],
)
def test_the_norm_of_a_patient_is_that_of_the_sum_of_the_records(kind, within, name):
    work, patients, _ = work_of(KINDS[kind][0], {**KINDS[kind][1], **FEW})
    encoder = next(iter(work.model.encoders.values()))
    place = encoder.get_submodule(within)
    tied = getattr(place, name)
    table = tied.weight if isinstance(tied, torch.nn.Embedding) else tied
    for parameter in work.model.parameters():
        parameter.requires_grad_(parameter is table)
    index = [int(i) for i in np.flatnonzero(patients.groups_N & 1)[:5]]
    work.model.train()
    sums, apart = [], []
    for i in index:
        untied = Untied(table)
        replaced(place, name, untied)
        found = torch.autograd.grad(work.objective.step_loss(given(work, [i], [1.0])), untied.copies)
        each, row = torch.cat([g.flatten(0, -2) for g in found]), torch.cat([r.flatten() for r in untied.rows])
        sums.append(torch.zeros_like(table).index_add(0, row, each))
        apart.append(each.square().sum().sqrt())
        assert len(each) > 1
        replaced(place, name, tied)
    expected = torch.stack(sums).flatten(1).norm(dim=1)
    assert not torch.allclose(expected, torch.stack(apart), rtol=1e-3), "clipped one by one, they would weigh more"
    clip = expected.median().item() * 1.001
    private = PrivateGradients(work.model, Clipping(clip, 0.0, 1.0), SECRET, "q")
    with private.recording():
        clipped_sum = private.clipped_sum(work.objective, given(work, index, [1.0] * len(index)))
    torch.testing.assert_close(clipped_sum.norm_B, expected, rtol=1e-10, atol=1e-14)
    (total,) = clipped_sum.sums.values()
    clipped = sum(one * min(1.0, clip / norm) for one, norm in zip(sums, expected.tolist(), strict=True))
    torch.testing.assert_close(total, clipped, rtol=1e-9, atol=1e-14)


def replaced(place, name, by):
    """Put a table in a module's place; parameters and modules are kept apart there."""
    delattr(place, name)
    setattr(place, name, by)
