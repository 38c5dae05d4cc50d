"""What a run predicts besides its kind: the unit of a number, and the scores of each label."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column; runs so far have none."""
    op.add_column("runs", sa.Column("target", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop it again."""
    op.drop_column("runs", "target")
