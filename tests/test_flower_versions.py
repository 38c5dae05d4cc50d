"""Which versions of Flower and Python are supported is said in several files: all of them say the same."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHON = "Programming Language :: Python :: "


def bounds():
    """Specifiers of flwr: that of the package, and that of its extra for simulations."""
    extras = PROJECT["optional-dependencies"]["simulation"]
    found = [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]
    return [requirement.specifier for requirement in found if requirement.name == "flwr"]


def test_the_extra_for_simulations_has_the_bounds_of_the_package():
    package, extra = bounds()
    assert package == extra


def test_the_pinned_flower_is_of_the_lowest_series_and_the_installed_one_is_supported():
    lowest = min(Version(bound.version) for bound in bounds()[0] if bound.operator == ">=")
    (pinned,) = re.findall(r"^flwr==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert Version(pinned).release[:2] == lowest.release[:2]
    assert pinned in bounds()[0]
    assert version("flwr") in bounds()[0]


def test_ci_tests_the_highest_supported_series_too():
    (high,) = re.findall(r"^flower_high=(\S+)", (ROOT / ".ci" / "run").read_text(), re.M)
    major, minor, *_ = Version(high).release
    assert high in bounds()[0]
    assert f"{major}.{minor + 1}.0" not in bounds()[0]


def test_what_ci_tests_with_the_highest_is_there():
    (words,) = re.findall(r"-k '(.*)'", (ROOT / ".ci" / "run").read_text())
    tests = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    assert [word for word in words.split(" or ") if not any(word in path for path in tests)] == []


def test_every_declared_python_is_in_the_forges_matrix():
    declared = [name.removeprefix(PYTHON) for name in PROJECT["classifiers"] if name.startswith(PYTHON)]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["run"]["strategy"]["matrix"]["python"] == declared == ["3.11", "3.12", "3.13"]
