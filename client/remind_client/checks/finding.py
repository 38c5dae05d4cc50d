"""What a check found."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: what was looked at, what was seen, and what to do if it is not in order."""

    check: str
    level: Level
    seen: str
    remedy: str = ""


def ok(check: str, seen: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", seen)


def warning(check: str, seen: str, remedy: str) -> Finding:
    """It works, but it is seldom meant."""
    return Finding(check, "warning", seen, remedy)


def failed(check: str, seen: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, "failed", seen, remedy)


def all_in_order(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.level != "failed" for finding in findings)


def to_text(findings: Iterable[Finding]) -> str:
    """For people."""
    lines = []
    for finding in findings:
        first, *rest = finding.seen.splitlines() or [""]
        lines.append(f"{finding.level:7}  {finding.check:12} {first}")
        lines += [f"{'':21} {line}" for line in rest]
        lines += [f"{'':21} → {finding.remedy}"] if finding.remedy else []
    return "\n".join(lines)


def to_json(findings: Iterable[Finding]) -> str:
    """For machines."""
    listed = list(findings)
    return json.dumps({"ok": all_in_order(listed), "checks": [asdict(finding) for finding in listed]}, indent=2)
