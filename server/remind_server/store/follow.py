"""The observers that make a run show up elsewhere: today the run store."""

from collections.abc import Callable
from pathlib import Path

from remind.errors import UserError
from remind_server.records import Observer
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url


def follow(folder: Path, say: Callable[[str], None]) -> list[Observer]:
    """The run store's observer for a run with results in `folder`; none, with a word, if the store cannot be opened.

    A run does not depend on being watched: its results folder is written either way.
    """
    try:
        return [StoreObserver(open_store(store_url(folder.parent)), folder)]
    except UserError as error:
        say(f"this run will not show up in the dashboard: {error}")
        return []
