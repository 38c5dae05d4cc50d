"""Write the answer of a study in one sentence: whether the reference is better on the rare combinations.

Every statement follows from a test. If no difference was found, the sentence says so and how large the difference may
still be; it never says that there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from remind_studies.report.evidence import RARE, caveats, gaps, named, numbers, why_undefined
from remind_studies.report.forest import Difference
from remind_studies.report.view import PanelView
from remind_studies.report.words import listed, number, said

Verdict = Literal["best", "among the best", "tie", "worse", "unknown", "mixed"]
WORDS: dict[Verdict, str] = {
    "best": "better than all",
    "among the best": "among the best",
    "tie": "no difference found",
    "worse": "another is better",
    "unknown": "cannot be said",
    "mixed": "differs from table to table",
}
IN_A_SENTENCE: dict[Verdict, str] = {
    "best": "is better than every other",
    "among the best": "is better than some and cannot be told from the others",
    "tie": "cannot be told from any other",
    "worse": "is behind another",
    "unknown": "cannot be judged",
}
TOLD = 4  # tables whose sentence stands in the answer of a study of many


@dataclass(frozen=True)
class Answer:
    """What one panel, or a whole study, says about the reference.

    Attributes
    ----------
    verdict
        In a word.
    sentence
        The answer.
    numbers
        What it rests on, a sentence each.
    caveats
        What weakens it, a sentence each.
    """

    verdict: Verdict
    sentence: str
    numbers: tuple[str, ...]
    caveats: tuple[str, ...]


def answer(view: PanelView) -> Answer:
    """The answer of one panel, on the study's measure and metric."""
    rivals = [one for one in view.differences(view.results.measure) if not one.anchor and one.difference is not None]
    verdict, sentence = _judged(view, rivals)
    return Answer(verdict, sentence, numbers(view), caveats(view))


def overall(answers: Sequence[tuple[PanelView, Answer]]) -> Answer | None:
    """The answer of a whole study; None where it compares nothing, such as a study of costs."""
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
        caveats=tuple(dict.fromkeys(text for _, one in judged for text in one.caveats)),
    )


def _judged(view: PanelView, rivals: Sequence[Difference]) -> tuple[Verdict, str]:
    """Verdict and sentence, from the tests against the reference."""
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
    level = [one for one in rivals if view.better(one) is None]
    best = view.best(view.results.measure)
    if ahead:
        return "worse", f"No: {where} {named(ahead)} {'does' if len(ahead) == 1 else 'do'} better than {mine}."
    if best and view.reference not in best:
        are = "is" if len(best) == 1 else "are"
        doubt = "though no difference remains sure when all tests of the table count"
        return (
            "worse",
            f"No: {where} {mine} is not among the best; {listed([said(arm) for arm in best])} {are}, {doubt}.",
        )
    if behind and level:
        return (
            "among the best",
            f"Partly: {where} {mine} is better than {named(behind)}; it cannot be told from {named(level)}.",
        )
    if behind:
        sizes = sorted(abs(one.difference or 0.0) for one in behind)
        by = number(sizes[0]) + (f" to {number(sizes[-1])}" if len(sizes) > 1 else "")
        others = f"all {len(behind)} others" if len(behind) > 1 else said(behind[0].arm)
        return "best", f"Yes: {where} {mine} is better than {others}, by {by}."
    others = f"any of the {len(level)} others" if len(level) > 1 else said(level[0].arm)
    return "tie", f"A tie: {where} no difference between {mine} and {others} was found."


def _place(view: PanelView) -> str:
    """Where the study's measure looks, as part of a sentence."""
    measure = view.results.measure
    return "on the rare combinations" if measure in RARE else f"on {view.measure_name(measure)}"
