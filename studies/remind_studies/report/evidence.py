"""Write the evidence for an answer and its caveats, in sentences."""

from collections.abc import Sequence

from remind.metrics.scores import TIGHT
from remind_studies.report.forest import Difference
from remind_studies.report.view import PanelView
from remind_studies.report.words import counted, interval, listed, number, p_value, said, signed
from remind_studies.results import Summary

ENOUGH_SEEDS = 10  # below, no headline claim
RARE = frozenset({"mean_tail", "tail_patients"})  # measures of the rare combinations
INSTEAD = ("tail_patients", "overall")  # where the study's measure is undefined
NAMED = 4  # methods that a sentence names; more are counted


def numbers(view: PanelView) -> tuple[str, ...]:
    """Report the reference, the strongest other, which methods are surely better or worse, and the yardsticks.

    The measure is the study's, or if that is undefined the next best: all tail patients together, or all patients.
    """
    found_in = ((name, view.summary(view.reference, name)) for name in (view.results.measure, *INSTEAD))
    measure, mine = next(
        ((name, one) for name, one in found_in if one is not None and one.mean is not None), ("", None)
    )
    if mine is None:
        return ()
    strongest = view.first(view.rivals, measure)
    who, by_arm = said(view.reference), {one.arm: one for one in view.differences(measure)}
    parts = [f"{view.metric_name}, {view.measure_name(measure)}: {who} reaches {_estimate(mine)}"]
    other = view.summary(strongest, measure)
    if other is not None:
        parts.append(f"the strongest other, {said(strongest)}, reaches {_estimate(other)}")
    if strongest in by_arm:
        parts.append(f"{said(strongest)} minus {who}: {_difference(by_arm[strongest])}")
    sentences = [f"{'; '.join(parts)}; {_basis(view, measure, mine.n)}."]
    for sure, words in ((True, "Better than"), (False, "Worse than")):
        rivals = _largest_first([one for one in by_arm.values() if not one.anchor and view.better(one) is sure])
        found = [f"{said(one.arm)} by {_size(one)}" for one in rivals]
        if found:
            sentences.append(f"{words} {who}: {listed(found)}.")
    sizes = sorted(one.detectable for one in by_arm.values() if not one.anchor and one.detectable is not None)
    if sizes:
        span = number(sizes[0]) + (f" to {number(sizes[-1])}" if len(sizes) > 1 else "")
        sentences.append(
            f"A true difference from {who} of {span}, by method, would be found in four of five such studies, each "
            "method tested alone; smaller ones would be missed more often."
        )
    told = [f"{said(arm)} {_difference(by_arm[arm])}" for arm in view.anchors if arm in by_arm]
    if told:
        sentences.append(f"Yardsticks minus {who}: {'; '.join(told)}.")
    if view.lower_better:
        sentences.append("Lower is better.")
    return tuple(sentences)


def caveats(view: PanelView) -> tuple[str, ...]:
    """Report caveats: few seeds, one split, groups of few patients, missing runs."""
    results, found = view.results, []
    mine = view.summary(view.reference, results.measure)
    seeds = len(results.seeds) if mine is None else mine.n
    if 0 < seeds < ENOUGH_SEEDS:
        found.append(f"{counted(seeds, 'seed')}: a headline claim needs {ENOUGH_SEEDS}.")
    bound = view.panel.auroc_bound
    if view.metric == "auroc" and bound is not None and bound > TIGHT:
        found.append(f"The bins of the score histograms leave AUROC open by up to ±{number(bound)}.")
    if results.folds == 1:
        found.append("Every seed tested the same patients: the intervals do not cover the variation over patients.")
    compared = {one.arm for one in view.differences(results.measure) if one.p is not None}
    left_out = [said(arm) for arm in view.rivals if arm not in compared]
    if compared and left_out:
        found.append(f"Not compared, because scores are missing: {listed(left_out)}.")
    tail = [group for group in view.panel.groups if group.tail]
    few = sum(not group.ranked for group in tail)
    if few and results.measure in RARE:
        have = "has" if few == 1 else "have"
        found.append(
            f"{few} of {counted(len(tail), 'tail group')} {have} too few tested patients ({view.enough}): shown, "
            "never ranked."
        )
    if results.tuning.defaults_from_here:
        found.append(
            "REMIND's defaults were chosen on validation patients of this cohort. Here it is a tuned method, and "
            "methods that were not tuned are at a disadvantage."
        )
    if results.missing:
        found.append(f"{counted(len(results.missing), 'run')} of the study missing; see below.")
    return tuple(found)


def gaps(views: Sequence[PanelView]) -> tuple[str, ...]:
    """Report over all tables how far the strongest other is from the reference."""
    found = []
    for view in views:
        strongest = view.first(view.rivals, view.results.measure)
        found += [one.difference for one in view.differences(view.results.measure) if one.arm == strongest]
    known = sorted(gap for gap in found if gap is not None)
    if not known:
        return ()
    ends = f"{signed(known[0])} to {signed(known[-1])}"
    return (f"The strongest other of each table minus the reference: {ends} over the tables.",)


def why_undefined(view: PanelView) -> str:
    """Explain why the reference has no score in the study's measure."""
    measure = view.results.measure
    if not any(one.mean is not None for one in view.panel.summaries):
        return "no run of this table has ended"
    if measure in RARE and not any(group.tail for group in view.panel.groups):
        return "this cohort has no tail group"
    if measure in RARE and not any(group.tail and group.ranked for group in view.panel.groups):
        return f"no tail group has {view.enough}"
    return "its runs are missing or the score is undefined in them"


def named(ones: Sequence[Difference]) -> str:
    """List names, those of the largest differences first, and count the rest."""
    names = [said(one.arm) for one in _largest_first(ones)]
    return listed([*names[:NAMED], f"{len(names) - NAMED} more"] if len(names) > NAMED else names)


def _largest_first(ones: Sequence[Difference]) -> list[Difference]:
    return sorted(ones, key=lambda one: -abs(one.difference or 0.0))


def _basis(view: PanelView, measure: str, n: int) -> str:
    """Report seeds and test patients."""
    if measure not in RARE:
        return counted(n, "seed")
    tail = [group for group in view.panel.groups if group.tail and (group.ranked or measure == "tail_patients")]
    if view.panel.withheld_groups:  # they count too, and how many of them are tail is not shown
        return f"{counted(n, 'seed')}; the groups that are left out here count too"
    patients = counted(sum(group.tested for group in tail), "test patient")
    return f"{counted(n, 'seed')}, {patients} in {counted(len(tail), 'tail group')}"


def _size(one: Difference) -> str:
    """Format the size of a difference without its sign: ``0.031 [0.010, 0.052]``."""
    if one.difference is None or one.low is None or one.high is None:
        return number(one.difference)
    low, high = sorted((one.low, one.high)) if one.difference >= 0 else sorted((-one.low, -one.high))
    return f"{number(abs(one.difference))} {interval(low, high)}"


def _difference(one: Difference) -> str:
    p = "" if one.p is None else f", adjusted p\u00a0{p_value(one.p)}"
    p = ", shown to be equal" if one.equal else p
    return f"{signed(one.difference)} {interval(one.low, one.high, signed)}".strip() + p


def _estimate(one: Summary) -> str:
    return f"{number(one.mean)} {interval(one.low, one.high)}".strip()
