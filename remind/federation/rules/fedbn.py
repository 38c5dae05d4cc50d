"""FedBN: normalisation layers stay at the site."""

from typing_extensions import override

from remind.federation.rules.base import Rule, registry


def is_norm(name: str) -> bool:
    """Return whether a parameter of `SiteModel` is the scale or shift of a normalisation layer of the fusion.

    Fusion models call such a layer ``norm`` or ``…_norm``; a rule sees names, not layers.
    """
    layer = name.rpartition(".")[0].rpartition(".")[2]
    return name.startswith("fusion.") and (layer == "norm" or layer.endswith("_norm"))


@registry.register(
    "fedbn",
    title="as LG, but the scales and shifts of normalisation layers stay at the site",
    paper="Li et al., FedBN: federated learning on non-IID features via local batch normalization",
    year=2021,
)
class FedBN(Rule):
    """θ ← Σ_s n_s/n·θ_s for all tensors but those of normalisation layers, which each site keeps.

    The paper has batch normalisation inside encoders. Here encoders stay at the site as a whole, so that only the layer
    normalisation of the fusion is left to decide about. What stays follows the mean loss of its site's own patients.
    """

    private = True
    encoders = ("local", "frozen")

    @override
    def travels(self, name: str) -> bool:
        """Send all parameters but those of normalisation layers."""
        return not is_norm(name)
