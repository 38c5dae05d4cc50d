"""The global model as the coordinator holds it: tensors by name, blocks by groups seen anywhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remind.config import Config
from remind.data.schema import CohortSchema
from remind.encoders import build_encoder
from remind.federation.blocks import ENCODERS, SHARED, block_of, encoder_block, group_block
from remind.methods import methods_of
from remind.training.site_model import fusion_of


@dataclass(frozen=True)
class GlobalModel:
    """Every tensor that lives at the server, by its global name."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def build(cls, config: Config, schema: CohortSchema, groups: Iterable[int]) -> "GlobalModel":
        """The initial model: shared fusion, a block per group; encoders only where they are shared."""
        tensors = _fusion(config, schema, groups)
        if config.federation.encoders == "shared":
            for modality in schema.modalities:
                encoder = build_encoder(modality, config.model, config.seed)
                tensors |= {f"{ENCODERS}{modality.name}.{n}": p.detach() for n, p in encoder.named_parameters()}
        travels = methods_of(config).rule.travels
        return cls(_in_precision({name: tensor for name, tensor in tensors.items() if travels(name)}, config))

    def with_groups(self, config: Config, schema: CohortSchema, groups: Iterable[int]) -> "GlobalModel":
        """The same model with blocks for groups seen for the first time (Φ_k = 0, B_k drawn)."""
        fresh = self.build(config, schema, groups).tensors
        return replace(self, tensors={**{n: t for n, t in fresh.items() if n not in self.tensors}, **self.tensors})

    def select(self, groups: Iterable[int], modalities: Iterable[str]) -> dict[str, Tensor]:
        """Tensors for a site: the shared ones, those of its groups, and shared encoders of its modalities."""
        blocks = {SHARED, *map(group_block, groups), *map(encoder_block, modalities)}
        return {name: tensor for name, tensor in self.tensors.items() if block_of(name) in blocks}


def _fusion(config: Config, schema: CohortSchema, groups: Iterable[int]) -> dict[str, Tensor]:
    fusion = fusion_of(schema, config)
    fusion.add_groups(sorted(groups), config.seed)
    return {f"fusion.{name}": p.detach() for name, p in fusion.named_parameters()}


def _in_precision(tensors: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}
