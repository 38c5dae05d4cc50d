"""The model of one hospital in memory: its encoders, its fusion model, and the routers of other hospitals' groups.

Shapes: B patients in a batch, m modalities.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from remind.config import Config
from remind.errors import UserError
from remind.federation.blocks import ENCODERS, block_of
from remind.fusion.base import FusionModel
from remind.fusion.group_modules import GroupModules
from remind.fusion.support import TokenPool
from remind.prediction.bundle import Bundle
from remind.prediction.site_part import SitePart
from remind.training.device import Precision, prepare
from remind.training.site_model import SiteModel

if TYPE_CHECKING:
    from collections.abc import Iterator


class LoadedModel:
    """A hospital's model, ready to predict.

    Attributes
    ----------
    model
        Encoders and fusion. It has the hospital's own groups, as when the hospital's test patients were evaluated. An
        unknown combination gets a mean over these groups.
    routing
        Whether Φ_k is in use.
    elsewhere
        Groups that only other hospitals observe. They are in use inside `with_all_routers`.
    """

    def __init__(self, bundle: Bundle, part: SitePart | None, device: torch.device) -> None:
        config = _without_download(bundle.config)
        tensors = dict(bundle.tensors) if part is None else dict(part.tensors)
        has = _encoded(tensors, bundle) if part is None else part.modalities
        self.model = SiteModel(bundle.schema, config, has)
        self.routing = bundle.routing if part is None else part.routing
        _load(self.model, tensors, bundle)
        prepare(self.model, Precision.of(config, device), device)
        self.elsewhere = self._elsewhere(bundle, device)
        if part is not None and part.support:
            like = self.model.like
            pool = {n: t.to(device, like.dtype if t.is_floating_point() else None) for n, t in part.support.items()}
            self.model.fusion.set_support(TokenPool.of(pool, part.support_seed))
        self.model.eval().requires_grad_(False)
        for module in self.elsewhere.values():
            module.requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of values and tokens."""
        return self.model.like.dtype

    @contextmanager
    def with_all_routers(self) -> "Iterator[None]":
        """Let the model also use the routers of the groups that only other hospitals observe."""
        fusion = self.model.fusion
        own = fusion.groups
        fusion.groups = GroupModules({**dict(own.items()), **self.elsewhere})
        try:
            yield
        finally:
            fusion.groups = own

    def _elsewhere(self, bundle: Bundle, device: torch.device) -> dict[str, nn.Module]:
        fusion = self.model.fusion
        own = fusion.groups
        others = _groups_of(bundle.tensors) - {int(k) for k in own}
        fusion.groups = GroupModules()
        fusion.add_groups(sorted(others), bundle.config.seed)
        found = dict(fusion.groups.items())
        fusion.groups = own
        for group, module in found.items():
            prefix = f"fusion.groups.{group}."
            values = {n.removeprefix(prefix): t for n, t in bundle.tensors.items() if n.startswith(prefix)}
            module.load_state_dict(values)
        return found


def _load(model: SiteModel, tensors: Mapping[str, Tensor], bundle: Bundle) -> None:
    """Load the tensors into a new model. They must contain every parameter of the fusion model and of the encoders."""
    model.fusion.keep_groups(_groups_of(tensors), bundle.config.seed)
    lacking, unknown = model.load_state_dict(dict(tensors), strict=False)
    if bundle.config.federation.encoders == "frozen":  # as initialised
        lacking = [name for name in lacking if not name.startswith(ENCODERS)]
    if norms := [name for name in lacking if name.endswith(".running_mean")]:
        raise UserError(
            f"{bundle.where}: the encoder of {norms[0].split('.')[1]} needs batch statistics, which each hospital has "
            "and the shared model lacks; name the hospital with --site, or in the cohort's site column"
        )
    parameters = dict(model.named_parameters())
    lacking = [name for name in lacking if name in parameters]  # other buffers follow from the schema
    if lacking or unknown:
        raise UserError(
            f"{bundle.where}: the tensors do not fit the model that the config describes: {(*lacking, *unknown)[0]}; "
            "use the version of federated-remind that wrote the file"
        )


def _groups_of(tensors: Mapping[str, Tensor]) -> set[int]:
    found = set()
    for name in tensors:
        with suppress(ValueError):
            kind, _, group = block_of(name).partition(":")
            if kind == "group":
                found.add(int(group))
    return found


def _encoded(tensors: Mapping[str, Tensor], bundle: Bundle) -> Sequence[str]:
    """Return the modalities whose encoder is in the shared model, or stays as it was initialised."""
    if bundle.config.federation.encoders == "frozen":
        return bundle.schema.names
    shared = {name.split(".")[1] for name in tensors if name.startswith(ENCODERS)}
    return tuple(name for name in bundle.schema.names if name in shared)


def _without_download(config: Config) -> Config:
    """Return the config without pretrained encoders: their weights come from the run, so no download is needed."""
    if config.federation.encoders == "frozen":
        return config
    random = {"image_weights": "random", "volume_weights": "random", "text_weights": "random"}
    encoders = config.model.encoders.model_copy(update=random)
    return config.model_copy(update={"model": config.model.model_copy(update={"encoders": encoders})})


def known(fusion: FusionModel) -> frozenset[int]:
    """Return the groups that have their own parameters."""
    return frozenset(fusion.known_groups())
