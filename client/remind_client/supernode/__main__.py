"""``python -m remind_client.supernode …``: Flower's SuperNode, called as ``flower-supernode``, with our steps in it."""

import logging
import os
import sys
from pathlib import Path

from flwr.supernode import fleet_http_connection
from flwr.supernode.cli.flower_supernode import flower_supernode

from remind_client.supernode.beat import LastingHeartbeat
from remind_client.supernode.loop import Steps
from remind_client.supernode.note import WORKER


def main() -> None:
    """Run until asked to end."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    socket = os.environ.get(WORKER)
    vars(fleet_http_connection)["HeartbeatSender"] = LastingHeartbeat
    Steps(Path(socket) if socket else None).install()
    flower_supernode()
    os._exit(1)  # its loop has ended, which Flower does not take for an end: its other thread would stay for ever


if __name__ == "__main__":
    main()
