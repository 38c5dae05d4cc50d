"""Transactions that wait until the database can be written."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)
Write = Callable[[Session], None]


class WriteQueue:
    """Writes in order, each in a transaction of its own. An unreachable database delays writing and ends nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: list[Write] = []
        self._lock = threading.Lock()

    @property
    def pending(self) -> bool:
        """Whether earlier writes wait for the database."""
        return bool(self._pending)

    def write(self, write: Write) -> None:
        """Execute all pending writes and this one; keep those that fail for the next call."""
        with self._lock:
            self._pending.append(write)
            try:
                while self._pending:
                    with Session(self._engine) as session, session.begin():
                        self._pending[0](session)
                    self._pending.pop(0)
            except SQLAlchemyError as error:
                log.warning("run store cannot be written, trying again later: %s", str(error).splitlines()[0])
