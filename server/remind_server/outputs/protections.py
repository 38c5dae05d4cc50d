"""What a run's protections mean for its numbers, on the page and on the screen."""

from collections.abc import Mapping

from remind.metrics.scores import EVERY, scores_of
from remind.secagg.limits import FEWEST, TOGETHER

Settings = Mapping[str, object]


def is_summed(settings: Settings) -> bool:
    """Return whether the coordinator knows only sums over hospitals, so that no hospital has scores of its own."""
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


def nothing_between(settings: Settings) -> str:
    """Return why a round has no scores; empty if it has."""
    private = settings.get("privacy.mode", "none") != "none"
    if not private and not is_summed(settings):
        return ""
    every = settings.get("privacy.loss-every") if private else 1
    risk = f", and the risk every {every} round(s) alone" if private and every else ", and no risk" if private else ""
    return (
        "no scores between the rounds: validation patients are not measured under "
        f"{'privacy.mode = ' + str(settings['privacy.mode']) if private else 'secure aggregation'}{risk}; the final "
        "model is measured at the end"
    )


def judged_by(outcome: str) -> str | None:
    """Return the score by which a model of this outcome is compared with guessing; None if it has none."""
    return next((name for name, score in scores_of(outcome).items() if score.guessing), None)


def remarks_on_chance(
    settings: Settings, name: str | None, value: float | None, low: float | None, high: float | None
) -> list[str]:
    """Say that a private run's model is not distinguished from guessing, or that nothing of it was measured.

    `name` is that of the score (`judged_by`), whose 95 % interval is `low` … `high`.
    """
    guessing = EVERY[name].guessing if name else None
    if name is None or guessing is None or settings.get("privacy.mode", "none") == "none":
        return []
    guarantee = f"privacy.mode = {settings['privacy.mode']} at ε = {settings.get('privacy.epsilon')}"
    if value is None:
        return [f"{guarantee}: no score of the final model is known, so nothing says whether it has learned anything."]
    if low is None or high is None or not (low <= guessing[0] or value < guessing[1]):
        return []
    score = f"{EVERY[name].title} {value:.3f} [{low:.3f}, {high:.3f}]"
    return [
        f"{guarantee}: {score} of all test patients is hardly more than guessing ({guessing[0]:g}). The noise is too "
        "much for these settings: try them with remind bench privacy, which spends nothing, with another learning "
        "rate, more rounds, a smaller model, mode joint or more hospitals."
    ]
