"""``python -m remind_client.supernode …``: Flower's SuperNode, called as ``flower-supernode``, with our steps."""

import logging
import os
import sys
from functools import partial
from pathlib import Path

from remind_client.flower_internals import run_supernode
from remind_client.supernode.beat import LastingHeartbeat
from remind_client.supernode.loop import Steps
from remind_client.supernode.note import WORKER


def main() -> None:
    """Run until a signal stops it."""
    ours = logging.StreamHandler(sys.stderr)  # only this package's log: Flower has its own handler, and is verbose
    ours.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger("remind_client").addHandler(ours)
    socket = os.environ.get(WORKER)
    steps = Steps(Path(socket) if socket else None)
    steps.install()
    run_supernode(partial(LastingHeartbeat, alive=steps.alive))
    os._exit(1)  # Flower's loop has ended, but its other thread would keep the process alive


if __name__ == "__main__":
    main()
