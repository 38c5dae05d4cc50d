"""Why a run is incomplete: one list for summary, run store, imported runs, alerts and page; loads no torch."""

from collections.abc import Iterable, Mapping
from typing import Any

from remind.secagg.limits import FEWEST

NEVER_DRAWN = "never drawn, as each round asks a part of the sites (federation.participation)"


def untrained(names: Iterable[str]) -> str:
    """Return which groups were never trained, as text."""
    why = f"no hospital that has them took part, or fewer than {FEWEST} under secure aggregation"
    return f"groups {', '.join(names)}: never trained, as {why}"


def gaps_of(summary: Mapping[str, Any]) -> list[str]:
    """Return why a run is incomplete, from a ``summary.json``: sites that never took part, groups never trained."""
    never = {**dict.fromkeys(_never_drawn(summary), NEVER_DRAWN), **summary.get("never_took_part", {})}
    found = [f"{site}: {why}" for site, why in sorted(never.items())]
    return found + ([untrained(summary["never_trained"])] if summary.get("never_trained") else [])


def _never_drawn(summary: Mapping[str, Any]) -> list[str]:
    return list((summary.get("drawn") or {}).get("never_drawn", ()))


def summary_warnings(summary: Mapping[str, Any]) -> list[str]:
    """Return the same warnings, from a ``summary.json``."""
    never, absent = summary.get("never_took_part", {}), summary.get("absent", {})
    found = [f"site {site} never took part: {why}" for site, why in sorted(never.items())]
    found += [f"site {site} never took part: {NEVER_DRAWN}" for site in _never_drawn(summary)]
    found += [untrained(summary["never_trained"])] if summary.get("never_trained") else []
    found += [f"site {site} was not examined: {why}" for site, why in sorted(absent.items()) if site not in never]
    return found
