"""The observers that make a run show up elsewhere: the run store always, other sinks as the config asks."""

from collections.abc import Callable
from pathlib import Path

from remind.config import Config
from remind.errors import UserError
from remind_server.outputs.records import Observer
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url


def followers(config: Config, folder: Path, say: Callable[[str], None]) -> list[Observer]:
    """Observers of a run with results in `folder`.

    A run does not depend on being watched: without a store it says so and goes on. A sink that was asked for is another
    matter.

    Raises
    ------
    UserError
        If a sink that the config names is not installed.
    """
    found: list[Observer] = []
    try:
        found.append(StoreObserver(open_store(store_url(folder.parent)), folder))
    except UserError as error:
        say(f"this run will not show up in the dashboard: {error}")
    try:
        if "tensorboard" in config.sink_names:
            from remind_server.sinks.tensorboard import TensorBoardSink

            found.append(TensorBoardSink(folder))
        if "mlflow" in config.sink_names:
            from remind_server.sinks.mlflow import MlflowSink

            found.append(MlflowSink(folder))
    except ModuleNotFoundError as error:
        extras = ",".join(sorted(config.sink_names))
        raise UserError(f"sinks: {error.name} is not installed: pip install 'federated-remind[{extras}]'") from None
    return found
