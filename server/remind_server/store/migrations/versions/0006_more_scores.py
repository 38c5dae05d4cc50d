"""More scores, with intervals; which round's model is the run's; its calibration, reliability and decision curves."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = ("round_groups", "cells")
COLUMNS = (
    *(
        f"{name}{end}"
        for name in ("auprc", "sensitivity", "net_benefit", "brier", "ece")
        for end in ("", "_low", "_high")
    ),
    "auprc_bound",
    "sensitivity_bound",
)


def upgrade() -> None:
    """Add the columns; runs that ended before have none of these."""
    op.add_column("runs", sa.Column("model", sa.JSON(), nullable=True))
    for table in TABLES:
        for column in COLUMNS:
            op.add_column(table, sa.Column(column, sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them again."""
    op.drop_column("runs", "model")
    for table in TABLES:
        for column in COLUMNS:
            op.drop_column(table, column)
