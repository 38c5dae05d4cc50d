"""FedAvg: all tensors are averaged, including encoders."""

from remind.federation.rules.base import Rule, registry


@registry.register(
    "fedavg",
    title="all tensors are averaged, weighted by patients, including encoders",
    paper="McMahan et al., Communication-efficient learning of deep networks from decentralized data",
    year=2017,
)
class FedAvg(Rule):
    """θ ← Σ_s n_s/n·θ_s after the local steps of a round.

    A modality's encoder is averaged over the sites that have the modality, by their patients who do; where a site has
    it of nobody, there is nothing to average.
    """

    private = True
    encoders = ("shared",)
