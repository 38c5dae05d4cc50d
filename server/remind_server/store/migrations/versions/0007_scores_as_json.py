"""Scores of other files in one column, so that a further score needs no migration."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = ("round_groups", "cells")


def upgrade() -> None:
    """Add the column; runs that ended before have no such scores."""
    for table in TABLES:
        op.add_column(table, sa.Column("more_scores", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    for table in TABLES:
        op.drop_column(table, "more_scores")
