"""The observers that publish a run: the run store always, other sinks if the config names them."""

from collections.abc import Callable
from pathlib import Path

from remind.config import Config
from remind.errors import UserError
from remind_server.outputs.records import Observer
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url


def run_observers(config: Config, folder: Path, say: Callable[[str], None]) -> list[Observer]:
    """Observers of a run with results in `folder`.

    A run does not depend on its run store: if the store fails, the run warns and continues. A missing sink that the
    config names is an error.

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
