"""Run cells in processes and store each one when it ends, so that a killed study continues where it stopped."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

from remind.durations import duration
from remind.errors import UserError
from remind.processes.memory import return_freed_memory
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.folder import StudyFolder
from remind_studies.cells.runners import run

Say = Callable[[str], None]


def run_cells(
    cells: Mapping[str, Cell], names: Mapping[str, str], folder: StudyFolder, jobs: int, say: Say
) -> dict[str, str]:
    """Run the cells that `folder` lacks, in their order.

    Parameters
    ----------
    cells, names
        By key; a name is for people.
    jobs
        Processes.
    say
        Takes a line of progress.

    Returns
    -------
    dict
        Why a cell has no result, by key.

    Raises
    ------
    UserError
        A process was killed, as by want of memory.
    """
    todo = {key: cell for key, cell in cells.items() if not folder.has(key)}
    if not todo:
        say(f"all {len(cells)} runs are there already")
        return {}
    done, failed, began = len(cells) - len(todo), {}, time.monotonic()
    say(f"{len(cells)} runs, {done} of them there already; {jobs} at a time")
    pool = ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn"), initializer=_tie_to_parent)
    try:
        futures: dict[Future[str], str] = {pool.submit(work, cell, key, folder.path): key for key, cell in todo.items()}
        for number, future in enumerate(as_completed(futures), 1):
            key = futures[future]
            if reason := future.result():
                failed[key] = reason
            left = (time.monotonic() - began) / number * (len(todo) - number)
            outcome = f"failed: {failed[key]}" if key in failed else "done"
            say(f"{done + number} of {len(cells)}: {names[key]}: {outcome}; {duration(left)} left")
    except BrokenProcessPool:
        raise UserError(
            f"a process that ran a cell was killed, perhaps for lack of memory; with --jobs {max(1, jobs - 1)} "
            "fewer run at a time. Finished runs are kept: the same command continues"
        ) from None
    finally:
        # Python 3.14 has terminate_workers(); before it, this attribute alone knows who is still at work, and
        # shutdown() empties it
        working = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in working:
            process.terminate()
    return failed


def work(cell: Cell, key: str, path: Path) -> str:
    """Run one cell and store its result; return the reason if it fails."""
    try:
        with tempfile.TemporaryDirectory(prefix="remind-cell-") as scratch:
            result: CellResult = run(cell, Path(scratch))
    except UserError as error:
        return str(error)
    except Exception as error:  # one cell that fails must not take the study with it
        return f"{type(error).__name__}: {error}"
    finally:
        return_freed_memory()  # before the next: a process runs many
    StudyFolder(path).keep(key, result)
    return ""


def _tie_to_parent() -> None:
    """End this process when its parent ends, for whatever reason; ignore Ctrl-C, which the parent handles."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
