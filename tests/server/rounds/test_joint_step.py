"""The coordinator's step on a sum: that of torch's optimiser, with a state that outlives a checkpoint."""

import pytest
import torch
from torch.nn import Parameter
from torch.optim import AdamW

from remind.config import TrainConfig
from remind_server.rounds.secure.joint import stepped

MODEL = {"fusion.head.weight": torch.linspace(-1, 1, 6).view(2, 3), "fusion.groups.3.residual_LDES": torch.ones(4)}
TRAIN = TrainConfig(weight_decay=0.1, residual_rate=5.0)


def gradients(round_, names=tuple(MODEL)):
    generator = torch.Generator().manual_seed(round_)
    return {n: torch.randn(t.shape, generator=generator, dtype=torch.float64) for n, t in MODEL.items() if n in names}


def test_rounds_of_steps_are_those_of_adamw_with_the_rates_of_a_hospital():
    model, memory = dict(MODEL), {"other": torch.ones(1)}
    expected = {n: Parameter(t.clone()) for n, t in MODEL.items()}
    groups = [{"params": [p], "lr": 0.01 * (5.0 if "residual_" in n else 1.0)} for n, p in expected.items()]
    optimizer = AdamW(groups, weight_decay=0.1)
    for round_ in range(3):
        moved, memory = stepped(TRAIN, model, gradients(round_), memory, 0.01, lambda name: 1.0)
        model |= moved
        for name, parameter in expected.items():
            parameter.grad = gradients(round_)[name].float()
        optimizer.step()
    assert all(torch.allclose(model[n], p.detach(), atol=1e-6) for n, p in expected.items())
    assert memory["other"] == 1
    assert MODEL["fusion.groups.3.residual_LDES"].eq(1).all()  # the given model is not changed


def test_what_no_sum_reached_keeps_its_value_and_its_state():
    (head, residual) = MODEL
    _, memory = stepped(TRAIN, MODEL, gradients(0), {}, 0.01, lambda name: 1.0)
    moved, after = stepped(TRAIN, MODEL, gradients(1, (head,)), memory, 0.01, lambda name: 1.0)
    assert set(moved) == {head}
    kept = [key for key in memory if key.endswith(residual)]
    assert len(kept) == 3
    assert all(torch.equal(after[key], memory[key]) for key in kept)
    assert not torch.equal(after[f"optimizer/exp_avg/{head}"], memory[f"optimizer/exp_avg/{head}"])


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_rates_by_name_scale_a_plain_step(rate):
    train = TrainConfig(optimizer="sgd", weight_decay=0.0, residual_rate=1.0)
    moved, memory = stepped(train, MODEL, gradients(0), {}, 0.1, lambda name: rate)
    assert memory == {}
    for name, gradient in gradients(0).items():
        assert torch.allclose(moved[name], MODEL[name] - 0.1 * rate * gradient.float())
