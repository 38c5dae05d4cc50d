"""Local training: one round's optimiser steps at a site on F_s / W_s (algorithm §3)."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from remind.config import TrainConfig
from remind.fusion.expert_gradients import gradients_in_place
from remind.objectives.base import Labels, Names, Objective, StepInput
from remind.seeds import derive
from remind.training.sampling import Step
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel


def build_optimizer(config: TrainConfig, model: SiteModel, train_encoders: bool) -> Optimizer:
    """Optimiser over fusion and, in stage 1, encoders; encoders left out are frozen.

    Its state goes by position, so parameters stand in the order of their names, whatever order groups came in.
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
    """Whether a parameter of `SiteModel` is a group's Φ_k."""
    return ".residual_" in name


def train_steps(
    model: SiteModel,
    source: TokenSource,
    optimizer: Optimizer,
    plan: Sequence[Step],
    objective: Objective,
    *,
    lr: float,
    routing: bool,
    gradient_scale: Mapping[str, float],
    labels: Labels | None = None,
    seed: int = 0,
    augment: int | None = None,
    only: Names | None = None,
    toward: Mapping[str, Tensor] | None = None,
    strength: float = 0.0,
) -> None:
    """Take the steps of a plan.

    Parameters
    ----------
    plan
        Patients and weights, see `sampling.steps`; the weighted sum of losses stands for F_s / W_s.
    objective
        Whose loss of a step is descended.
    lr
        Learning rate of the round.
    routing
        True in stage 2; in stage 1 Φ_k stays at 0 because nothing reaches it.
    gradient_scale
        Factor for the gradient of parameters by name, W_s/a_s of their block; 1 where a name is absent. It makes the
        averages of group and encoder blocks add up to the pooled step, as W_s does for shared ones.
    labels
        Patients of each group by class, where the objective needs them.
    seed
        Of the objective's own draws.
    augment
        Seed of the augmentation of pictures; None: none.
    only
        Names of the parameters that move; None: all that the optimiser holds.
    toward, strength
        Adds strength/2·‖θ − toward‖² to the loss, over the parameters that `toward` names.
    """
    model.train()
    for setting in optimizer.param_groups:
        setting["lr"] = lr * setting.get("factor", 1.0)
    named = dict(model.named_parameters())
    batches = source.batches([step.index_B for step in plan], augment)
    reuse = nullcontext() if objective.differentiates_twice else gradients_in_place()
    with reuse:
        for number, (step, (batch, tokens_BMD)) in enumerate(zip(plan, batches, strict=True)):
            generator = torch.Generator().manual_seed(derive(seed, "step", number))
            weight_B = torch.as_tensor(step.weight_B, dtype=tokens_BMD.dtype, device=tokens_BMD.device)
            optimizer.zero_grad(set_to_none=True)
            fuse, token_counts = partial(model.fuse, routing=routing), tuple(model.counts.values())
            loss = objective.step_loss(
                StepInput(batch, tokens_BMD, weight_B, fuse, token_counts, generator, labels or {})
            )
            loss.backward()  # type: ignore[no-untyped-call]
            for name, parameter in named.items():
                if parameter.grad is None:
                    continue
                if only is not None and not only(name):
                    parameter.grad = None
                    continue
                if name in gradient_scale:
                    parameter.grad.mul_(gradient_scale[name])
                if toward is not None and name in toward:
                    parameter.grad.add_(parameter.detach() - toward[name], alpha=strength)
            optimizer.step()
