"""Small fusion models, the tokens of some patients, and a problem to learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from remind.config import ModelConfig
from remind.fusion.base import Context, FusionModel, build_fusion, group_of
from remind.fusion.support import TokenPool

Fusion = TypeVar("Fusion", bound=FusionModel)
CLASSES = 3
TOKENS = (3, 1, 2, 4)


def context(modalities: int = 3, width: int = 8, dropout: float = 0.0, **settings: Any) -> Context:
    """Any number of modalities, of one to four tokens each. `settings` of the model that are REMIND's alone."""
    return Context(
        model=ModelConfig(width=width, heads=2, dropout=dropout, **settings),
        classes=CLASSES,
        modalities=tuple(f"modality{i}" for i in range(modalities)),
        tokens=tuple(TOKENS[i % 4] for i in range(modalities)),
    )


def model(name: str, of: Context, groups: Sequence[int] = (), seed: int = 1, options: str = "") -> Any:
    """A `FusionModel` in eval mode that knows these groups; the test knows its parts."""
    fusion = build_fusion(f"{name}({options})", of, seed)
    fusion.add_groups(groups, seed)
    return fusion.eval()


@dataclass
class Patients:
    """Tokens per modality, presence and group of some patients."""

    tokens: list[Tensor]
    presence: Tensor
    group: Tensor

    def take(self, rows: Sequence[int] | Tensor) -> "Patients":
        return Patients([z[rows] for z in self.tokens], self.presence[rows], self.group[rows])

    def pool(self, seed: int = 0) -> TokenPool:
        return TokenPool(self.tokens, self.presence, seed)

    def given_to(self, fusion: FusionModel, routing: bool = True):
        return fusion(self.tokens, self.presence, self.group, routing)


def patients(of: Context, groups: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> Patients:
    """One patient per entry of `groups`, with normal tokens everywhere, absent modalities included."""
    generator = torch.Generator().manual_seed(seed)
    presence = torch.tensor([[group >> i & 1 == 1 for i in range(len(of.modalities))] for group in groups])
    tokens = [torch.randn(len(groups), n, of.width, generator=generator, dtype=dtype) for n in of.tokens]
    return Patients(tokens, presence, torch.tensor(groups))


def noisy(fusion: Fusion, seed: int = 0) -> Fusion:
    """Draw every parameter again, so that none is still at a 0 or a 1 that would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(fusion.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return fusion


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return functional.cross_entropy(logits, label, reduction="none")


@dataclass
class Problem:
    """Patients whose label is the sign of the sum of their present modalities' latents, through noisy linear tokens."""

    context: Context
    train: Patients
    train_label: Tensor
    test: Patients
    test_label: Tensor


@cache
def problem(seed: int, number: int = 400, modalities: int = 3) -> Problem:
    """Half of the patients have all modalities, the others a random part of them. Nobody writes into it."""
    of = context(modalities, width=16)
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(2 * number, modalities, generator=generator)
    presence = torch.rand(2 * number, modalities, generator=generator) < 0.6
    presence[torch.rand(2 * number, generator=generator) < 0.5] = True
    presence[~presence.any(dim=1), 0] = True
    label = (torch.where(presence, latent, 0.0).sum(dim=1) > 0).long()
    tokens = []
    for i, length in enumerate(of.tokens):
        direction = torch.randn(length, of.width, generator=generator)
        noise = 0.3 * torch.randn(2 * number, length, of.width, generator=generator)
        tokens.append(latent[:, i, None, None] * direction + noise)
    everyone = Patients(tokens, presence, group_of(presence))
    return Problem(
        of, everyone.take(range(number)), label[:number], everyone.take(range(number, 2 * number)), label[number:]
    )


def accuracy_after_training(name: str, of: Problem, steps: int, seed: int, options: str = "") -> float:
    """Both stages, Adam, all patients in every step; accuracy on the test patients."""
    fusion = model(name, of.context, sorted(set(of.train.group.tolist())), seed, options)
    fusion.set_support(of.train.pool())
    torch.manual_seed(seed)
    for routing in (False, True):
        optimizer = torch.optim.Adam(fusion.parameters(), lr=5e-3)
        rows = fusion.trains_on(of.train.presence, routing).nonzero().squeeze(1)
        batch, label = of.train.take(rows), of.train_label[rows]
        fusion.train()
        for _ in range(steps):
            optimizer.zero_grad()
            batch.given_to(fusion, routing).loss(label, cross_entropy).mean().backward()
            optimizer.step()
    fusion.eval()
    with torch.no_grad():
        predicted = of.test.given_to(fusion).logits_BC.argmax(dim=1)
    return (predicted == of.test_label).double().mean().item()
