"""Adapts a trained model: named parts of it train, everything else stays unchanged (algorithm §4.10; Fig. 5)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from typing_extensions import override

from remind.errors import UserError
from remind.federation.rules.base import Rule, registry
from remind.federation.site_weights import Spanning
from remind.metrics.statistics import GroupLoss
from remind.objectives.base import Names, Objective
from remind.registry import Options
from remind.seeds import derive
from remind.training.work import LocalWork

EXPERTS = "experts"
PARTS: Mapping[str, frozenset[str]] = {  # name parts that make a path in the fusion model belong to a part
    "head": frozenset({"head"}),
    "router": frozenset({"router", "gate", "gates"}),
    "groups": frozenset({"groups"}),
    EXPERTS: frozenset({EXPERTS}),
}


class AdaptOptions(Options):
    """The parts that train."""

    parts: str = Field("head", description="parts that train, joined by '+': head, router, groups, experts")
    experts: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the experts that train, drawn by seed"
    )

    @field_validator("parts")
    @classmethod
    def _knows_its_parts(cls, parts: str) -> str:
        if unknown := [part for part in _parts(parts) if part not in PARTS]:
            raise ValueError(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}, joined by '+'")
        return parts

    @model_validator(mode="after")
    def _has_experts_to_share(self) -> Self:
        if self.experts < 1 and EXPERTS not in _parts(self.parts):
            raise ValueError(
                f"experts = {self.experts:g}, but parts = {self.parts!r} lets no expert train; add +experts"
            )
        return self


@registry.register(
    "adapt",
    title="fine-tuning: only the head, routers, groups' own parameters or a share of the experts train",
    paper="Wu et al., REMIND, arXiv 2603.00046, Fig. 5",
    year=2026,
    options=AdaptOptions,
)
class Adapt(Rule):
    """Local steps on the named parts only; weights and averages as in fedremind. Encoders never change.

    head is the last layer, router the parameters that weigh experts, groups the parameters of one group (Φ_k and B_k),
    experts the expert networks. With a share of the experts, the other experts stay exactly unchanged, also by weight
    decay and momentum. The experts that train must be the same at every site and in every round, and no site may have
    to reveal what its patients use, so they are drawn from the run's seed; those of a smaller share are among those of
    a larger.
    """

    options: AdaptOptions

    private = True

    @override
    def moving(self) -> Names:
        return self.moves

    @override
    def weighing(self, objective: Objective) -> Spanning:
        return Spanning(objective)

    def moves(self, name: str) -> bool:
        """Return whether a parameter of `SiteModel` belongs to a part that trains."""
        place, *path = name.split(".")
        return place == "fusion" and any(PARTS[part].intersection(path) for part in _parts(self.options.parts))

    @override
    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        """Do the round's work.

        Raises
        ------
        UserError
            The fusion model has none of the named parts.
        """
        moving = {name: parameter for name, parameter in work.named().items() if self.moves(name)}
        if not moving:
            raise UserError(
                f"method.rule: adapt(parts = {self.options.parts!r}) has nothing to train in the fusion model "
                f"{self.config.method.fusion!r}; name another part: {', '.join(PARTS)}"
            )
        assert work.optimizer is not None
        frozen_experts = {p: self.frozen_experts(name, len(p)) for name, p in moving.items() if has_experts(name)}
        with frozen_rows(work.optimizer, {p: row_R.to(p.device) for p, row_R in frozen_experts.items()}):
            work.steps(only=self.moves)
        return None

    def frozen_experts(self, name: str, experts: int) -> Tensor:
        """Return the frozen experts, 0 … `experts` − 1, of the layer that a parameter belongs to; ascending."""
        layer = name.rpartition(".")[0]  # weights and biases of a layer belong to the same experts
        generator = torch.Generator().manual_seed(derive(self.config.seed, "adapt", layer))
        order_E = torch.randperm(experts, generator=generator)
        return order_E[math.ceil(self.options.experts * experts - 1e-9) :].sort().values


def has_experts(name: str) -> bool:
    """Return whether a parameter belongs to experts: then its first dimension has one row per expert."""
    return EXPERTS in name.split(".")


@contextmanager
def frozen_rows(optimizer: Optimizer, rows: Mapping[Parameter, Tensor]) -> Iterator[None]:
    """Restore these rows of these parameters after every step of the optimiser inside the block."""
    held = [(p, row_R, p.detach()[row_R].clone()) for p, row_R in rows.items() if len(row_R)]

    def put_back(*_: object) -> None:
        with torch.no_grad():
            for parameter, row_R, value in held:
                parameter[row_R] = value

    hook = optimizer.register_step_post_hook(put_back)
    try:
        yield
    finally:
        hook.remove()


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split("+")]
