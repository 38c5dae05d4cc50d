"""Mean of the global model over the rounds of a stage, tensor by tensor (SWA, then an exponential mean).

The models of late rounds vary around a good model, especially in blocks with few patients. Their mean is closer to it
than each of them. Izmailov et al., Averaging weights leads to wider optima, 2018 (arXiv 1803.05407).
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

MEAN, NUMBER = "mean/", "mean-of/"  # prefixes of names in the coordinator's memory; a later group has none yet

Tensors = Mapping[str, Tensor]


def with_mean(memory: Tensors, model: Tensors, changed: Iterable[str], decay: float) -> dict[str, Tensor]:
    """Return the memory after a round: of every changed tensor the mean m ← m + a·(θ − m), in float64.

    a = max(1/t, 1 − decay) for the t-th round that changed the tensor: all rounds alike at first (SWA), then with
    exponentially less weight for older ones.
    """
    found = dict(memory)
    for name in changed:
        value = model[name].to(torch.float64)
        times = int(memory.get(NUMBER + name, torch.zeros((), dtype=torch.int64))) + 1
        before = memory.get(MEAN + name, value)
        found[MEAN + name] = before + max(1 / times, 1 - decay) * (value - before)
        found[NUMBER + name] = torch.tensor(times)
    return found


def mean_of(memory: Tensors, model: Tensors) -> dict[str, Tensor]:
    """Return the model with the mean of every tensor that has one."""
    return {name: memory[MEAN + name].to(t.dtype) if MEAN + name in memory else t for name, t in model.items()}
