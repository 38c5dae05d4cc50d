"""The script that Flower starts as ``flwr-clientapp``: it passes the call to the worker, or to a new process.

Started for every message, so it imports next to nothing (0.02 s instead of seconds) and, as a script, nothing of ours.

    submit.py SOCKET PYTHON ARGUMENT…      SOCKET may be "-": no worker is wanted
"""

import json
import os
import socket
import sys

PATIENCE = 5.0  # seconds to connect and be accepted; the task itself has no limit


def main(arguments: list[str]) -> int:
    """Exit code of the task: 0 if an answer went back."""
    path, python, *call = arguments
    answer = None if path == "-" else _ask(path, call)
    if answer is None:
        os.execv(python, [python, "-m", "remind_client.launcher.cold", *call])
    return answer


def _ask(path: str, call: list[str]) -> "int | None":
    """Return the worker's exit code; None if the worker did not start the task, so that another process may run it."""
    try:
        folder = os.open(
            os.path.dirname(path), os.O_PATH
        )  # a socket's address holds 107 bytes, a folder's may be longer
        with socket.socket(socket.AF_UNIX) as worker:
            worker.settimeout(PATIENCE)
            worker.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            worker.sendall(json.dumps({"do": "task", "arguments": call}).encode() + b"\n")
            lines = worker.makefile("rb")
            if lines.readline() != b"taken\n":
                return None
            worker.settimeout(None)
            done = lines.readline()
    except OSError:
        return None
    if done == b"again\n":
        return None
    return int(done) if done.strip().isdigit() else 1  # an empty line: the worker died during the task


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
