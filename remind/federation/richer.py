"""Transfer from richer patients: the first rounds train on those with most modalities alone, the rest on everyone.

With ``train.rich-rounds = r`` the first r rounds are the training of the patients who have at least
``train.rich-modalities`` modalities: their groups keep their weights relative to each other, and all other groups weigh
nothing. So it goes with every fusion model, objective and rule: a hospital without such patients has no part in these
rounds. The weights of groups move on as ever, from the losses of all groups.
"""

from collections.abc import Collection, Mapping
from math import fsum

from remind import groups
from remind.config import TrainConfig
from remind.federation.site_weights import SiteWeights

Counts = Mapping[int, int]


def rich(config: TrainConfig, every: Collection[int]) -> frozenset[int]:
    """Return the groups with at least ``train.rich-modalities`` modalities; 0: with the most of any."""
    number = {k: len(groups.members(k)) for k in every}
    least = config.rich_modalities or max(number.values(), default=0)
    return frozenset(k for k, m in number.items() if m >= least)


def of_richer(
    weighed: Mapping[str, SiteWeights], sites: Mapping[str, Counts], wanted: Collection[int]
) -> dict[str, SiteWeights]:
    """Return the weights for each site with all other groups at 0; the parts of the objective sum to 1 again.

    Where the wanted groups weigh nothing (a worst share that has none of them), their patients weigh alike.
    """
    masses = {name: one.masses(sites[name]) for name, one in weighed.items()}
    whole = fsum(mass for own in masses.values() for k, mass in own.items() if k in wanted)
    patients = sum(n for own in sites.values() for k, n in own.items() if k in wanted)
    found = {}
    for name, one in weighed.items():
        alike = {k: one.counts[k] / max(patients, 1) for k in one.weights}
        raised = {k: w / whole if whole > 0 else alike[k] for k, w in one.weights.items()}
        found[name] = SiteWeights({k: w if k in wanted else 0.0 for k, w in raised.items()}, one.counts)
    return found
