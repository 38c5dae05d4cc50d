"""Findings: the results of checks."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, what it observed, and the remedy if something is wrong."""

    check: str
    level: Level
    seen: str
    remedy: str = ""


def ok(check: str, seen: str) -> Finding:
    """Return the finding that the check passed."""
    return Finding(check, "ok", seen)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """Return the finding that the site works, but that this is probably a mistake."""
    return Finding(check, "warning", seen, remedy)


def failed(check: str, seen: str, remedy: str) -> Finding:
    """Return the finding that the site does not work like this."""
    return Finding(check, "failed", seen, remedy)


def all_in_order(findings: Iterable[Finding]) -> bool:
    """Return whether no check failed."""
    return all(finding.level != "failed" for finding in findings)


def to_text(findings: Iterable[Finding]) -> str:
    """Format findings as text for people."""
    lines = []
    for finding in findings:
        first, *rest = finding.seen.splitlines() or [""]
        lines.append(f"{finding.level:7}  {finding.check:12} {first}")
        lines += [f"{'':21} {line}" for line in rest]
        lines += [f"{'':21} → {finding.remedy}"] if finding.remedy else []
    return "\n".join(lines)


def to_json(findings: Iterable[Finding]) -> str:
    """Format findings as JSON for programs."""
    listed = list(findings)
    return json.dumps({"ok": all_in_order(listed), "checks": [asdict(finding) for finding in listed]}, indent=2)
