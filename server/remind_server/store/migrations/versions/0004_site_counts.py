"""Patients by group and class at each site: what decides which numbers may be shown."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table; of runs without rows in it nothing is shown under a minimum count."""
    op.create_table(
        "site_counts",
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("patients", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("site", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "patients", "round", "site"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("site_counts")
