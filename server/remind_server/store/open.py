"""Locate and open a run store; the migrations in this package create or update its tables."""

import os
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from remind.errors import UserError
from remind.files import make_private

VARIABLE = "REMIND_STORE"  # database URL or file; an environment variable, because run configs are sent to hospitals
FILE_NAME = "runs.db"
WAIT = 15.0  # seconds to wait for another writer
_LOCK = 7302604  # of this project, for migrations on PostgreSQL


def store_url(results: Path, given: str = "") -> URL:
    """Return the store's URL: `given`, else the environment variable, else a file beside the run folders in `results`.

    Raises
    ------
    UserError
        The value is not a supported database URL.
    """
    said = given or os.environ.get(VARIABLE, "")
    if not said:
        return URL.create("sqlite", database=str(results / FILE_NAME))
    if "://" not in said:
        return URL.create("sqlite", database=os.path.abspath(Path(said).expanduser()))
    try:
        url = make_url(said)
    except ArgumentError:
        raise UserError(f"store: not a database URL: {said.split('@')[-1]}") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"store: {url.get_backend_name()} is not supported; give sqlite:///FILE or postgresql://…")
    return url


def open_store(url: URL) -> Engine:
    """Return an engine on the store, with current tables.

    Raises
    ------
    UserError
        The database cannot be reached or written, or a newer version created it.
    """
    try:
        engine = _engine(url)
        with writing(engine).begin() as connection:
            if url.get_backend_name() == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            command.upgrade(config, "head")
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(
            f"store: {shown(url)} needs a driver ({error}): pip install 'federated-remind[postgres]'"
        ) from None
    except (DBAPIError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise UserError(f"store: cannot open {shown(url)}: {reason}") from None
    except CommandError as error:
        raise UserError(f"store: {shown(url)} was made by another version of federated-remind ({error})") from None
    return engine


def writing(engine: Engine) -> Engine:
    """Return the engine for write transactions: SQLite then takes its lock at the start, and waits for it."""
    return engine.execution_options(immediate=True)


def shown(url: URL) -> str:
    """Return the URL without its password, for display."""
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        make_private(Path(url.database))  # SQLite gives its other files the same mode
    engine = create_engine(url, connect_args={"timeout": WAIT})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions explicitly, not the driver
        connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer, nor it for them
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
