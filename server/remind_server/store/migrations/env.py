"""Alembic's environment: migrates over the connection that `open_store` hands it."""

from alembic import context

from remind_server.store.schema import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
