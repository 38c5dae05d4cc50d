"""The weight of a site in the average of each block (algorithm §3).

The principle: a block's average Σ_s a_s·θ_s has fixed weights a_s that sum to 1 at full participation, and the site
divides the gradient of its part of the objective, F_s = Σ_k m_{s,k}·(mean loss of its patients in k), by its own a_s.
Then one step of SGD at every site adds up to one step on Σ_s F_s, for every split into sites and every block.
"""

from collections.abc import Mapping
from math import fsum

from remind.federation.blocks import SHARED, encoder_block, group_block

Numbers = Mapping[int, float]
Counts = Mapping[int, int]


def block_weights(
    masses: Numbers, whole: Numbers, own: Counts, counts: Counts, encoders: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Return a_s of every block that the site trains: the site's share of the objective that reaches the block.

    shared: W_s = Σ_k m_{s,k}. group k: the site's share of m_k, which is n_{s,k}/n_k where groups span sites. encoder
    of modality i: the site's share of Σ_{k∋i} m_k.

    Parameters
    ----------
    masses, whole
        m_{s,k} of the site's groups (`weighing`), and m_k = Σ_s m_{s,k} of every group.
    own, counts
        n_{s,k} and n_k; they give the shares if a group's mass has become 0.
    encoders
        Modalities whose encoders are shared, with their bit position; None or empty for local encoders.
    """
    result = {SHARED: fsum(masses.values())}
    for k, mass in sorted(masses.items()):
        result[group_block(k)] = mass / whole[k] if whole[k] > 0 else own[k] / counts[k]
    for modality, bit in (encoders or {}).items():
        having = [mass for k, mass in masses.items() if k >> bit & 1]
        everywhere = fsum(mass for k, mass in whole.items() if k >> bit & 1)
        if having and everywhere > 0 and fsum(having) > 0:
            result[encoder_block(modality)] = fsum(having) / everywhere
    return result
