"""The optimiser of a site's local steps (algorithm §3, §4.9)."""

from collections.abc import Callable
from typing import Any

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from remind.config import TrainConfig
from remind.training.eager import eager
from remind.training.site_model import SiteModel


def build_optimizer(
    config: TrainConfig, model: SiteModel, train_encoders: bool, rate: Callable[[str], float] = lambda name: 1.0
) -> Optimizer:
    """Build the optimiser over the fusion and, in stage 1, the encoders; encoders that are left out are frozen.

    Its state is indexed by position, so parameters are sorted by name, for any order in which groups appeared.

    Parameters
    ----------
    rate
        Learning rate of a parameter by its name, in units of the stage's; Φ_k is also ``train.residual-rate`` times as
        fast.
    """
    for name, parameter in model.encoders.named_parameters():
        parameter.requires_grad_(train_encoders and name not in model.fixed)
    parts: dict[float, list[Parameter]] = {1.0: []}
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            factor = rate(name) * (config.residual_rate if is_residual(name) else 1.0)
            parts.setdefault(factor, []).append(parameter)
    groups = [{"params": parameters, "factor": factor} for factor, parameters in sorted(parts.items(), key=_plain)]
    return optimizer_of(config, groups)


def optimizer_of(config: TrainConfig, groups: list[dict[str, Any]]) -> Optimizer:
    """Build ``train.optimizer`` over these groups of parameters."""
    if config.optimizer == "sgd":
        return eager(SGD)(groups, lr=config.lr, weight_decay=config.weight_decay)
    return eager(AdamW)(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def _plain(part: tuple[float, list[Parameter]]) -> tuple[bool, float]:
    return part[0] != 1, part[0]


def is_residual(name: str) -> bool:
    """Return whether a parameter of `SiteModel` is a group's Φ_k."""
    return ".residual_" in name
