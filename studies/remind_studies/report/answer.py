"""Write the answer of a study in one sentence: whether the reference is better on the rare combinations.

Every statement follows from a test on the study's own measure. Methods are called equal if an equivalence test shows
that they differ by less than the margin. If neither a difference nor equality is shown, the sentence says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from remind_studies.report.evidence import RARE, caveats, gaps, named, numbers, why_undefined
from remind_studies.report.forest import Difference
from remind_studies.report.view import PanelView
from remind_studies.report.words import listed, number, said

Verdict = Literal["best", "among the best", "tie", "worse", "open", "unknown", "mixed"]
WORDS: dict[Verdict, str] = {
    "best": "better than all",
    "among the best": "among the best",
    "tie": "equal to all",
    "worse": "another is better",
    "open": "not decided",
    "unknown": "cannot be said",
    "mixed": "differs from table to table",
}
IN_A_SENTENCE: dict[Verdict, str] = {
    "best": "is better than every other",
    "among the best": "is better than some and equal to the others",
    "tie": "is equal to every other",
    "open": "is neither shown to differ from all others nor shown to be equal to them",
    "worse": "is behind another",
    "unknown": "cannot be judged",
}
TOLD = 4  # a study with more tables summarises their sentences in its answer


@dataclass(frozen=True)
class Answer:
    """What one panel, or a whole study, says about the reference.

    Attributes
    ----------
    verdict
        The result as one term.
    sentence
        The answer.
    numbers
        The numbers behind it, one sentence each.
    caveats
        Its limitations, one sentence each.
    """

    verdict: Verdict
    sentence: str
    numbers: tuple[str, ...]
    caveats: tuple[str, ...]


def answer(view: PanelView) -> Answer:
    """Return the answer of one panel, on the study's measure and metric."""
    rivals = [one for one in view.differences(view.results.measure) if not one.anchor and one.difference is not None]
    verdict, sentence = _judged(view, rivals)
    return Answer(verdict, sentence, numbers(view), caveats(view))


def overall(answers: Sequence[tuple[PanelView, Answer]]) -> Answer | None:
    """Return the answer of a whole study; None if it compares nothing, such as a study of costs."""
    judged = [(view, one) for view, one in answers if view.panel.summaries]
    if not judged:
        return None
    if len(judged) == 1:
        return judged[0][1]
    counts = {word: sum(one.verdict == word for _, one in judged) for word in IN_A_SENTENCE}
    references = {view.reference for view, _ in judged}
    who = said(references.pop()) if len(references) == 1 else "the reference"
    tables = {n: f"all {n} tables" if n == len(judged) else f"{n} of {len(judged)} tables" for n in counts.values()}
    parts = [f"{text} in {tables[counts[word]]}" for word, text in IN_A_SENTENCE.items() if counts[word]]
    sentence = f"{_place(judged[0][0])} {who} {listed(parts)}."
    verdicts = {one.verdict for _, one in judged}
    telling = [f"{view.title}: {one.sentence}" for view, one in judged if one.verdict in {"best", "worse"}]
    return Answer(
        verdict=verdicts.pop() if len(verdicts) == 1 else "mixed",
        sentence=sentence[0].upper() + sentence[1:],
        numbers=(*gaps([view for view, _ in judged]), *telling[:TOLD]),
        caveats=_with_tables(judged),
    )


def _with_tables(judged: Sequence[tuple[PanelView, Answer]]) -> tuple[str, ...]:
    """Return each caveat once; a caveat of some tables names them."""
    holds: dict[str, list[str]] = {}
    for view, one in judged:
        for text in one.caveats:
            holds.setdefault(text, []).append(view.title)
    return tuple(
        text if len(titles) == len(judged) else f"{listed(titles)}: {text[0].lower()}{text[1:]}"
        for text, titles in holds.items()
    )


def _judged(view: PanelView, rivals: Sequence[Difference]) -> tuple[Verdict, str]:
    """Return the verdict and a sentence, from the tests against the reference."""
    mine, where = said(view.reference), _place(view)
    score = view.summary(view.reference, view.results.measure)
    if not view.reference or not view.rivals:
        return "unknown", "There is nothing to compare: one method alone was run."
    if score is None or score.mean is None:
        return "unknown", f"{mine} cannot be judged {where}: {why_undefined(view)}."
    if not any(one.p is not None for one in rivals):
        return "unknown", f"{mine} cannot be judged {where}: too few seeds to test a difference."
    ahead = [one for one in rivals if view.better(one) is True]
    behind = [one for one in rivals if view.better(one) is False]
    equal = [one for one in rivals if view.better(one) is None and one.equal]
    undecided = [one for one in rivals if view.better(one) is None and not one.equal]
    if ahead:
        return "worse", f"No: {where} {named(ahead)} {'does' if len(ahead) == 1 else 'do'} better than {mine}."
    standing = view.best(view.results.measure)
    if standing.first and view.reference not in (*standing.arms, *standing.open):
        return (
            "worse",
            f"No: {where} {mine} is behind {said(standing.first)}, the best mean, though no difference to {mine} "
            "remains sure when all methods count.",
        )
    better = f"{mine} is better than {named(behind)}" if behind else ""
    within = f"within {view.margin}"
    if undecided:
        lead = f"{better}; it" if better else mine
        same = f"; it is equal, {within}, to {named(equal)}" if equal else ""
        return (
            "open",
            f"Not decided: {where} {lead} is neither shown to differ from {named(undecided)} nor shown to be equal"
            f"{same}.",
        )
    if behind and equal:
        return "among the best", f"Partly: {where} {better}; it is equal, {within}, to {named(equal)}."
    if behind:
        sizes = sorted(abs(one.difference or 0.0) for one in behind)
        by = number(sizes[0]) + (f" to {number(sizes[-1])}" if len(sizes) > 1 else "")
        others = f"all {len(behind)} others" if len(behind) > 1 else said(behind[0].arm)
        return "best", f"Yes: {where} {mine} is better than {others}, by {by}."
    others = f"all {len(equal)} others" if len(equal) > 1 else said(equal[0].arm)
    return "tie", f"A tie: {where} {mine} is equal to {others}, {within}, by an equivalence test."


def _place(view: PanelView) -> str:
    """Describe the patients of the study's measure, as part of a sentence."""
    measure = view.results.measure
    return "on the rare combinations" if measure in RARE else f"on {view.measure_name(measure)}"
