"""Tables → patch embeddings (the paper's encoder of M4): at most `tokens` runs of columns, each one token.

Shapes: B patients, F columns, P features of the longest patch, l patches, D width.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remind.config import ModelConfig
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.encoders.base import Encoder, patches, register
from remind.encoders.standardise import moments

CLIP = 8.0  # standardised values beyond are outliers or slips of the pen; a linear embedding must not follow them


@register(TableSchema, "patches", title="runs of columns, each embedded as one patch", usual=True)
class TableEncoder(Encoder):
    """Each column's features (standardised value or one-hot level, and "is missing") embedded with its patch."""

    index_lP: Tensor
    mean_F: Tensor
    std_F: Tensor

    def __init__(self, schema: TableSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.schema, self.hide = schema, config.hide
        levels = [len(schema.categories.get(column, ())) for column in schema.columns]
        self.levels = levels
        widths = [(count or 1) + 1 for count in levels]
        starts = np.concatenate([[0], np.cumsum(widths)])
        runs = [
            [f for column in run for f in range(starts[column], starts[column + 1])]
            for run in patches(len(levels), config.tokens)
        ]
        longest = max(map(len, runs))
        padding = int(starts[-1])  # one more feature that is always 0
        index = torch.tensor([run + [padding] * (longest - len(run)) for run in runs])
        self.register_buffer("index_lP", index, persistent=False)
        self.register_buffer("mean_F", torch.tensor([schema.mean.get(c, 0.0) for c in schema.columns]))
        self.register_buffer("std_F", torch.tensor([schema.std.get(c, 1.0) for c in schema.columns]))
        self.weight_lPD = nn.Parameter(torch.randn(len(runs), longest, config.width) / longest**0.5)
        self.bias_lD = nn.Parameter(torch.randn(len(runs), config.width) * 0.02)
        self.adapter = nn.Linear(config.width, config.width)

    @staticmethod
    def token_count(schema: TableSchema, config: ModelConfig) -> int:
        """One token per patch of columns."""
        return len(patches(len(schema.columns), config.tokens))

    @classmethod
    def fits(cls, schema: TableSchema) -> bool:
        """See `Encoder`."""
        return schema.standardise == "train" and bool(schema.numeric)

    def fit(self, modality: Table) -> None:
        """Mean and standard deviation of each numeric column over its observed values, where the schema says so."""
        if self.schema.standardise != "train":
            return
        for f, levels in enumerate(self.levels):
            if not levels:
                value_N = modality.values_NF[:, f].astype(np.float64)
                self.mean_F[f], self.std_F[f] = moments(value_N[~np.isnan(value_N)])

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, F) with NaN for missing and level indices in categorical columns → (B, l, D)."""
        if self.training and self.hide > 0:
            inputs = inputs.masked_fill(torch.rand_like(inputs) < self.hide, torch.nan)
        features_BX = functional.pad(self._features(inputs), (0, 1))
        patches_BlP = features_BX[:, self.index_lP]
        z_BlD = torch.einsum("blp,lpd->bld", patches_BlP, self.weight_lPD) + self.bias_lD
        out: Tensor = z_BlD + self.adapter(functional.gelu(z_BlD))
        return out

    def _features(self, values_BF: Tensor) -> Tensor:
        missing_BF = values_BF.isnan()
        z_BF = ((values_BF - self.mean_F) / self.std_F).nan_to_num().clamp(-CLIP, CLIP)
        parts = []
        for f, count in enumerate(self.levels):
            seen_B1 = ~missing_BF[:, f : f + 1]
            if count:
                level_B = values_BF[:, f].nan_to_num().long()
                parts += [functional.one_hot(level_B, count).to(z_BF.dtype) * seen_B1]
            else:
                parts += [z_BF[:, f : f + 1] * seen_B1]
            parts += [missing_BF[:, f : f + 1].to(z_BF.dtype)]
        return torch.cat(parts, dim=1)
