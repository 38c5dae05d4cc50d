"""What each site told last of its privacy budget, where its policy tells it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column; sites of runs that ended before told nothing."""
    op.add_column("sites", sa.Column("privacy", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    op.drop_column("sites", "privacy")
