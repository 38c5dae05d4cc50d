"""Networks of timm by name, from the hub or from a folder, with the weights that the user chose.

timm itself warns where weights do not fit and continues with random ones; here that is an error.
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

HUB, FOLDER = "hf-hub:", "local-dir:"  # timm's prefixes of networks that are described outside timm
FILES = ("model.safetensors", "pytorch_model.bin")
OTHER = "choose another backbone, such as resnet50 or vit_base_patch16_224"


class Features(nn.Module):
    """A timm network as far as its features: (P, d, rows, columns), or (P, n, d) of a transformer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"

    def forward(self, pixels: Tensor) -> Tensor:
        """Of pixels (P, C, H, W), standardised."""
        features: Tensor = self.net.forward_features(pixels)  # type: ignore[operator]
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def about(name: str) -> str:
    """How messages begin."""
    return f"{SECTION}image = {name!r}"


def create(name: str, size: tuple[int, int], channels: int, **changes: Any) -> nn.Module:
    """The network without classifier, for pictures of this size; raises what timm raises.

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
        shape["img_size"] = size  # these networks are built for one size, and can be built for another
    net: nn.Module = timm.create_model(source, **shape, **changes)
    return net


@contextmanager
def refusals(name: str, size: tuple[int, int]) -> Iterator[None]:
    """What a network raises for pictures that it cannot take, in the user's words."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every network reports it in its own way
        raise UserError(
            f"{about(name)}: cannot take pictures of {size[0]} × {size[1]} ({first_line(error)}); "
            "choose another size in cohort.toml (most take 224 × 224) or another backbone"
        ) from error


def with_weights(config: EncoderConfig, size: tuple[int, int], channels: int, idle: tuple[str, ...]) -> Features:
    """The network as far as its features, without its `idle` parts, with the weights that the user chose.

    Raises
    ------
    UserError
        They cannot be had, or do not fit.
    """
    name, given = config.image, named_file("image-weights", config.image_weights)
    overlay: dict[str, Any] = {"source": ""}
    if given is not None:
        _must_fit(given, name, size, channels, idle)
        # a number of classes that no file has: timm then drops the classifier, and takes what there is of the rest
        overlay |= {"file": str(given), "num_classes": -1}
    elif config.image_weights == "pretrained":
        overlay |= _published(name)
    if "file" not in overlay:
        features = Features(create(name, size, channels))
    else:
        try:
            features = Features(create(name, size, channels, pretrained=True, pretrained_cfg_overlay=overlay))
        except Exception as error:  # raised by torch, safetensors, or a network's own reader of old files
            what = f"cannot be loaded ({first_line(error)}); remove it and fetch it again"
            raise UserError(f"{about(name)}: {overlay['file']} {what}") from error
    remove(features, idle)
    return features


def _source(name: str) -> str:
    """The name under which timm can build the network without asking anybody.

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
    """Where timm finds the published weights of a network, once they are on this machine.

    Raises
    ------
    UserError
        There are none, or they cannot be fetched.
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
    """A trial with weights of NaN shows which tensors a file reaches, after all that timm does to it on the way.

    Raises
    ------
    UserError
        The file has not all that the features depend on.
    """
    found = read_file("image-weights", file)
    marked = {n: torch.full((), torch.nan).expand(t.shape) if t.is_floating_point() else t for n, t in found.items()}
    overlay = {"state_dict": marked, "source": "", "num_classes": -1, "custom_load": False}
    try:
        trial = Features(create(name, size, channels, pretrained=True, pretrained_cfg_overlay=overlay))
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:  # of torch, or of timm's converters of files
        reasons = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise several(f"{SECTION}image-weights = '{file}': does not fit {name}", reasons[:5]) from error
    remove(trial, idle)
    state = {n.removeprefix("net."): t for n, t in trial.state_dict().items() if t.is_floating_point()}
    if absent := [n for n, tensor in state.items() if not tensor.isnan().any()]:
        raise misfit("image-weights", file, name, absent, len(state), found)
