"""Find what varies from table to table of a study, or from row to row of its tables."""

import re
from collections.abc import Mapping, Sequence

from remind_studies.report.group_plot import Dot
from remind_studies.report.style import OWN, Look, wrapped
from remind_studies.report.sweep_plot import Sweep
from remind_studies.report.view import PanelView
from remind_studies.results import Summary

NUMBERED = re.compile(r"(?P<setting>.*?)(?:\s*[=:]\s*|[\s_-]+)(?P<value>\d+(?:\.\d+)?(?:e-?\d+)?)\s*%?")
LETTERS = 24  # of a name on an axis
FEWEST_SHARED = 2  # arms that tables have in common, for them to be points of one line


def sweeps(views: Sequence[PanelView], measure: str) -> tuple[list[Sweep], Mapping[str, Look]]:
    """Return sweeps of a measure over the panels if these have the same arms, else one per panel over its arms.

    Returns
    -------
    sweeps
        None if there are fewer than two panels with scores.
    looks
        How to draw their arms, or the one nameless line if the arms vary.
    """
    scored = [view for view in views if view.first(view.arms, measure)]
    if len(scored) < 2:
        return [], {}
    shared = [arm for arm in scored[0].arms if all(arm in view.arms for view in scored)]
    if len(shared) >= FEWEST_SHARED:
        return _over_panels(scored, measure, shared), {arm: scored[0].looks[arm] for arm in shared}
    look = Look(OWN, "o", "-", own=True)
    return [_over_arms(view, measure) for view in scored], {"": look}


def _over_panels(views: Sequence[PanelView], measure: str, arms: Sequence[str]) -> list[Sweep]:
    """Return sweeps: panels named ``setting = number`` are points of that setting's line, others stand side by side."""
    of_setting: dict[str, list[tuple[str, PanelView]]] = {}
    for view in views:
        match = NUMBERED.fullmatch(view.panel.name)
        of_setting.setdefault(match["setting"] if match else "", []).append((match["value"] if match else "", view))
    lines = {name: found for name, found in of_setting.items() if name and len(found) > 1}
    lined = {view.key for found in lines.values() for _, view in found}
    rest = [(view.panel.name, view) for view in views if view.key not in lined]
    ordered = {name: sorted(points, key=lambda p: float(p[0])) for name, points in lines.items()}
    found = [_sweep(name, points, measure, arms, True) for name, points in ordered.items()]
    return [*found, _sweep("", rest, measure, arms, False)] if rest else found


def _sweep(
    title: str, points: Sequence[tuple[str, PanelView]], measure: str, arms: Sequence[str], ordered: bool
) -> Sweep:
    dots = {arm: [_dot(view.summary(arm, measure)) for _, view in points] for arm in arms}
    return Sweep(title, [wrapped(name, LETTERS) for name, _ in points], ordered, dots)


def _over_arms(view: PanelView, measure: str) -> Sweep:
    """Return the sweeps of one panel's rows; rows named ``setting = number`` are points of a line."""
    matches = {arm: NUMBERED.fullmatch(arm) for arm in view.arms}
    numbers = {arm: float(match["value"]) for arm, match in matches.items() if match}
    settings = {match["setting"] if match else None for match in matches.values()}
    ordered = len(numbers) == len(matches) and len(settings) == 1
    arms = sorted(numbers, key=lambda arm: numbers[arm]) if ordered else list(view.arms)
    values = [wrapped(arm, LETTERS) + ("\n(reference)" if arm == view.reference else "") for arm in arms]
    return Sweep(view.title, values, ordered, {"": [_dot(view.summary(arm, measure)) for arm in arms]})


def _dot(one: Summary | None) -> Dot | None:
    return None if one is None or one.mean is None else Dot(one.mean, one.low, one.high)
