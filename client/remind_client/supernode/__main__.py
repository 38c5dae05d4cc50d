"""``python -m remind_client.supernode …``: Flower's SuperNode, called as ``flower-supernode``, with our steps in it."""

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
    """Run until asked to end."""
    ours = logging.StreamHandler(sys.stderr)  # of this package alone: Flower has a handler of its own, and says much
    ours.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger("remind_client").addHandler(ours)
    socket = os.environ.get(WORKER)
    steps = Steps(Path(socket) if socket else None)
    steps.install()
    run_supernode(partial(LastingHeartbeat, alive=steps.alive))
    os._exit(1)  # its loop has ended, which Flower does not take for an end: its other thread would stay for ever


if __name__ == "__main__":
    main()
