"""Networks of timm by name, from the hub or from a folder, with the weights that the user chose.

timm only warns if weights do not fit, and continues with random weights; here this is an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from remind.config import EncoderConfig
from remind.encoders.backbone import remove
from remind.encoders.pretrained import SECTION, first_line, hub_file, misfit, named_file, read_file, torch_hub_file
from remind.errors import UserError, several

HUB, FOLDER = "hf-hub:", "local-dir:"  # timm's prefixes for networks that are defined outside timm
FILES = ("model.safetensors", "pytorch_model.bin")
OTHER = "choose another backbone, such as resnet50 or vit_base_patch16_224"


class Features(nn.Module):
    """A timm network up to its features: (P, d, rows, columns), or (P, n, d) for a transformer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of standardised pixels (P, C, H, W)."""
        features: Tensor = self.net.forward_features(pixels)  # type: ignore[operator]
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def about(name: str) -> str:
    """Return the beginning of an error message."""
    return f"{SECTION}image = {name!r}"


def create(name: str, size: tuple[int, int], channels: int, **changes: Any) -> nn.Module:
    """Build the network without classifier for images of this size; errors of timm are raised unchanged.

    Raises
    ------
    UserError
        There is no such network.
    """
    import timm

    source = _source(name)
    shape: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    with torch.device("meta"):
        described: Any = timm.create_model(source, **shape)
    if described.pretrained_cfg.get("fixed_input_size"):
        shape["img_size"] = size  # these networks have a fixed input size, which can be set
    net: nn.Module = timm.create_model(source, **shape, **changes)
    return net


@contextmanager
def refusals(name: str, size: tuple[int, int]) -> Iterator[None]:
    """Convert the error that a network raises for images that it cannot process into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each network raises its own type of error
        raise UserError(
            f"{about(name)}: cannot take pictures of {size[0]} × {size[1]} ({first_line(error)}); "
            "choose another size in cohort.toml (most take 224 × 224) or another backbone"
        ) from error


def with_weights(config: EncoderConfig, size: tuple[int, int], channels: int, idle: tuple[str, ...]) -> Features:
    """Build the network up to its features, without its `idle` parts, with the weights that the user chose.

    Raises
    ------
    UserError
        The weights are not available, or do not fit.
    """
    name, given = config.image, named_file("image-weights", config.image_weights)
    overlay: dict[str, Any] = {"source": ""}
    if given is not None:
        _must_fit(given, name, size, channels, idle)
        # No file has this number of classes: timm then drops the classifier and loads the other weights.
        overlay |= {"file": str(given), "num_classes": -1}
    elif config.image_weights == "pretrained":
        overlay |= _published(name)
    if "file" not in overlay:
        features = Features(create(name, size, channels))
    else:
        try:
            features = Features(create(name, size, channels, pretrained=True, pretrained_cfg_overlay=overlay))
        except Exception as error:  # from torch, safetensors, or a network's own reader of old files
            what = f"cannot be loaded ({first_line(error)}); remove it and fetch it again"
            raise UserError(f"{about(name)}: {overlay['file']} {what}") from error
    remove(features, idle)
    return features


def _source(name: str) -> str:
    """Return the name under which timm can build the network without a request to a hub.

    Raises
    ------
    UserError
        There is no such network.
    """
    import timm

    if name.startswith(HUB):
        return f"{FOLDER}{hub_file(about(name), name.removeprefix(HUB), ['config.json']).parent}"
    if name.startswith(FOLDER):
        folder = Path(name.removeprefix(FOLDER)).expanduser()
        if (folder / "config.json").is_file():
            return f"{FOLDER}{folder}"
        raise UserError(f"{about(name)}: there is no config.json in {folder}; name a folder that timm has saved")
    try:
        if timm.is_model(name) and timm.get_pretrained_cfg(name) is not None:
            return name
    except RuntimeError:  # the tag after the dot is unknown
        pass
    close = get_close_matches(name, {*timm.list_models(), *timm.list_pretrained()}, n=5, cutoff=0.6)
    hint = f"did you mean {', '.join(close)}?" if close else OTHER
    raise UserError(f"{about(name)}: timm has no such network; {hint}")


def _published(name: str) -> dict[str, Any]:
    """Return the arguments with which timm loads the published weights, after they are on this machine.

    Raises
    ------
    UserError
        There are no published weights, or they cannot be downloaded.
    """
    import timm

    key = f"{SECTION}image-weights"
    ways_out = [f"set {key} to a file of its weights", f"set {key} to random"]
    if name.startswith(HUB):
        return {"file": str(hub_file(about(name), name.removeprefix(HUB), FILES, ways_out))}
    if name.startswith(FOLDER):
        folder = Path(name.removeprefix(FOLDER)).expanduser()
        if (file := next((folder / f for f in FILES if (folder / f).is_file()), None)) is None:
            raise several(f"{about(name)}: there is no {' or '.join(FILES)} in {folder}. Either", ways_out)
        return {"file": str(file)}
    known: Any = timm.get_pretrained_cfg(name)
    if known.hf_hub_id:
        files = [known.hf_hub_filename] if known.hf_hub_filename else FILES
        file = hub_file(about(name), known.hf_hub_id, files, ways_out)
        return {"file": str(file), "custom_load": known.custom_load == "hf"}
    if known.url:
        return {"file": str(torch_hub_file(about(name), known.url, ways_out)), "custom_load": known.custom_load}
    alike = get_close_matches(name, timm.list_pretrained(), n=5)
    if alike:
        ways_out.append(f"choose a network like it: {', '.join(alike)}")
    raise several(f"{about(name)}: there are no published weights. Either", ways_out)


def _must_fit(file: Path, name: str, size: tuple[int, int], channels: int, idle: tuple[str, ...]) -> None:
    """Check that a file has all weights: a trial network of NaN shows which tensors timm loads after its conversions.

    Raises
    ------
    UserError
        The file lacks weights that the features depend on.
    """
    found = read_file("image-weights", file)
    marked = {n: torch.full((), torch.nan).expand(t.shape) if t.is_floating_point() else t for n, t in found.items()}
    overlay = {"state_dict": marked, "source": "", "num_classes": -1, "custom_load": False}
    try:
        trial = Features(create(name, size, channels, pretrained=True, pretrained_cfg_overlay=overlay))
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:  # from torch, or from timm's converters
        reasons = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise several(f"{SECTION}image-weights = '{file}': does not fit {name}", reasons[:5]) from error
    remove(trial, idle)
    state = {n.removeprefix("net."): t for n, t in trial.state_dict().items() if t.is_floating_point()}
    if absent := [n for n, tensor in state.items() if not tensor.isnan().any()]:
        raise misfit("image-weights", file, name, absent, len(state), found)
