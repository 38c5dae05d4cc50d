"""The device and the number formats with which a site computes: device, types, autocast, compilation."""

from dataclasses import dataclass

import torch

from remind.config import Config
from remind.encoders import Encoder
from remind.errors import UserError
from remind.training.site_model import SiteModel


@dataclass(frozen=True)
class Precision:
    """The type of weights and values, and whether autocast runs matrix products in bfloat16."""

    dtype: torch.dtype
    autocast: bool

    @classmethod
    def of(cls, config: Config, device: torch.device) -> "Precision":
        """Create it from the config; auto is bfloat16 autocast on a GPU and float32 elsewhere."""
        chosen = config.precision
        if chosen == "auto":
            chosen = "bfloat16" if device.type == "cuda" else "float32"
        return cls(torch.float64 if chosen == "float64" else torch.float32, chosen == "bfloat16")


def choose_device(name: str) -> torch.device:
    """Return the device of this name; auto: a GPU if there is one.

    Raises
    ------
    UserError
        This machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"device: {name!r} is not available here; use 'cpu', 'cuda' or 'auto'") from None
    return device


def prepare(model: SiteModel, precision: Precision, device: torch.device) -> None:
    """Move a model to its device and type, and set autocast."""
    model.to(device, precision.dtype)
    model.autocast = precision.autocast


def compile_backbones(model: SiteModel, config: Config, device: torch.device) -> None:
    """Compile the encoders' backbones, where a step spends its time, with torch.compile; auto: only on a GPU.

    Batches of a modality differ in size, so shapes are dynamic. The fusion is not compiled, because its control flow
    depends on the patients whose gates are open. Parameter names do not change, because modules are compiled in place.
    """
    if config.compile == "never" or (config.compile == "auto" and device.type != "cuda"):
        return
    for encoder in model.encoders.values():
        if isinstance(encoder, Encoder) and (core := encoder.core()) is not None:
            core.compile(dynamic=True)
