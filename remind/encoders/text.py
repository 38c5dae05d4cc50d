"""Notes → tokens: a transformer's last layer over the note, pooled to consecutive runs.

Shapes: P patients, T positions of the longest note in the batch, d width of the backbone, l tokens, D width.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.cohort.kinds.text import TextBatch, TextSchema
from remind.encoders.base import Encoder, register
from remind.encoders.pooling import pool_runs
from remind.encoders.pretrained import SECTION
from remind.encoders.word_transformer import WordReader, WordTransformer
from remind.errors import UserError
from remind.seeds import seeded

WORDS = "words"


class Reader(Protocol):
    """Notes → inputs of the backbone: numbers (P, T), and False where a position is padding.

    Attributes
    ----------
    first
        Whether position 0 represents the whole note (CLS).
    """

    first: bool

    def __call__(self, texts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Return the inputs for P notes."""
        ...


@register(TextSchema, "language", title="an encoder of transformers, or words, model.encoders.text", usual=True)
class TextEncoder(Encoder):
    """The CLS token if there is one, then the runs; learned tokens replace the empty tokens of a short note."""

    def __init__(self, schema: TextSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.tokens = self.token_count(schema, config)
        if config.encoders.text_weights not in {"pretrained", "random"}:
            key = f"{SECTION}text-weights"
            raise UserError(f"{key} = {config.encoders.text_weights!r}: give pretrained or random")
        self.reader: Reader
        self.backbone: nn.Module
        with seeded(int(torch.randint(2**62, ()))):  # the adapter's initial weights do not depend on the backbone
            if config.encoders.text == WORDS:
                width = config.width
                self.reader = WordReader(config.encoders.buckets, config.encoders.text_length)
                self.backbone = WordTransformer(config)
            else:
                from remind.encoders.language import language_model

                self.reader, self.backbone, width = language_model(config.encoders)
        self.adapter = nn.Linear(width, config.width)
        self.empty_lD = nn.Parameter(torch.randn(self.tokens, config.width) * 0.02)

    @staticmethod
    @override
    def positions(config: ModelConfig) -> int:
        return config.encoders.text_length  # tokens of a long note

    @staticmethod
    def token_count(schema: TextSchema, config: ModelConfig) -> int:
        """Return the configured number of tokens, but at most the number of tokens that are read."""
        return min(config.tokens, config.encoders.text_length)

    @override
    def rows(self, inputs: TextBatch) -> dict[str, tuple[Tensor, Tensor]]:
        number_PT, valid_PT = self.reader(inputs.texts)
        patient_P1 = torch.arange(len(number_PT)).unsqueeze(1)
        found = number_PT[valid_PT], patient_P1.expand_as(number_PT)[valid_PT]
        backbone: Any = self.backbone
        table = backbone.table.weight
        return {name: found for name, parameter in self.named_parameters() if parameter is table}

    def forward(self, inputs: TextBatch) -> Tensor:
        """Encode P notes → (P, l, D)."""
        device = self.empty_lD.device
        number_PT, valid_PT = (of.to(device) for of in self.reader(inputs.texts))
        h_PTd = self.backbone(number_PT, valid_PT)
        pooled_Pld, filled_Pl = pool_runs(h_PTd, valid_PT, self.tokens, self.reader.first)
        token_PlD: Tensor = self.adapter(pooled_Pld)
        return torch.where(filled_Pl.unsqueeze(2), token_PlD, self.empty_lD)
