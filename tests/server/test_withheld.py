"""Records and tables distinguish withheld numbers from absent ones."""

import pytest

from remind_server.outputs.progress import Progress
from remind_server.outputs.tables import ALL, WITHHELD, final_rows, round_rows
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site
from tests.builders.suppressed import Suppressed

# Half of each group train, a quarter are for validation, a quarter for testing.
MIXES = {"small": [1] * 24 + [3] * 80 + [7] * 12, "large": [1] * 80 + [5] * 24}
NOBODY = 7  # 6 training patients: not released at all


def run(folder, grid, **changes):
    config = settings({"train.routing-rounds": 0} | changes)
    sites = [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]
    recorder, lines = Recorder(), []
    FedRemind(config, [recorder, Progress(lines.append)]).run(grid(sites))
    return recorder, "\n".join(lines)


@pytest.fixture(scope="module")
def suppressed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run"), Suppressed)


def test_the_record_names_who_withholds_what(suppressed):
    recorder, _ = suppressed
    assert recorder.result.counts == {1: 52, 3: 40, 5: 12}
    expected = {"small": {1}, "large": {5}}
    assert {name: set(found) for name, found in recorder.result.withheld.items()} == expected
    assert {name: set(found) for name, found in recorder.rounds[0].withheld.items()} == expected


def test_final_rows(suppressed):
    rows = {(row["site"], row["mask"] or ALL): row for row in final_rows(suppressed[0].result)}
    assert [rows[ALL, k]["withheld"] for k in (1, 3, 5, ALL)] == [1, 0, 1, 2]
    assert rows[ALL, 1]["n"] == 20, "of one site; the other's are withheld"
    assert rows[ALL, 5]["n"] is None, "unknown, not 0"
    assert rows["large", 5]["n"] is rows["small", 1]["n"] is None
    assert rows["small", 3]["n"] == rows["small", ALL]["n"] == 20
    assert all(rows[place]["auroc"] is None for place in ((ALL, 5), ("small", 1)))
    assert (ALL, NOBODY) not in rows, "withheld as if it were not there"


def test_rounds_and_progress_say_so(suppressed):
    recorder, text = suppressed
    rows = round_rows(recorder.rounds[0], recorder.start.schema)
    assert {row["mask"]: row["withheld"] for row in rows} == {1: 1, 3: 0, 5: 1}
    assert {row["mask"]: row["validation"]["n"] for row in rows} == {1: 20, 3: 20, 5: None}, "unknown, not 0"
    lines = [line for line in text.splitlines() if WITHHELD in line]
    assert len(lines) == 2, "group 5 in the round's table, and in the final one"


def test_where_nothing_is_withheld_nobody_is_nobody(tmp_path):
    recorder, text = run(tmp_path, SiteGrid)
    assert recorder.result.withheld == recorder.rounds[0].withheld == {}
    assert WITHHELD not in text
    assert all(row["n"] is not None and row["withheld"] == 0 for row in final_rows(recorder.result))
