"""Rules with server state: their step equals Flower's, and blocks without an answer stay unchanged."""

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedYogi

from remind.config import Config
from remind.methods import methods_of

GROUP = "fusion.groups.3.residual"


def rule(text):
    return methods_of(Config.from_flat({"method.rule": text, "method.objective": "erm"})).rule


def averages(rounds, seed=0):
    """A model of two tensors, and what sites make of it: averages of each round, given the model it began with."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"fusion.x.weight": (3, 2), "fusion.x.bias": (4,)}
    start = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    moves = [{n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()} for _ in rounds]
    return start, moves


def flowers(strategy, start, moves, monkeypatch):
    """The models after each round by Flower's strategy, whose own average is replaced by the given one."""
    current = ArrayRecord([t.numpy() for t in start.values()])
    found = []
    for number, move in enumerate(moves, start=1):
        arrays = [a.numpy() for a in current.values()]
        moved = ArrayRecord([a + m.numpy() for a, m in zip(arrays, move.values(), strict=True)])
        if isinstance(strategy, FedAdam | FedYogi):
            strategy.current_arrays = {k: a.numpy() for k, a in current.items()}
        elif strategy.current_arrays is None:
            strategy.current_arrays = current
        monkeypatch.setattr(FedAvg, "aggregate_train", lambda *_, moved=moved: (moved, None))
        current, _ = strategy.aggregate_train(number, [])
        found.append([a.numpy() for a in current.values()])
    return found


@pytest.mark.parametrize(
    ("text", "strategy"),
    [
        ("fedavgm(momentum = 0.9)", lambda: FedAvgM(server_momentum=0.9)),
        ("fedavgm(momentum = 0.5, lr = 0.3)", lambda: FedAvgM(server_momentum=0.5, server_learning_rate=0.3)),
        ("fedavgm(momentum = 0.0, lr = 0.3)", lambda: FedAvgM(server_momentum=0.0, server_learning_rate=0.3)),
        ("fedadam", lambda: FedAdam(eta=0.01)),
        (
            "fedadam(lr = 0.2, beta1 = 0.5, beta2 = 0.9, tau = 0.01)",
            lambda: FedAdam(eta=0.2, beta_1=0.5, beta_2=0.9, tau=0.01),
        ),
        ("fedyogi", lambda: FedYogi(eta=0.01)),
        (
            "fedyogi(lr = 0.2, beta1 = 0.5, beta2 = 0.9, tau = 0.01)",
            lambda: FedYogi(eta=0.2, beta_1=0.5, beta_2=0.9, tau=0.01),
        ),
    ],
)
def test_the_step_is_flowers(text, strategy, monkeypatch):
    one, (model, moves) = rule(text), averages(range(4))
    expected = flowers(strategy(), model, moves, monkeypatch)
    memory = one.server_init(model)
    for move, known in zip(moves, expected, strict=True):
        moved, memory = one.server_step(model, {n: model[n] + move[n] for n in model}, memory)
        model = {**model, **moved}
        for tensor, reference in zip(model.values(), known, strict=True):
            np.testing.assert_allclose(tensor.numpy(), reference, rtol=1e-12)


@pytest.mark.parametrize("text", ["fedavgm", "fedadam", "fedyogi", "lg"])
def test_a_block_that_nobody_answered_for_keeps_its_value_and_its_memory(text):
    """A silent round leaves no trace: with it and without it a group's own tensors end up the same."""
    one, found = rule(text), []
    for silent in (False, True):
        model = {"fusion.x.weight": torch.ones(2, dtype=torch.float64), GROUP: torch.ones(3, dtype=torch.float64)}
        memory = one.server_init(model)
        for carried in ([GROUP, "fusion.x.weight"], *([["fusion.x.weight"]] if silent else []), [GROUP]):
            before = model[GROUP], {n: t.clone() for n, t in memory.items()}
            moved, memory = one.server_step(model, {n: model[n] - 0.1 for n in carried}, memory)
            model = {**model, **moved}
            if GROUP not in carried:
                assert model[GROUP] is before[0]
            for name, tensor in before[1].items():  # pure: what was remembered is not changed in place
                assert name in memory
                if "groups.3" in name and GROUP not in carried:
                    assert torch.equal(memory[name], tensor)
        found.append(model[GROUP])
    assert torch.equal(*found)


@pytest.mark.parametrize("text", ["fedavgm", "fedadam", "fedyogi"])
def test_a_step_changes_nothing_in_place_and_keeps_types(text):
    one = rule(text)
    model = {"fusion.x.weight": torch.ones(2)}
    average, memory = {"fusion.x.weight": torch.zeros(2)}, {}
    for _ in range(2):
        kept = {n: t.clone() for n, t in memory.items()}
        moved, after = one.server_step(model, average, memory)
        assert torch.equal(model["fusion.x.weight"], torch.ones(2))
        assert torch.equal(average["fusion.x.weight"], torch.zeros(2))
        assert moved["fusion.x.weight"].dtype == torch.float32
        assert all(torch.equal(memory[n], t) for n, t in kept.items())
        memory = after
