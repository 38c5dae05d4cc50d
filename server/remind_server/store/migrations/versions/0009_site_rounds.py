"""Scores of each site in each round, for its trend."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table; rounds that ended before have no rows in it."""
    op.create_table(
        "site_rounds",
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("site", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "round", "site"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("site_rounds")
