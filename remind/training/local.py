"""The optimiser of a site's local steps (algorithm §3, §4.9)."""

from torch.optim import SGD, AdamW, Optimizer

from remind.config import TrainConfig
from remind.training.site_model import SiteModel


def build_optimizer(config: TrainConfig, model: SiteModel, train_encoders: bool) -> Optimizer:
    """Build the optimiser over the fusion and, in stage 1, the encoders; encoders that are left out are frozen.

    Its state is indexed by position, so parameters are sorted by name, for any order in which groups appeared.
    """
    for name, parameter in model.encoders.named_parameters():
        parameter.requires_grad_(train_encoders and name not in model.fixed)
    named = [(name, p) for name, p in sorted(model.named_parameters()) if p.requires_grad]
    factor = config.residual_rate
    parts = [{"params": [p for name, p in named if factor == 1 or not is_residual(name)], "factor": 1.0}]
    if residuals := [p for name, p in named if factor != 1 and is_residual(name)]:
        parts.append({"params": residuals, "factor": factor})
    if config.optimizer == "sgd":
        return SGD(parts, lr=config.lr, weight_decay=config.weight_decay)
    return AdamW(parts, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def is_residual(name: str) -> bool:
    """Return whether a parameter of `SiteModel` is a group's Φ_k."""
    return ".residual_" in name
