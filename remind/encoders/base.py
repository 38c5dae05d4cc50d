"""The base class of encoders, and the registry by kind of modality.

Shapes: P patients who have the modality, l tokens of the modality, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from torch import Tensor, nn

from remind.config import ModelConfig
from remind.data.cohort.schema import ModalitySchema
from remind.seeds import derive, seeded


class Encoder(nn.Module, ABC):
    """Values of one modality → tokens. Its weights and what `fit` learns stay at the site."""

    def __init__(self, schema: Any, config: ModelConfig) -> None:
        super().__init__()

    @staticmethod
    @abstractmethod
    def token_count(schema: Any, config: ModelConfig) -> int:
        """Return l, which depends only on the schema: a site without the modality still reserves token positions."""

    def fit(self, modality: Any) -> None:
        """Compute standardisation statistics from training patients, if there are any and the schema gives none."""

    @classmethod
    def fits(cls, schema: Any) -> bool:
        """Return whether `fit` learns anything from a site's patients: then each site has its own encoder."""
        return cls.fit is not Encoder.fit

    @abstractmethod
    def forward(self, inputs: Any) -> Tensor:
        """Return the tokens (P, l, D) of the P patients who have the modality."""

    def core(self) -> nn.Module | None:
        """Return the backbone without its adapter, to compile or to freeze it separately.

        None if the encoder has none.
        """
        return self._modules.get("backbone")


EncoderType = TypeVar("EncoderType", bound=type[Encoder])
_ENCODERS: dict[type, type[Encoder]] = {}


def register(schema_type: type) -> Callable[[EncoderType], EncoderType]:
    """Make a class the encoder of a kind of modality."""

    def add(encoder: EncoderType) -> EncoderType:
        _ENCODERS[schema_type] = encoder
        return encoder

    return add


def build_encoder(schema: ModalitySchema, config: ModelConfig, seed: int) -> Encoder:
    """Build a freshly initialised encoder: the same at every site for the same seed, whatever else the site has.

    Raises
    ------
    UserError
        The config names a backbone or weights that are not available.
    """
    with seeded(derive(seed, "encoder", schema.name)):
        return _ENCODERS[type(schema)](schema, config)


def needs_fit(schema: ModalitySchema) -> bool:
    """Return whether the encoder of a modality holds statistics of the site that it was built at."""
    return _ENCODERS[type(schema)].fits(schema)


def token_count(schema: ModalitySchema, config: ModelConfig) -> int:
    """Return the number of tokens of a modality without building its encoder.

    Raises
    ------
    UserError
        The config names an unknown backbone, or one that cannot process what the schema says.
    """
    return _ENCODERS[type(schema)].token_count(schema, config)


def patches(columns: int, tokens: int) -> list[list[int]]:
    """Columns 0 … columns−1 in at most `tokens` consecutive runs of nearly equal length."""
    count = min(columns, tokens)
    edges = [columns * i // count for i in range(count + 1)]
    return [list(range(start, stop)) for start, stop in pairwise(edges)]
