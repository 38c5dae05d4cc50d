"""The observers that publish a run: the run store always, other sinks if the config names them, alerts if set up."""

from collections.abc import Callable
from pathlib import Path

from remind.alerts.sending import Sender
from remind.alerts.settings import read_alerts
from remind.config import Config
from remind.errors import UserError
from remind_server.alerting import AlertObserver
from remind_server.outputs.records import Observer
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url


def _tensorboard(folder: Path) -> Observer:
    from remind_server.sinks.tensorboard import TensorBoardSink

    return TensorBoardSink(folder)


def _mlflow(folder: Path) -> Observer:
    from remind_server.sinks.mlflow import MlflowSink

    return MlflowSink(folder)


MAKERS: dict[str, Callable[[Path], Observer]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}  # of `config.SINKS`


def run_observers(config: Config, folder: Path, say: Callable[[str], None]) -> list[Observer]:
    """Return the observers of a run with results in `folder`.

    A run does not depend on its run store: if the store fails, the run warns and continues. A missing sink that the
    config names is an error.

    Raises
    ------
    UserError
        If a sink that the config names is not installed, or ``alerts.toml`` is wrong.
    """
    found: list[Observer] = []
    alerts = read_alerts(folder.parent)
    store: StoreObserver | None = None
    try:
        store = StoreObserver(open_store(store_url(folder.parent)), folder)
        found.append(store)
    except UserError as error:
        say(f"this run will not show up in the dashboard: {error}")
    try:
        found += [make(folder) for name, make in MAKERS.items() if name in config.sink_names]
    except ModuleNotFoundError as error:
        extras = ",".join(sorted(config.sink_names))
        raise UserError(f"sinks: {error.name} is not installed: pip install 'federated-remind[{extras}]'") from None
    if alerts.targets:  # last: it waits at the end of a run, and the store needs the run's row first
        sender = Sender(alerts, store.alerted) if store else Sender(alerts)
        found.append(AlertObserver(sender, folder.name))
    return found
