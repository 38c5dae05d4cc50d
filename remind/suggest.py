"""Suggestions for misspelt names."""

import difflib
import re
from collections.abc import Iterable


def did_you_mean(typed: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'train.lr'?"``, to append to an error about `typed`; empty if no name is similar.

    Dotted names are also compared by their last part, because a missing section (``lr`` for ``train.lr``) is as common
    a mistake as a misspelling, and an equal section makes any two names look similar; a last part may be written out
    (``learning-rate`` for ``lr``), or have a word too many (``batch-size`` for ``batch``).
    """
    known = list(dict.fromkeys(names))
    by_case = {name.lower(): name for name in reversed(known)}
    near = [by_case[n] for n in difflib.get_close_matches(typed.lower(), by_case, n=1, cutoff=0.6)]
    if not near or difflib.SequenceMatcher(None, typed.lower(), near[0].lower()).ratio() < 0.8:
        section, _, last = typed.lower().rpartition(".")
        tails = {name.rpartition(".")[2].lower(): name for name in reversed(known) if "." in name}
        beside = [name for name in known if section and name.lower().rpartition(".")[0] == section]
        tails |= {name.rpartition(".")[2].lower(): name for name in beside}
        words = re.split(r"[-_]", last)
        written_out = ["".join(word[:1] for word in words), *words] if len(words) > 1 else []
        if section:
            near = [name for name in near if _alike(last, name.rpartition(".")[2])]
        near = (
            [tails[t] for t in difflib.get_close_matches(last, tails, n=1, cutoff=0.8)]
            or [tails[t] for t in written_out if t in tails][:1]
            or near
        )
    return f"; did you mean {near[0]!r}?" if near else ""


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio() >= 0.6
