"""The global model at the coordinator: tensors by name, and one block for each group that occurs at any site."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.encoders import build_encoder
from remind.errors import UserError, several
from remind.federation.blocks import SHARED, block_of, encoder_block, group_block
from remind.methods import methods_of
from remind.training.site_model import fusion_of


@dataclass(frozen=True)
class GlobalModel:
    """Every tensor that the server holds, by its global name."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def build(cls, config: Config, schema: CohortSchema, groups: Iterable[int]) -> "GlobalModel":
        """Return a new model: shared fusion, a block per group, and encoders if they are shared."""
        fusion = fusion_of(schema, config)
        fusion.add_groups(sorted(groups), config.seed)
        encoders = nn.ModuleDict()
        if config.federation.encoders == "shared":
            for modality in schema.modalities:
                encoders[modality.name] = build_encoder(modality, config.model, config.seed)
        whole = nn.ModuleDict({"fusion": fusion, "encoders": encoders})
        travels = methods_of(config).rule.sent(whole)
        return cls(_in_precision({n: p.detach() for n, p in whole.named_parameters() if travels(n)}, config))

    @classmethod
    def begun_with(
        cls, start: Mapping[str, Tensor], config: Config, schema: CohortSchema, groups: Iterable[int]
    ) -> "GlobalModel":
        """Return the tensors of `start`, and new blocks for those of `groups` that it lacks.

        Raises
        ------
        UserError
            A tensor of `start` has no place in this run's model, or another shape there, or one that every site is
            sent is lacking.
        """
        try:
            blocks = {block_of(name) for name in start}
        except ValueError as error:
            raise UserError(f"the model to begin with: {error}") from None
        known = {int(block.partition(":")[2]) for block in blocks if block.startswith("group:")}
        fresh = cls.build(config, schema, known.union(groups)).tensors
        whole = {n for n in fresh if not block_of(n).startswith("group:") or block_of(n) in blocks}
        problems = [f"group {k} has modalities that the cohort lacks" for k in sorted(known) if k >> len(schema.names)]
        problems += [f"{name} is no tensor of this model" for name in sorted(start.keys() - fresh.keys())]
        problems += [f"{name} is lacking" for name in sorted(whole - start.keys())]
        problems += [
            f"{name} has shape {tuple(start[name].shape)}, here {tuple(tensor.shape)}"
            for name, tensor in sorted(fresh.items())
            if name in start and start[name].shape != tensor.shape
        ]
        if problems:
            shown = [*problems[:3], *([f"and {len(problems) - 3} more"] if len(problems) > 3 else [])]
            raise several("the model to begin with is not of this run: check [model] and method.fusion", shown)
        return cls({n: start[n].detach().to(t.dtype) if n in start else t for n, t in fresh.items()})

    def with_groups(self, config: Config, schema: CohortSchema, groups: Iterable[int]) -> "GlobalModel":
        """Return the model with blocks for new groups (Φ_k = 0, B_k drawn)."""
        fresh = self.build(config, schema, groups).tensors
        return replace(self, tensors={**{n: t for n, t in fresh.items() if n not in self.tensors}, **self.tensors})

    def select(self, groups: Iterable[int], modalities: Iterable[str]) -> dict[str, Tensor]:
        """Return the tensors for a site: shared ones, those of its groups, and shared encoders of its modalities."""
        blocks = {SHARED, *map(group_block, groups), *map(encoder_block, modalities)}
        return {name: tensor for name, tensor in self.tensors.items() if block_of(name) in blocks}


def _in_precision(tensors: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}
