"""Files that people and programs of a forge read: changelog, citation, hooks before a commit."""

import re
from pathlib import Path

import yaml

from remind.version import VERSION

ROOT = Path(__file__).parents[2]
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]  # of Keep a Changelog 1.1.0


def sections() -> dict[str, list[str]]:
    """Headings of each version in the changelog."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            version = line.removeprefix("## ")
            found[version] = []
        elif line.startswith("### "):
            found[version].append(line.removeprefix("### "))
    return found


def test_the_changelog_has_each_kind_of_change_once_for_each_version():
    assert next(iter(sections())) == "[Unreleased]"
    assert f"[{VERSION}]" in "".join(sections())
    for version, kinds in sections().items():
        assert re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\]( - \d{4}-\d{2}-\d{2})?", version)
        assert kinds == sorted(kinds, key=KINDS.index), f"{version}: in this order"
        assert len(kinds) == len(set(kinds)), f"{version}: one list of each kind"


def test_a_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == VERSION
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), "what the format requires"


def test_hooks_are_what_ci_runs():
    steps = [line.removeprefix("step ") for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    for hook in hooks:
        if not hook["entry"].startswith("python -m pytest"):  # one of the tests
            assert any(step.startswith(hook["entry"]) for step in steps), hook["entry"]


def test_links_of_the_security_policy_lead_somewhere():
    named = re.findall(r"\]\(([^)#]+)\)", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
