"""The coordinator's step in a run whose hospitals share the noise: one step of the optimiser on the sum of gradients.

What follows from the noisy sum tells nothing more than the sum, so the optimiser may be any: it is that of
``train.optimizer``, with the rates of a hospital's. Its state lies in the coordinator's memory, tensor by tensor; like
the optimisers of hospitals it restarts with each stage.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from remind.config import TrainConfig
from remind.federation.aggregation import BlockAverage
from remind.training.local import is_residual, optimizer_of

STATE = "optimizer/"  # prefix of names in the memory: optimizer/exp_avg/NAME


class SummedGradients(BlockAverage):
    """Gradients that secure aggregation gave, by tensor; what is in none stays as it is."""

    def __init__(self, gradients: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.gradients = dict(gradients)


def stepped(
    train: TrainConfig,
    model: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    memory: Mapping[str, Tensor],
    lr: float,
    rate: Callable[[str], float],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors with a gradient after a step, and the memory.

    Parameters
    ----------
    lr
        Of the round.
    rate
        Learning rate of a parameter by its name, in units of the round's; Φ_k is also ``train.residual-rate`` times as
        fast.
    """
    named = {name: Parameter(model[name].clone()) for name in sorted(gradients)}
    factor = {name: rate(name) * (train.residual_rate if is_residual(name) else 1.0) for name in named}
    optimizer = optimizer_of(train, [{"params": [p], "lr": lr * factor[name]} for name, p in named.items()])
    for name, parameter in named.items():
        parameter.grad = gradients[name].to(parameter)
        own = {key.split("/")[1]: t for key, t in memory.items() if key.startswith(STATE) and _name_of(key) == name}
        if own:
            optimizer.state[parameter] = {kind: tensor.clone() for kind, tensor in own.items()}
    optimizer.step()
    after = dict(memory)
    for name, parameter in named.items():
        state = optimizer.state.get(parameter, {})
        after |= {f"{STATE}{kind}/{name}": torch.as_tensor(value).clone() for kind, value in state.items()}
    return {name: parameter.detach() for name, parameter in named.items()}, after


def _name_of(key: str) -> str:
    return key.split("/", 2)[2]
