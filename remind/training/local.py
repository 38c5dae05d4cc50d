"""Local training: one round's optimiser steps at a site on F_s / W_s (REMIND.md §3)."""

from collections.abc import Iterable, Mapping

import torch
from torch.optim import SGD, AdamW, Optimizer

from remind.config import TrainConfig
from remind.objectives.focal import focal_loss
from remind.training.sampling import Step
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel


def build_optimizer(config: TrainConfig, model: SiteModel, train_encoders: bool) -> Optimizer:
    """Optimiser over fusion and, in stage 1, encoders; encoders left out are frozen.

    Its state goes by position, so parameters stand in the order of their names, whatever order groups came in.
    """
    for encoder in model.encoders.parameters():
        encoder.requires_grad_(train_encoders)
    trained = [p for _, p in sorted(model.named_parameters()) if p.requires_grad]
    if config.optimizer == "sgd":
        return SGD(trained, lr=config.lr, weight_decay=config.weight_decay)
    return AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def train_steps(
    model: SiteModel,
    source: TokenSource,
    optimizer: Optimizer,
    plan: Iterable[Step],
    *,
    lr: float,
    focal_gamma: float,
    routing: bool,
    gradient_scale: Mapping[str, float],
    augment: int | None = None,
) -> None:
    """Take the steps of a plan.

    Parameters
    ----------
    plan
        Patients and weights, see `sampling.steps`; the weighted sum of losses stands for F_s / W_s.
    lr
        Learning rate of the round.
    routing
        True in stage 2; in stage 1 Φ_k stays at 0 because nothing reaches it.
    gradient_scale
        Factor for the gradient of parameters by name, W_s/a_s of their block; 1 where a name is absent. It makes the
        averages of group and encoder blocks add up to the pooled step, as W_s does for shared ones.
    augment
        Seed of the augmentation of pictures; None: none.
    """
    model.train()
    for setting in optimizer.param_groups:
        setting["lr"] = lr
    scaled = [(p, gradient_scale[name]) for name, p in model.named_parameters() if name in gradient_scale]
    planned = list(plan)
    batches = source.batches([step.index_B for step in planned], augment)
    for step, (batch, tokens_BMD) in zip(planned, batches, strict=True):
        logits_BC = model.fuse(tokens_BMD, batch, routing).logits_BC
        loss_B = focal_loss(logits_BC, batch.label_B, focal_gamma)
        weight_B = torch.as_tensor(step.weight_B, dtype=loss_B.dtype, device=loss_B.device)
        optimizer.zero_grad(set_to_none=True)
        (weight_B * loss_B).sum().backward()  # type: ignore[no-untyped-call]
        for parameter, factor in scaled:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        optimizer.step()
