"""The base class of encoders, and the registry of encoders by kind of modality.

A file in this folder that calls `register` adds an encoder; `model.encoders.choice` selects it (docs/extend.md).

Shapes: P patients who have the modality, l tokens of the modality, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar, get_args

from torch import Tensor, nn
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.cohort.kind import kinds
from remind.data.cohort.schema import CohortSchema, ModalitySchema
from remind.encoders.hidden_values import HiddenValues
from remind.errors import UserError
from remind.extensions import load_extensions, load_folder
from remind.registry import Options, Registry
from remind.seeds import derive, seeded
from remind.suggest import did_you_mean

PACKAGE = "remind.encoders"
KEY = "model.encoders.choice"
PRETRAINING = "model.encoders.pretraining-rounds"
MapShape = tuple[int, int, int, int]  # channels, D, H, W


class Encoder(nn.Module, ABC):
    """Values of one modality → tokens. Its weights and what `fit` learns stay at the site.

    Attributes
    ----------
    private
        Whether a test shows that the tape records gradients per patient (`remind.privacy.tape`). If not, a private step
        encodes one patient at a time, which is correct for any encoder but slower.
    """

    private: bool = False

    def __init__(self, schema: Any, config: ModelConfig) -> None:
        super().__init__()

    @staticmethod
    @abstractmethod
    def token_count(schema: Any, config: ModelConfig) -> int:
        """Return l, which depends only on the schema: a site without the modality still reserves token positions."""

    @staticmethod
    def positions(config: ModelConfig) -> int:
        """Return roughly to how many positions of one patient's data each weight is applied, to estimate time."""
        return config.tokens

    def fit(self, modality: Any) -> None:
        """Compute standardisation statistics from training patients, if there are any and the schema has none."""

    @classmethod
    def fits(cls, schema: Any) -> bool:
        """Return whether `fit` learns from a site's patients; if so, each site has its own encoder."""
        return cls.fit is not Encoder.fit

    @abstractmethod
    def forward(self, inputs: Any) -> Tensor:
        """Return the tokens (P, l, D) of the P patients who have the modality."""

    def rows(self, inputs: Any) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Return which rows of tables the patients read: parameter → rows (R,) and positions of their patients (R,).

        A table is a parameter of which a patient moves the rows that it reads and no others, such as an embedding of
        codes. A site sends only rows that enough of its patients read.
        """
        return {}

    def hidden_values(self) -> HiddenValues | None:
        """Return the task for learning without labels (``model.encoders.pretraining-rounds``), or None."""
        return None

    def core(self) -> nn.Module | None:
        """Return the backbone without its adapter, to compile or to freeze it separately.

        Return None if the encoder has no backbone.
        """
        return self._modules.get("backbone")


class DenseEncoder(Encoder):
    """An encoder that also gives feature maps, for outcomes that are masks (`remind.fusion.dense`)."""

    @staticmethod
    @abstractmethod
    def map_shapes(schema: Any, config: ModelConfig) -> tuple[MapShape, ...]:
        """Return the shape (channels, D, H, W) of each map, the one with most voxels first.

        It depends only on the schema, as `token_count`; the first map has the volume's own D, H, W.
        """

    @abstractmethod
    def dense(self, inputs: Any) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the tokens (P, l, D) and the maps (P, channels, D, H, W) of the P patients who have the modality."""

    @override
    def forward(self, inputs: Any) -> Tensor:
        return self.dense(inputs)[0]


EncoderType = TypeVar("EncoderType", bound=type[Encoder])
_OF_SCHEMA: dict[type[ModalitySchema], Registry[Encoder]] = {}
_USUAL: dict[type[ModalitySchema], str] = {}


def register(
    schema_type: type[ModalitySchema],
    name: str,
    *,
    title: str,
    paper: str = "",
    year: int = 0,
    options: type[Options] | None = None,
    usual: bool = False,
) -> Callable[[EncoderType], EncoderType]:
    """Register a class as an encoder of a kind of modality.

    Parameters
    ----------
    schema_type
        The schema of the kind.
    name, title, paper, year
        As for `Registry.register`.
    options
        The class of the encoder's options. The constructor and `token_count` then take them as their third argument.
    usual
        Whether it is the default encoder of the kind, used if `model.encoders.choice` names no other.

    Raises
    ------
    ValueError
        The kind already has an encoder of this name, or another default encoder.
    """
    registry = _registry(schema_type)

    def add(encoder: EncoderType) -> EncoderType:
        added = registry.register(name, title=title, paper=paper, year=year, options=options)(encoder)
        if usual and _USUAL.setdefault(schema_type, name) != name:
            raise ValueError(f"{schema_type.__name__} has two usual encoders, {_USUAL[schema_type]} and {name}")
        return added

    return add


def build_encoder(schema: ModalitySchema, config: ModelConfig, seed: int) -> Encoder:
    """Build a newly initialised encoder. It depends on the seed only, not on the site's other modalities.

    Raises
    ------
    UserError
        The config names an encoder, a backbone or weights that are not available.
    """
    build, options = _chosen(schema, config)
    with seeded(derive(seed, "encoder", schema.name)):
        encoder: Encoder = build(schema, config, *options)
        return encoder


def needs_fit(schema: ModalitySchema, config: ModelConfig) -> bool:
    """Return whether the encoder of a modality contains statistics of its site."""
    return bool(_chosen(schema, config)[0].fits(schema))


def token_count(schema: ModalitySchema, config: ModelConfig) -> int:
    """Return the number of tokens of a modality without building its encoder.

    Raises
    ------
    UserError
        The config names an unknown encoder or backbone, or one that cannot process the schema's data.
    """
    build, options = _chosen(schema, config)
    return int(build.token_count(schema, config, *options))


def map_shapes(schema: ModalitySchema, config: ModelConfig) -> tuple[MapShape, ...]:
    """Return the shapes of the feature maps that a modality's encoder gives for masks; none if it gives none."""
    build, options = _chosen(schema, config)
    return tuple(build.map_shapes(schema, config, *options)) if issubclass(build, DenseEncoder) else ()


def learns_unlabelled(schema: ModalitySchema, config: ModelConfig) -> bool:
    """Return whether the encoder of a modality can learn without labels."""
    return _chosen(schema, config)[0].hidden_values is not Encoder.hidden_values


def check_pretraining(schema: CohortSchema, config: ModelConfig) -> None:
    """Check that a cohort has a modality whose encoder can learn without labels.

    Raises
    ------
    UserError
        No modality's encoder can learn without labels.
    """
    if config.encoders.pretraining_rounds and not any(learns_unlabelled(m, config) for m in schema.modalities):
        kinds = ", ".join(sorted({m.kind for m in schema.modalities}))
        raise UserError(
            f"{PRETRAINING} = {config.encoders.pretraining_rounds}: cohort {schema.name} has {kinds}, whose encoders "
            "do not learn without labels (those of tables and series do); set it to 0"
        )


def positions(schema: ModalitySchema, config: ModelConfig) -> int:
    """Return roughly to how many positions of one patient's data each weight of the encoder is applied."""
    return int(_chosen(schema, config)[0].positions(config))


def encoders() -> dict[str, tuple[str, Registry[Encoder]]]:
    """Return, by kind of modality, the name of the default encoder and the registry of all encoders."""
    load_folder(PACKAGE)
    load_extensions()
    found = {name: kind.schema for name, kind in kinds().items()}
    return {name: (_USUAL.get(schema, ""), _registry(schema)) for name, schema in found.items()}


@lru_cache(maxsize=64)
def choices(text: str) -> dict[str, str]:
    """Return the encoder of each kind that `model.encoders.choice` names, in the user's notation.

    Raises
    ------
    UserError
        A part is not "kind: encoder", or there is no such kind or encoder, or it does not accept an option.
    """
    chosen: dict[str, str] = {}
    for part in filter(str.strip, text.split(";")):
        kind, colon, encoder = (piece.strip() for piece in part.partition(":"))
        if not colon or not encoder or kind in chosen:
            what = "is named twice" if kind in chosen else "is not written 'kind: encoder'"
            raise UserError(f"{KEY}: {part.strip()!r} {what}; write it like 'table: patches; series: attention'")
        if kind not in encoders():
            hint = did_you_mean(kind, encoders())
            raise UserError(f"{KEY}: there is no kind of modality {kind!r}{hint}; there are {', '.join(encoders())}")
        encoders()[kind][1].choose(encoder)
        chosen[kind] = encoder
    return chosen


def _chosen(schema: ModalitySchema, config: ModelConfig) -> tuple[Any, tuple[Options, ...]]:
    """Return the class of a modality's encoder, and its options if it has any."""
    usual, registry = encoders()[schema.kind]
    named = choices(config.encoders.choice).get(schema.kind, usual)
    if not named:
        raise UserError(f"modality {schema.name}: no encoder is registered for the kind {schema.kind}; install one")
    method, options = registry.choose(named)
    return method.build, () if method.options is Options else (options,)


def _registry(schema_type: type[ModalitySchema]) -> Registry[Encoder]:
    names = "/".join(get_args(schema_type.model_fields["kind"].annotation))
    return _OF_SCHEMA.setdefault(schema_type, Registry(f"{KEY}: encoder of {names}", PACKAGE, Encoder))


def patches(columns: int, tokens: int) -> list[list[int]]:
    """Divide columns 0 … columns−1 into at most `tokens` consecutive runs of nearly equal length."""
    count = min(columns, tokens)
    edges = [columns * i // count for i in range(count + 1)]
    return [list(range(start, stop)) for start, stop in pairwise(edges)]
