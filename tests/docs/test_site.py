"""The documents build as a site without a warning, and the site asks nothing of other servers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="pip install -e '.[docs]' brings MkDocs")

ROOT = Path(__file__).parents[2]
ASSET = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b[^>]*\bhref=\"(?:https?:)?//")


@pytest.mark.slow
def test_site_builds_with_warnings_as_errors_and_without_foreign_assets(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {str(page.relative_to(tmp_path)): page.read_text("utf-8") for page in tmp_path.rglob("*.html")}
    assert "Usage" in pages["reference/remind.html"] or "remind simulate" in pages["reference/remind.html"]
    assert "train.local-steps" in pages["reference/settings.html"]
    assert "remind.fusion.routing" in pages["reference/python/remind.fusion.html"]
    assert not {page for page, text in pages.items() if ASSET.search(text)}
