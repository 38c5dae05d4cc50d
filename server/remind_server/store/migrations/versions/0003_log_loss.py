"""The log-loss, which compares models of different objectives, beside the objective's own loss."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = ("round_groups", "cells")


def upgrade() -> None:
    """Add the column; runs that ended before have no log-loss."""
    for table in TABLES:
        op.add_column(table, sa.Column("log_loss", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    for table in TABLES:
        op.drop_column(table, "log_loss")
