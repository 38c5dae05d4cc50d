"""The Flower ServerApp: reads the run config, runs `FedRemind` on Flower's Grid, writes results and run store."""

import logging
import sys
from logging import INFO

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from remind.config import Config
from remind.errors import UserError
from remind.paths import results_folder, run_name
from remind_server.consortium.record_keeper import of_this_run
from remind_server.outputs.progress import Progress
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from remind_server.run_observers import run_observers
from remind_server.simulation.ray_workers import replace_dead_workers

app = ServerApp()
log = logging.getLogger("flwr")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run to the end. A `UserError` ends the run as failed, with its message as the run's status."""
    config = Config.from_flat(context.run_config)
    replace_dead_workers()
    folder = results_folder(config, context.run_id)
    progress = Progress(_log_lines, folder)
    kept, enrolled = of_this_run(context.run_id, folder, run_name(config, context.run_id))
    try:
        observers = [
            RunFolder(folder, config.run.resume),
            progress,
            *kept,
            *run_observers(config, folder, progress.say),
        ]
        checkpoints = Checkpoints(folder, config.federation.checkpoints)
        FedRemind(config, observers, enrolled=enrolled, checkpoints=checkpoints).run(grid)
    except UserError:
        sys.tracebacklimit = 0  # Flower prints what ends a run with its traceback, which says nothing to a user
        raise


def _log_lines(text: str) -> None:
    """Log a text line by line: Flower marks each record's first line, and a table shall stay in line."""
    for line in text.splitlines():
        log.log(INFO, line)
