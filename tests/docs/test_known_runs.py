"""Runs that a command made are there for the next one, in whichever folder it puts its studies, and nowhere else."""

from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.folder import StudyFolder
from tests.docs.known_runs import KnownRuns

RESULT = CellResult(
    cell=Cell.of({"seed": 1}),
    modalities=("a",),
    classes=("no", "yes"),
    counts={1: 5},
    site_counts={"s1": {1: 5}},
    outcomes=(),
    seconds=1.0,
)


def test_runs_of_one_command_are_found_by_the_next(tmp_path):
    known = KnownRuns(tmp_path / "known")
    results = tmp_path / "one" / "results"
    with known.known(results):
        StudyFolder(results / "compare-heart").keep("a", RESULT)
    with known.known(tmp_path / "two" / "results"):
        folder = StudyFolder(tmp_path / "two" / "results" / "ablate-heart", beside=[tmp_path / "elsewhere"])
        assert folder.find("a") == RESULT
        assert folder.find("b") is None
    assert StudyFolder(tmp_path / "three").find("a") is None, "only a reader of the documents has them"
