"""What the draw of a round's sites does to its step."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
COLUMNS = ("effective_sites", "sampling_error")


def upgrade() -> None:
    """Add the columns; rounds that ended before have no values."""
    for name in COLUMNS:
        op.add_column("rounds", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them again."""
    for name in COLUMNS:
        op.drop_column("rounds", name)
