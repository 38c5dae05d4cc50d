"""FedBN: normalisation layers stay at the site."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from typing_extensions import override

from remind.federation.rules.base import Rule, Travels, registry

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # _NormBase: batch and instance norms


def is_norm(layer: nn.Module) -> bool:
    """Return whether a layer normalises: by its type, or by its class's name if a library has a class of its own."""
    return isinstance(layer, NORMS) or "norm" in type(layer).__name__.lower()


def norms_of(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters of normalisation layers: scales and shifts."""
    return frozenset(
        f"{path}.{name}"
        for path, layer in model.named_modules()
        if is_norm(layer)
        for name, _ in layer.named_parameters(recurse=False)
    )


@registry.register(
    "fedbn",
    title="as LG or FedAvg, but the scales and shifts of normalisation layers stay at the site",
    paper="Li et al., FedBN: federated learning on non-IID features via local batch normalization",
    year=2021,
)
class FedBN(Rule):
    """θ ← Σ_s n_s/n·θ_s for all tensors but those of normalisation layers, which each site keeps.

    The paper averages encoders and keeps their batch normalisation: ``federation.encoders = "shared"``. Statistics of
    batch normalisation are buffers, which no rule sends. Here layer normalisation stays too, in encoders and in the
    fusion. What stays follows the mean loss of its site's own patients.
    """

    private = True

    @override
    def travels_in(self, model: nn.Module) -> Travels:
        """Send all parameters but those of normalisation layers."""
        norms = norms_of(model)
        return lambda name: name not in norms
