"""How many sites withhold patients of a group: what tells "withheld" from "nobody"."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = ("round_groups", "cells")


def upgrade() -> None:
    """Add the column; of runs that ended before nothing is known to be withheld."""
    for table in TABLES:
        op.add_column(table, sa.Column("withheld", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop it again."""
    for table in TABLES:
        op.drop_column(table, "withheld")
