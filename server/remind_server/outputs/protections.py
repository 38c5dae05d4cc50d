"""What a run's protections mean for its numbers, on the page and on the screen."""

from collections.abc import Mapping

from remind.secagg.limits import FEWEST, TOGETHER

Settings = Mapping[str, object]


def is_summed(settings: Settings) -> bool:
    """Whether the run's coordinator knows sums over hospitals alone, so that no hospital has scores of its own."""
    return bool(settings.get("federation.secure-aggregation"))


def remarks(settings: Settings) -> list[str]:
    """Return what a reader must know of the numbers of a run with these settings, a text for each protection."""
    found = []
    if is_summed(settings):
        found.append(
            f"Secure aggregation: the coordinator knows sums over all hospitals, as “{TOGETHER}”, and no number "
            f"of a single one. Of a combination that fewer than {FEWEST} hospitals have there is no sum: it has no "
            "scores, its own part of the model stays as it was, and its patients are not among those counted here. "
            "Nothing is measured between the rounds."
        )
    if settings.get("privacy.mode", "none") != "none":
        found.append(
            "Differential privacy: hospitals say their numbers of training patients with noise "
            f"(σ = {settings.get('privacy.counts-noise')} patients). So a combination may stand here that no patient "
            "has, and a rare one may be missing, with its patients. Scores between the rounds do not leave a hospital. "
            f"ε is for δ = {settings.get('privacy.delta')} and for what leaves real hospitals: a simulation measures "
            "test patients exactly, outside ε."
        )
    if settings.get("privacy.mode") == "joint":
        found.append(
            "The noise of the training steps is in the sum, each hospital adds a share of it. ε presumes that all but "
            f"{settings.get('privacy.colluding')} of them add theirs and keep it to themselves; what a hospital's "
            "share gives alone stands beside it."
        )
    return found
