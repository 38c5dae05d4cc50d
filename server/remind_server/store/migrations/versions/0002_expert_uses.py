"""The expert map: mean weight of each expert over a group's patients."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table; runs that ended before have no rows in it."""
    op.create_table(
        "expert_uses",
        sa.Column("run_id", sa.Integer(), sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("patients", sa.String(), nullable=False),
        sa.Column("group", sa.Integer(), nullable=False),
        sa.Column("use", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "patients", "group"),
    )


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("expert_uses")
