"""What a person sees of a run."""

import pytest

from remind_server.outputs.progress import Progress
from tests.builders.reports import TEST, follow


@pytest.mark.parametrize(("test", "validation"), [(TEST, None), ({}, {}), ({"x": {}}, {})])
def test_progress_is_readable_whatever_there_is_to_show(test, validation):
    lines: list[str] = []
    follow(Progress(lines.append), test, validation)
    text = "\n".join(lines)
    assert "2 sites, 3 groups, 102 training patients, 2 rounds, seed 0" in text
    assert "round 1 of 2 (warm-up): 2 sites" in text
    assert "0.0 s left" in next(line for line in lines if line.startswith("round 2 of 2"))
    assert "w: not taking part: version 0" in text
    assert "z: not counted: no answer within 600 s" in text
    assert "nan" not in text.lower()
    assert text.count("weight of the group in the objective") == (1 if "  group" in text else 0), "explained once"
    tables = [line.splitlines() for line in lines if line.startswith("  group")]
    assert len(tables) == 2
    for table in tables:
        assert len({len(line) for line in table}) == 1, "columns stand under each other"
