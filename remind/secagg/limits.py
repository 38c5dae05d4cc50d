"""How many hospitals must answer before a sum may be opened."""

FEWEST = 3  # hospitals in a sum that is opened: with two, each of them would learn the other's numbers
TOGETHER = "all hospitals"  # stands for a hospital's name where numbers are known in sum only


class RefusedError(ValueError):
    """A site does not do what was asked: it could open more than a sum. The text may leave the site."""


def threshold(sites: int) -> int:
    """Return t = ⌊2S/3⌋ + 1: shares that open a secret.

    2t > S + c for up to c = 2t − S − 1 hospitals that help a lying coordinator: it never gets t shares of both secrets
    of one hospital, whatever it tells whom (Bonawitz et al. 2017, section 6).
    """
    return 2 * sites // 3 + 1


def fewest_survivors(observers: int, sites: int, fewest: int = FEWEST) -> int:
    """Return how many of a block's observers must have answered before a site opens its share of the block.

    A coordinator can tell each of the S sites of other losses. Each then believes in at most |O| − m lost observers, so
    that S·(|O| − m) such beliefs are told in all. Opening a mask secret takes t of them, so at most
    ⌊S·(|O| − m)/t⌋ observers can be taken out of the sum: what is left must not be below `fewest`. The result is the
    least such m; more than `observers` if there is none.
    """
    t = threshold(sites)
    for least in range(fewest, observers + 1):
        if observers - sites * (observers - least) // t >= fewest:
            return least
    return max(observers, fewest) + 1
