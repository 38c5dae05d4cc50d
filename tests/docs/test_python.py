"""The blocks of docs/python.md, run as one script."""

import re
from pathlib import Path

import pytest

from remind.fusion.base import registry

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture
def registered():
    """What the page registers is forgotten again: other tests go through all methods."""
    before = dict(registry._methods)
    yield
    registry._methods.clear()
    registry._methods.update(before)


def test_the_page_runs(tmp_path, monkeypatch, registered, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "the model knows no such modality" in said
    assert "anna" in said
