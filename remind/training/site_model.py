"""Encoders and fusion as one model, and the tokens between them.

Shapes: B patients, m modalities, l_i tokens of modality i, M tokens in all, D width, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from remind.config import Config
from remind.data.batch import Batch
from remind.data.schema import CohortSchema
from remind.encoders import build_encoder, token_count
from remind.fusion.remind import FusionOutput, Remind, build_fusion


class SiteModel(nn.Module):
    """Encoders of the modalities a site has, and the fusion model."""

    def __init__(self, schema: CohortSchema, config: Config, has: Sequence[str]) -> None:
        super().__init__()
        self.counts = {m.name: token_count(m, config.model) for m in schema.modalities}
        self.encoders = nn.ModuleDict(
            {m.name: build_encoder(m, config.model, config.seed) for m in schema.modalities if m.name in has}
        )
        self.fusion: Remind = build_fusion(config.model, len(schema.classes), config.seed)

    def tokens(self, batch: Batch) -> Tensor:
        """Tokens of all modalities side by side, (B, M, D); zeros for a modality the site has no encoder for."""
        width = self.fusion.config.width
        like = self.fusion.head.weight
        parts = [
            self.encoders[name](batch.inputs[name])
            if name in self.encoders
            else like.new_zeros(len(batch.label_B), count, width)
            for name, count in self.counts.items()
        ]
        return torch.cat(parts, dim=1)

    def fuse(self, tokens_BMD: Tensor, batch: Batch, routing: bool) -> FusionOutput:
        """Logits from the output of `tokens`."""
        return self.fusion(  # type: ignore[no-any-return]
            torch.split(tokens_BMD, list(self.counts.values()), dim=1), batch.presence_Bm, batch.group_B, routing
        )
