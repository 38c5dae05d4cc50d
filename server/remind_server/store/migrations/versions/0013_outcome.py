"""What the model of a run predicts."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; all runs so far predict classes."""
    op.add_column("runs", sa.Column("outcome", sa.Text(), nullable=False, server_default="classes"))


def downgrade() -> None:
    """Drop it again."""
    op.drop_column("runs", "outcome")
