"""Format the numbers and names of a report. Only this module rounds numbers."""

from collections.abc import Callable

from remind.groups import TAIL_SHARE
from remind.metrics.scores import EVERY

DASH, MINUS, TIGHT = "–", "−", "\u00a0"  # the last: a space where no line is broken
DIGITS = 3
METRICS = {name: score.title for name, score in EVERY.items()}
MEASURES = {
    "overall": "all patients",
    "mean_tail": "mean of tail groups",
    "tail_patients": "tail patients",
    "worst_group": "worst group",
    "worst_site": "worst site",
    "head_patients": "head patients",
    "mean_groups": "mean of groups",
    "mean_sites": "mean of sites",
}
MEANING = {
    "overall": "all test patients together",
    "mean_tail": f"mean over the tail groups, those with less than {100 * TAIL_SHARE:g} % of the training patients",
    "tail_patients": "all patients of tail groups together",
    "worst_group": "the group where the method does worst",
    "worst_site": "the site where the method does worst",
    "head_patients": "all patients of the other groups together",
    "mean_groups": "mean over all groups",
    "mean_sites": "mean over the sites",
    "tail": f"tail: a group with less than {100 * TAIL_SHARE:g} % of the training patients",
}
FEWEST_P = 0.001  # below, a p-value is only said to be so


def number(value: float | None) -> str:
    """Format a score with three digits and a true minus, or a dash if there is none."""
    return DASH if value is None else f"{value:z.{DIGITS}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """Format a difference, with its sign."""
    return DASH if value is None else f"{value:+z.{DIGITS}f}".replace("-", MINUS)


def interval(low: float | None, high: float | None, write: Callable[[float | None], str] = number) -> str:
    """Format both ends in brackets; empty if they are unknown."""
    return "" if low is None or high is None else f"[{write(low)},{TIGHT}{write(high)}]"


def p_value(value: float | None) -> str:
    """Format a p-value: ``= 0.042`` or ``< 0.001``."""
    if value is None:
        return DASH
    return f"<{TIGHT}{FEWEST_P}" if value < FEWEST_P else f"={TIGHT}{value:.{DIGITS}f}"


def count(value: float | None) -> str:
    """Format a number of patients; a mean over seeds with one digit if it is not whole."""
    if value is None:
        return DASH
    text = f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else f"{value:,.1f}"
    return text.replace(",", "\u2009")


def quantity(value: float | None) -> str:
    """Format a number of any size: whole if large, else three decimals, or three significant digits if small."""
    if value is None:
        return DASH
    if value == 0 or abs(value) >= 1000 or value == round(value):
        return f"{value:,.0f}".replace(",", "\u2009").replace("-", MINUS)
    return f"{value:.{DIGITS}{'f' if abs(value) >= 1 else 'g'}}".replace("-", MINUS)


def counted(n: float, noun: str, plural: str = "") -> str:
    """Format a count: ``1 seed``, ``10 seeds``."""
    return f"{count(n)} {noun if n == 1 else plural or noun + 's'}"


def said(name: str) -> str:
    """Format a name in a sentence: in quotes if it has several words."""
    return f"“{name}”" if " " in name else name


def listed(names: list[str], joint: str = "and") -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {joint} {names[-1]}"
