"""Cells in processes: each is stored and run once, and a killed study continues without loss or repetition."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from remind.errors import UserError
from remind_studies.cells import folder as folders
from remind_studies.cells import pool as pools
from remind_studies.cells.cell import Cell
from remind_studies.cells.folder import StudyFolder, surroundings
from remind_studies.cells.pool import run_cells
from remind_studies.command import bench_command
from tests.builders.studies import SMALL
from tests.studies.cells import stuck


@pytest.fixture(autouse=True)
def study_processes():
    """Start processes as the command does."""


def cells(seeds, **changes):
    made = [Cell.of(SMALL | changes | {"seed": seed}, clients=2) for seed in seeds]
    return {cell.key("here"): cell for cell in made}


def names(of):
    return {key: f"seed {cell.config.seed}" for key, cell in of.items()}


def test_equal_runs_are_equal_however_they_are_written():
    first = Cell.of({"train.lr": 0.001, "seed": 1, "model.width": 8})
    second = Cell.of({"model.width": 8, "seed": 1, "train.lr": 0.001, "dro.gamma": 0.02, "results": "elsewhere"})
    assert first.key("x") == second.key("x")
    assert first.key("x") != first.key("y")
    assert first.key("x") != Cell.of({"train.lr": 0.001, "seed": 2, "model.width": 8}).key("x")


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path):
    folder, todo, said = StudyFolder(tmp_path), cells([0, 1]), []
    assert run_cells(todo, names(todo), folder, 1, said.append) == {}
    before = {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    assert len(before) == 2
    more = cells([0, 1, 2])
    run_cells(more, names(more), folder, 1, said.append)
    after = {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    assert len(after) == 3
    assert before.items() <= after.items()
    assert any("2 of them there already" in line for line in said)
    assert not (run_cells(more, names(more), folder, 1, said.append))
    assert "all 3 runs are there already" in said[-1]


@pytest.mark.slow
def test_a_cell_gives_the_same_numbers_again(tmp_path):
    results = []
    for name in ("a", "b"):
        folder, todo = StudyFolder(tmp_path / name), cells([4])
        run_cells(todo, names(todo), folder, 1, lambda _: None)
        (key,) = todo
        results.append(folder.find(key).model_dump(exclude={"seconds"}))
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_cell_that_fails_does_not_take_the_others_along(tmp_path):
    good, bad = cells([0]), cells([0], **{"data.alpha": 0.5, "synthetic.patients": 1})
    todo = {**bad, **good}
    failed = run_cells(todo, names(todo), StudyFolder(tmp_path), 1, lambda _: None)
    assert list(failed) == list(bad)
    assert "Traceback" not in next(iter(failed.values()))
    assert StudyFolder(tmp_path).has(next(iter(good)))


def test_ctrl_c_ends_the_workers_at_once(tmp_path, monkeypatch):
    """Workers whose cells would never end are gone when `run_cells` has been interrupted."""
    monkeypatch.setattr(pools, "work", stuck.work)
    todo = cells([0, 1])

    def interrupt():
        while len(list(tmp_path.glob("begun-*"))) < 2:
            threading.Event().wait(0.02)
        signal.pthread_kill(main, signal.SIGINT)  # to this thread: a signal to another one would not wake it

    main = threading.main_thread().ident
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_cells(todo, names(todo), StudyFolder(tmp_path), 2, lambda _: None)
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.join(60)
    left = [worker for worker in workers if worker.is_alive()]
    for worker in left:
        worker.kill()
    assert not left


def test_an_interrupted_study_says_how_to_go_on(monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("remind_studies.bench.bench", interrupted)
    app = typer.Typer()
    app.command()(bench_command)
    done = CliRunner().invoke(app, ["compare"])
    assert done.exit_code == 130
    assert "the same command continues" in done.stderr


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path):
    """SIGKILL to the parent after the first cell: its workers end, and the same command does only the rest."""
    command = [sys.executable, "-m", "tests.studies.cells.four_cells", str(tmp_path)]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root)
    workers: list[int] = []
    for line in process.stderr:
        if "done" in line:
            workers = _children(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait(timeout=240)
    process.stderr.close()
    assert workers
    for worker in workers:
        _wait_until_gone(worker)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.json")}
    assert 1 <= len(kept) < 4
    again = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True, cwd=root)
    assert f"4 runs, {len(kept)} of them there already" in again.stderr
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.json")}
    assert len(now) == 4
    assert kept.items() <= now.items()
    assert not [path for path in (tmp_path / "cells").iterdir() if path.suffix != ".json"]


def _children(pid: int) -> list[int]:
    return [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]


def _wait_until_gone(pid: int) -> None:
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], 30)
        assert ready, f"process {pid} outlived the study"
    finally:
        os.close(descriptor)


def test_a_damaged_cell_is_named(tmp_path):
    folder = StudyFolder(tmp_path)
    (tmp_path / "cells" / "abc.json").write_text(json.dumps({"cell": 1}))
    with pytest.raises(UserError, match=r"abc\.json is not the result of a cell"):
        folder.find("abc")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="contains other files than a study"):
        StudyFolder(tmp_path)


def test_two_processes_do_not_share_a_folder(tmp_path):
    folder = StudyFolder(tmp_path)
    with folder.held(), pytest.raises(UserError, match="another process"), StudyFolder(tmp_path).held():
        pass


def test_surroundings_know_the_cohorts_files(tmp_path, monkeypatch):
    from remind.data.synthetic.generate import generate
    from remind.data.synthetic.write import write_cohort

    cell = Cell.of({"synthetic.patients": 20, "seed": 0})
    write_cohort(generate(cell.config.synthetic, 0), tmp_path / "c")
    data = cell.config.data.model_copy(update={"cohort": str(tmp_path / "c")})
    before = surroundings(data)
    assert before == surroundings(data)
    file = next(path for path in sorted((tmp_path / "c").iterdir()) if path.name != "cohort.toml")
    os.utime(file, ns=(1, 1))
    shutil.copytree(tmp_path / "c", tmp_path / "elsewhere", copy_function=shutil.copy)
    elsewhere = data.model_copy(update={"cohort": str(tmp_path / "elsewhere")})
    assert before == surroundings(data) == surroundings(elsewhere), "what is in the files, not where or when"
    monkeypatch.setattr(folders, "SMALL", 10)
    assert surroundings(data) != surroundings(elsewhere) != before, "too large to be read each time"
    monkeypatch.undo()
    file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
    assert before != surroundings(data)


def test_a_cells_key_knows_no_place():
    here, there = (Cell.of({"data.cohort": f"/{name}/c", "data.root": "", "seed": 1}) for name in ("here", "there"))
    assert here.key("x") == there.key("x") != here.key("y")
    assert here.key("x") != Cell.of({"data.cohort": "/here/c", "seed": 2}).key("x")
