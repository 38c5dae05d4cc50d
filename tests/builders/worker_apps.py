"""ClientApps for worker processes, which load them by their reference."""

import os
import signal
from pathlib import Path

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from remind_client.app import app as ours

loaded: list[int] = []  # the process that called `load`


def load(path: Path) -> None:
    """Note who loads, in this process and in a file."""
    loaded.append(os.getpid())
    with path.open("a") as file:
        file.write(f"{loaded[-1]}\n")


def _say(message: Message, context: Context) -> Message:
    return Message(Error(7, f"{loaded[-1]} {os.getppid()} {os.getpid()} {context.node_id}"), reply_to=message)


def _die_once(message: Message, context: Context) -> Message:
    """Answer as a hospital does, but for the first training at the second one: there the process dies."""
    once = Path(str(context.run_config["results"])) / "died"
    if context.node_config["partition-id"] == 1 and message.metadata.message_type == "train" and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ours(message, context)


class Calls(ClientApp):
    """A ClientApp that is one function."""

    def __init__(self, call) -> None:
        super().__init__()
        self._call = call

    def __call__(self, message: Message, context: Context) -> Message:
        return self._call(message, context)


says = Calls(_say)
dies = Calls(_die_once)
