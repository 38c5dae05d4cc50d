"""What hospitals lack: ``3: no imaging; 2: only clinical, labs``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.problems import listed, suggest
from remind.errors import several
from remind.suggest import did_you_mean

HOW = "write them like '3: no imaging; 2: only clinical, labs', a site by its number or name"


def apply_rules(cohorts: Mapping[str, Cohort], rules: str) -> dict[str, Cohort]:
    """Return the sites' cohorts without the modalities that the rules hide, and without patients who then have none.

    Parameters
    ----------
    cohorts
        By site name; the order gives the sites' numbers, from 1.
    rules
        ``<site>: no <modalities>`` or ``<site>: only <modalities>``, separated by ``;``. Empty: nothing is taken.

    Raises
    ------
    UserError
        A rule that cannot be read, an unknown site or modality, or a site left without patients.
    """
    problems: list[str] = []
    result = dict(cohorts)
    for rule in filter(None, (part.strip() for part in rules.split(";"))):
        site, modalities, verb = _parse(rule, list(cohorts), problems)
        if site is None:
            continue
        present = result[site].schema.names
        if unknown := [name for name in modalities if name not in present]:
            problems.append(f"{rule!r}: {unknown[0]!r} is not a modality; {suggest(unknown[0], present)}")
            continue
        hidden = [name for name in present if (name in modalities) == (verb == "no")]
        kept = result[site].without(*hidden)
        result[site] = replace(kept.take(np.flatnonzero(kept.groups_N)), unlabelled=kept.unlabelled)
        if not len(result[site]):
            problems.append(f"{rule!r} leaves site {site!r} without patients: none has anything else; change the rule")
            result[site] = cohorts[site]
    if problems:
        raise several("data.rules cannot be applied", problems)
    return result


def _parse(rule: str, sites: Sequence[str], problems: list[str]) -> tuple[str | None, list[str], str]:
    """Return site, modalities and verb of one rule; None, and a problem, if it cannot be read."""
    who, colon, rest = (part.strip() for part in rule.partition(":"))
    verb, _, names = rest.partition(" ")
    modalities = [name.strip() for name in names.split(",") if name.strip()]
    if not colon or verb not in ("no", "only") or not modalities:
        problems.append(f"{rule!r}: not a rule; {HOW}")
    elif who in sites:
        return who, modalities, verb
    elif who.isdecimal() and 1 <= int(who) <= len(sites):
        return sites[int(who) - 1], modalities, verb
    else:
        problems.append(
            f"{rule!r}: no site {who!r}{did_you_mean(who, sites)}; there are 1 to {len(sites)}: {listed(sites)}"
        )
    return None, [], ""
