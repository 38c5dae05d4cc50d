"""With which weight a site counts in the average of each block (REMIND.md §3).

The principle: a block's average Σ_s a_s·θ_s has fixed weights a_s that sum to 1 at full participation, and the site
divides the gradient of its part of the objective, F_s = Σ_i λ_k/n_k·ℓ_i, by its own a_s. Then one step of SGD at every
site adds up to one step on Σ_s F_s = Σ_k λ_k R_k, whatever the split and whatever the block.
"""

from collections.abc import Mapping

from remind.federation.blocks import SHARED, encoder_block, group_block
from remind.objectives.group_dro import site_share

Numbers = Mapping[int, float]
Counts = Mapping[int, int]


def block_weights(
    weights: Numbers, counts: Counts, own: Counts, encoders: Mapping[str, int] | None = None
) -> dict[str, float]:
    """a_s of every block the site takes part in.

    shared: W_s. group k: n_{s,k}/n_k, the site's share of the group. encoder of modality i: the site's share of
    Σ_{k∋i} λ_k R_k.

    Parameters
    ----------
    weights, counts
        λ_k and global n_k, of every group in play.
    own
        n_{s,k}, of the groups the site observes.
    encoders
        Modalities whose encoders are shared, with their bit position; None or empty for local encoders.
    """
    result = {SHARED: site_share(weights, counts, own)}
    result |= {group_block(k): n / counts[k] for k, n in sorted(own.items())}
    for modality, bit in (encoders or {}).items():
        having = {k: n for k, n in own.items() if k >> bit & 1}
        everywhere = sum(weight for k, weight in sorted(weights.items()) if k >> bit & 1)
        if having and everywhere > 0:
            result[encoder_block(modality)] = site_share(weights, counts, having) / everywhere
    return result
