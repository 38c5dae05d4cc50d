"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def did_you_mean(typed: str, names: Iterable[str]) -> str:
    """``"; did you mean 'train.lr'?"``, to append to an error about `typed`; empty if no name is similar.

    Dotted names are also compared by their last part, because a missing section (``lr`` for ``train.lr``) is as common
    a mistake as a misspelling.
    """
    known = list(dict.fromkeys(names))
    by_case = {name.lower(): name for name in reversed(known)}
    near = [by_case[n] for n in difflib.get_close_matches(typed.lower(), by_case, n=1, cutoff=0.6)]
    if not near or difflib.SequenceMatcher(None, typed.lower(), near[0].lower()).ratio() < 0.8:
        last = typed.rpartition(".")[2].lower()
        tails = {name.rpartition(".")[2].lower(): name for name in reversed(known) if "." in name}
        near = [tails[t] for t in difflib.get_close_matches(last, tails, n=1, cutoff=0.8)] or near
    return f"; did you mean {near[0]!r}?" if near else ""
