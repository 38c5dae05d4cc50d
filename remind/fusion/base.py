"""The base class of fusion models, which convert the tokens of a patient's modalities into class logits.

A method is one file of this folder: its options, a `FusionModel` that defines `fuse`, and `@registry.register`. Every
tensor that is sent must be a parameter, because buffers are not sent. Parameters named ``groups.<bitmask>.…`` belong to
that group; all others are shared. Parameters of the last layer are named ``head.…``, because some objectives and
federated rules treat it separately.

Shapes: B patients in a batch, N patients of a site, m modalities, l_i tokens of modality i, M tokens in all, D width,
E experts, C classes, G groups.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from remind.config import Count, Fraction, ModelConfig, Section
from remind.fusion.around import AloneScale, Baseline, Projection, SharedLinear, known_rows
from remind.fusion.dense import DenseForm, DenseHead, Maps
from remind.fusion.group_modules import GroupModules
from remind.fusion.modality_dropout import drop_modalities
from remind.fusion.prototypes import Prototypes
from remind.fusion.support import Support
from remind.groups import MAX_MODALITIES
from remind.registry import Options, Registry
from remind.seeds import derive, seeded

Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (B, C) and labels (B,) of the batch, in its order → loss (B,)
Patients = Iterable[tuple[Sequence[Tensor], Tensor, Tensor]]  # batches: tokens as `fuse` receives them, (B, m), (B,)
Told = tuple[Tensor, Tensor]  # a parameter as a site sent it, and as the site had received it
Decode = Callable[[Tensor, Tensor], Tensor]  # steering (B, C) and presence (B, m) → logits of a mask (B, R·V)


class Context(Section):
    """The sizes that a model is built for. They come from the cohort and the run, and are the same for every method.

    In `model`, width, heads and dropout apply to all methods. The other settings apply to REMIND and to Soft MoE, which
    is REMIND without Φ_k.
    """

    model: ModelConfig = Field(description="[model] of the run")
    classes: Count = Field(
        description="C, or the outputs per patient of another outcome (`remind.outcomes`); of a mask, the numbers that "
        "steer the dense head"
    )
    modalities: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_MODALITIES)] = Field(
        description="names, in schema order"
    )
    tokens: tuple[Count, ...] = Field(description="l_1 … l_m")
    numbers: tuple[int, ...] = Field((), description="rows of each modality's numbers, with ``model.linear``")
    dense: DenseForm | None = Field(None, description="form of the dense head, if the outcome is a mask")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.tokens) != len(self.modalities):
            raise ValueError(f"{len(self.tokens)} token counts for {len(self.modalities)} modalities")
        return self

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.model.width

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.model.heads

    @property
    def dropout(self) -> float:
        """Dropout rate of attention, expert and hidden outputs in training."""
        return self.model.dropout

    @property
    def full(self) -> int:
        """The group that has every modality."""
        return (1 << len(self.modalities)) - 1


class FusionOptions(Options):
    """Base class of every fusion model's own options. Their defaults are the paper's."""

    modality_dropout: Fraction = Field(0.0, description="probability that a present modality is hidden in training")


@dataclass(frozen=True)
class FusionOutput:
    """The output of a model for B patients.

    A method whose training needs more (several predictions, pairs, labels) returns a subclass with its own `loss`.
    `total_loss` adds the terms that apply to any model.

    Attributes
    ----------
    logits_BC
        Class logits.
    open_B
        Share of blocks in which the group's own routing was used for each patient; None if the method has no gate.
    auxiliary_B
        Term that is added to each patient's training loss, already multiplied by its factor; None outside training or
        if there is none. A term that couples the patients of a batch (balance of experts) has the same value in every
        row, so that it counts once if the weights of a step's patients sum to 1.
    use_BE
        Mean weight of each expert in the outputs of a patient's tokens, without gradient: rows sum to 1, or to 0 for
        a patient who needed no expert. None where there are no experts.
    aligned_BC
        Term that ``model.prototypes`` adds to a patient's training loss if the patient is of class c; None: no term.
    """

    logits_BC: Tensor
    open_B: Tensor | None = None
    auxiliary_B: Tensor | None = None
    use_BE: Tensor | None = None
    aligned_BC: Tensor | None = None

    def total_loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        """Return `loss` plus the prototype term, which aligns the encoders of different hospitals, (B,)."""
        loss_B = self.loss(label_B, criterion)
        if self.aligned_BC is None:
            return loss_B
        return loss_B + self.aligned_BC.gather(1, label_B.unsqueeze(1)).squeeze(1)

    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        """Return the training loss of each patient, (B,)."""
        loss_B = criterion(self.logits_BC, label_B)
        return loss_B if self.auxiliary_B is None else loss_B + self.auxiliary_B

    def decoded(self, decode: Decode, presence_Bm: Tensor) -> Self:
        """Return the output with the logits of a mask in place of the numbers that steer the dense head.

        A method whose loss uses other predictions than `logits_BC` must decode these too.
        """
        return replace(self, logits_BC=decode(self.logits_BC, presence_Bm))

    def cast(self, dtype: torch.dtype) -> Self:
        """Convert the output to another type, for instance after autocast."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        floats = {n: t.to(dtype) for n, t in tensors.items() if isinstance(t, Tensor) and t.is_floating_point()}
        return replace(self, **floats)


class FusionModel(nn.Module, ABC):
    """Base class of fusion models.

    Only `fuse` must be defined; the hooks below have defaults that suit most methods.
    """

    shrinkable = False  # whether groups have routers of their own that ``train.shrink`` can pull towards 0
    takes_alone = True  # whether its loss uses `FusionOutput.logits_BC`, to which parts of `remind.fusion.around` add
    ranks = False  # whether its own loss already ranks more modalities above fewer
    not_exported = ""  # why its stage 2 cannot be exported (`remind.export`); empty: it can
    private = False  # whether a test shows that the tape records gradients per patient (`remind.privacy.tape`)
    outcomes = ""  # why it predicts only classes without an order; empty: it predicts any outcome
    masks = ""  # why it predicts no mask; empty: its `fuse` may steer a dense head
    compares = 0  # maximum number of the site's training patients that a prediction is compared with, also in stage 1
    one_space = False  # whether its common parameters describe features, so that its paper averages the encoders too
    by_class: ClassVar[tuple[str, ...]] = ()  # parameters (m, C, D): the features of a class in a modality
    merged: ClassVar[
        tuple[str, ...]
    ] = ()  # parameters that are merged (`merge`), not averaged; a site may fill them (`gather`)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.merged and not any("merge" in vars(base) for base in cls.__mro__[: cls.__mro__.index(FusionModel)]):
            raise TypeError(f"{cls.__name__} has parameters to merge ({', '.join(cls.merged)}) and must define merge")

    def __init__(self, context: Context, options: FusionOptions) -> None:
        super().__init__()
        self.context = context
        self.modality_dropout = options.modality_dropout
        self.groups = GroupModules()
        self.projection = Projection(len(context.modalities), context.width) if context.model.projection else None
        self.alone = AloneScale(context.model.blend) if context.model.encoders.alone != "none" else None
        self.linear = SharedLinear(context.numbers, context.width, context.classes) if context.numbers else None
        self.baseline = Baseline(context.classes) if context.model.baseline == "hospital" else None
        self.dense = DenseHead(context.dense, context.classes) if context.dense is not None else None
        factor, sizes = context.model.prototypes, (len(context.modalities), context.classes, context.width)
        self.prototypes = Prototypes(*sizes, factor) if factor else None
        if context.model.stays:
            self.not_exported = (
                "it adds to what each hospital knows alone (model.encoders.alone, model.linear), which does not leave"
            )

    @abstractmethod
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        """Return the output for B patients. As `forward`, but tokens of absent modalities are already 0."""

    def forward(
        self,
        tokens: Sequence[Tensor],
        presence_Bm: Tensor,
        group_B: Tensor,
        routing: bool = True,
        alone_BRD: Tensor | None = None,
        maps: Maps | None = None,
    ) -> FusionOutput:
        """Return the output for B patients.

        Parameters
        ----------
        tokens
            One (B, l_i, D) tensor per modality. Rows of patients without the modality may hold any value, even NaN.
        presence_Bm
            Which modalities each patient has, bool; at least one.
        group_B
            Group of each patient, known to the model or not: the bitmask of `presence_Bm`.
        routing
            False in stage 1, True in stage 2; each method defines the difference.
        alone_BRD
            Outputs of the site's own models (`remind.encoders.alone`): scores and class shares, which are added to this
            model's logits; with ``model.linear`` also the numbers of all modalities.
        maps
            Feature maps of the modalities that have some, if the outcome is a mask; then logits are (B, R·V).
        """
        if self.training and self.modality_dropout > 0:
            presence_Bm = drop_modalities(presence_Bm, self.modality_dropout)
            group_B = group_of(presence_Bm)
        seen = self.seen(tokens, presence_Bm)
        output = self._checked(self.fuse(seen, presence_Bm, group_B, routing))
        if self.dense is not None:
            assert maps is not None
            output = output.decoded(partial(self.dense, maps), presence_Bm)
        if self.prototypes is not None and self.training and not routing:  # in stage 2 encoders are frozen
            output = replace(output, aligned_BC=self.prototypes(seen, presence_Bm))
        if self.baseline is not None:
            output = replace(output, logits_BC=self.baseline(output.logits_BC))
        if alone_BRD is None:
            return output
        logits_BC = output.logits_BC
        rows = known_rows(self.context.classes, len(self.context.modalities), self.context.width)
        if self.linear is not None:
            logits_BC = logits_BC + self.linear(alone_BRD[:, rows:], presence_Bm)
        if self.alone is not None:
            logits_BC = self.alone(logits_BC, alone_BRD[:, :rows].flatten(1), presence_Bm)
        return replace(output, logits_BC=logits_BC)

    def _checked(self, output: FusionOutput) -> FusionOutput:
        """Return the output of `fuse`; raise a TypeError that names the class if its type or shape is wrong."""
        if not isinstance(output, FusionOutput):
            raise TypeError(f"{type(self).__name__}.fuse must return a FusionOutput, not a {type(output).__name__}")
        if output.logits_BC.dim() != 2 or output.logits_BC.shape[1] != self.context.classes:
            shape, classes = tuple(output.logits_BC.shape), self.context.classes
            raise TypeError(f"{type(self).__name__}.fuse: logits_BC has the shape {shape}; it must have (B, {classes})")
        return output

    def seen(self, tokens: Sequence[Tensor], presence_Bm: Tensor) -> list[Tensor]:
        """Return the tokens as `fuse` receives them: 0 where a modality is absent, after ``model.projection``."""
        seen = [torch.where(presence_Bm[:, i, None, None], z_BlD, 0.0) for i, z_BlD in enumerate(tokens)]
        if self.projection is None:
            return seen
        return [torch.where(presence_Bm[:, i, None, None], z_BlD, 0.0) for i, z_BlD in enumerate(self.projection(seen))]

    # Hooks

    def new_group(self, group: int) -> nn.Module | None:
        """Return the parameters of a new group; None if it needs none. Random values depend only on the group."""
        return None

    def shrinks(self, name: str) -> bool:
        """Return whether ``train.shrink`` pulls a parameter of a group (by its name in `SiteModel`) towards 0."""
        return ".groups." in name and ".residual_" in name

    def idle(self, name: str, routing: bool) -> bool:
        """Return whether a parameter (by its name in this model) has no gradient in a stage, for any patients.

        Private steps add noise to all other parameters, because a zero gradient would reveal something about patients.
        """
        return name.endswith(".log_times_E")  # constants of merged experts

    def trains_on(self, presence_Nm: Tensor, routing: bool) -> Tensor:
        """Return which of a site's N training patients take part in the steps of a stage, (N,) bool.

        At least one takes part.
        """
        return torch.ones(len(presence_Nm), dtype=torch.bool, device=presence_Nm.device)

    def set_support(self, support: Support | None) -> None:
        """Receive the source of other training patients' tokens at this site; methods that retrieve store it."""

    def set_step_patients(self, index_B: Tensor | None) -> None:
        """Receive the patients of the next step, as positions in the site's cohort; None: no training patients.

        Methods that retrieve use it so that a patient never retrieves its own hidden tokens.
        """

    def gather(self, patients: Patients, least: int, received: Mapping[str, Tensor]) -> None:
        """Fill the parameters of `merged` at a site, after the steps of a round.

        Parameters
        ----------
        patients
            Batches of the site's training patients: tokens as `fuse` receives them, presence (B, m), labels (B,).
        least
            The site's minimum count: every published value must be about at least this many patients.
        received
            The values of `merged` before the steps, as the site received them; without those that it did not receive.
        """

    @classmethod
    def merge(cls, name: str, replies: Sequence[Told], before: Tensor) -> Tensor:
        """Return the new value of a parameter of `merged`.

        Parameters
        ----------
        name
            Of the parameter.
        replies
            What each site sent, and what it had received: the same numbers as `before` but under a rule with a model
            for each site. Sites that sent back all of what they received are not among them.
        before
            The previous value.
        """
        raise TypeError(f"{cls.__name__} has no parameters to merge: {name}")

    @classmethod
    def beyond(cls, name: str, received: Tensor) -> str | None:
        """Return why no honest site sends this value of a parameter of `merged`; empty if one may.

        None, the default: the reply is an update of the value that was sent, and the limits of updates apply. A class
        whose sites fill the parameter again must define its own bound here, and its `gather` must respect the bound.
        """
        return None

    def of_others(self, modality: int, tokens: Tensor) -> Tensor:
        """Return tokens (…, l, D) of supporting patients after this model's projection of the modality."""
        if self.projection is None:
            return tokens
        return tokens + tokens @ self.projection.weight_mDD[modality] + self.projection.bias_mD[modality]

    # Groups

    def add_groups(self, groups: Iterable[int], seed: int) -> None:
        """Add the parameters of `new_group` for each new group. The order of the groups does not matter."""
        like = next(self.parameters())
        for group in groups:
            if str(group) not in self.groups:
                with seeded(derive(seed, "group", group)):
                    own = self.new_group(group)
                if own is not None:
                    self.groups[str(group)] = own.to(like.device, like.dtype)

    def keep_groups(self, groups: Collection[int], seed: int) -> None:
        """Keep exactly these groups: add the new ones and remove the others."""
        for key in [key for key in self.groups if int(key) not in groups]:
            del self.groups[key]
        self.add_groups(sorted(groups), seed)

    def known_groups(self) -> tuple[int, ...]:
        """Return the groups with parameters of their own, ascending."""
        return self.groups.known()


# built with (context, options)
registry: Registry[FusionModel] = Registry("method.fusion", "remind.fusion", FusionModel, FusionOptions)


def build_fusion(choice: str, context: Context, seed: int) -> FusionModel:
    """Build a freshly initialised model without groups; equal seeds give equal models.

    Parameters
    ----------
    choice
        A method's name, optionally with options: ``"flexmoe(experts = 8)"``.
    context
        The sizes of the cohort.
    seed
        The seed of the run.

    Raises
    ------
    UserError
        There is no such method, or it does not accept these options.
    """
    method, options = registry.choose(choice)
    with seeded(derive(seed, "fusion")):
        return method.build(context, options)


def group_of(presence_Bm: Tensor) -> Tensor:
    """Return the group (bitmask) of each patient, (B,) int64. This is `remind.groups.masks` for tensors."""
    bits_m = torch.arange(presence_Bm.shape[1], device=presence_Bm.device)
    return (presence_Bm.long() << bits_m).sum(dim=1)
