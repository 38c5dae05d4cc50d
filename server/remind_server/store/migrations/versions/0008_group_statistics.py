"""Merged statistics of each group, so that sums of groups can be scored; tags, notes and archive of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table and the columns; runs that ended before have no statistics in it."""
    op.create_table(
        "group_statistics",
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("patients", sa.String(), nullable=False),
        sa.Column("group", sa.Integer(), nullable=False),
        sa.Column("packed", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "patients", "group"),
    )
    op.add_column("runs", sa.Column("tags", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("notes", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Drop them again."""
    op.drop_table("group_statistics")
    for column in ("tags", "notes", "archived"):
        op.drop_column("runs", column)
