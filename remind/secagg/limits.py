"""Minimum numbers of hospitals that must answer before a sum may be unmasked."""

FEWEST = 3  # minimum number of hospitals in an unmasked sum: with two, each would learn the other's numbers
TOGETHER = "all hospitals"  # replaces a hospital's name where only sums are known


class RefusedError(ValueError):
    """A site refuses a request because it could reveal more than a sum. The text may leave the site."""


def threshold(sites: int) -> int:
    """Return t = ⌊2S/3⌋ + 1, the number of shares that reconstruct a secret.

    2t > S + c for up to c = 2t − S − 1 hospitals that help a lying coordinator. It therefore never gets t shares of
    both secrets of one hospital, even if it sends different lists of survivors (Bonawitz et al. 2017, section 6).
    """
    return 2 * sites // 3 + 1


def min_survivors(observers: int, sites: int, fewest: int = FEWEST) -> int:
    """Return m: how many of a block's observers must have answered before a site sends its share of the block.

    A lying coordinator can name different lost observers to each of the S sites, at most |O| − m to each, so at most
    S·(|O| − m) in total. Reconstructing a mask secret needs the shares of t sites. The coordinator can therefore remove
    at most ⌊S·(|O| − m)/t⌋ observers from the sum, and at least `fewest` must remain. The result is the smallest such
    m; it is larger than `observers` if there is none.
    """
    t = threshold(sites)
    for least in range(fewest, observers + 1):
        if observers - sites * (observers - least) // t >= fewest:
            return least
    return max(observers, fewest) + 1


def least_honest(observers: int, sites: int, colluding: int) -> int:
    """Return how many hospitals at least are in any sum of a block that is opened, without those that collude.

    A coordinator that lies about who was lost, with the shares of `colluding` hospitals that help it, needs t − c
    others that each believe the same hospital lost, and none of the S − c believes in more than the |O| − m lost
    observers with which it opens the block at all (`min_survivors`; and in no more than S − t lost sites). So it
    takes at most ⌊(S − c)(|O| − m)/(t − c)⌋ of the others out of the sum. Noise that is shared among so many is there
    whatever the coordinator says; 0 or less: none would be.
    """
    t = threshold(sites)
    if colluding >= 2 * t - sites:  # they could open single answers
        return 0
    lost = max(0, observers - max(min_survivors(observers, sites), observers - (sites - t)))
    return observers - colluding - (sites - colluding) * lost // (t - colluding)
