"""A copy of the packages and their tests, for a test that changes one of their files and runs tests there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tree:
    """The copy, and programs that import from it."""

    folder: Path

    @classmethod
    def copy(cls, folder: Path) -> "Tree":
        """Copy the packages, their tests and the documents into an existing folder."""
        for name in ("remind", "server", "client", "studies", "tests", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        return cls(folder)

    def add(self, files: Mapping[str, str]) -> None:
        """Write new files: path → text."""
        for path, text in files.items():
            assert not (self.folder / path).exists(), f"{path} is no new file"
            (self.folder / path).write_text(text, encoding="utf-8")

    def python(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run Python in the copy."""
        paths = os.pathsep.join(str(self.folder / part) for part in ("", "server", "client", "studies"))
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def passes(self, *tests: str) -> None:
        """Run tests of the copy: files, or pytest's options."""
        done = self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *tests)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
