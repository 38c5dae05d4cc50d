"""The first tables: runs with their sites, groups, rounds and scores."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), primary_key=True),
        *_columns(sa.Text(), "name", "folder", "cohort"),
        _column("seed", sa.Integer()),
        _column("version", sa.Text()),
        *_columns(sa.JSON(), "config", "classes", "modalities"),
        _column("status", sa.String()),
        _column("reason", sa.Text()),
        _column("began", sa.Double(), index=True),
        _column("heard", sa.Double()),
        _column("ended", sa.Double(), nullable=True),
        *_columns(sa.Integer(), "change", "rounds", "round", "stage"),
        _column("round_began", sa.Double(), nullable=True),
        _column("round_closes", sa.Double(), nullable=True),
    )
    _table_of_run(
        "sites",
        ["number"],
        _column("name", sa.Text()),
        _column("train_n", sa.Integer()),
        _column("asked", sa.Boolean()),
        _column("refused", sa.Text(), nullable=True),
    )
    _table_of_run(
        "groups",
        ["number"],
        _column("mask", sa.BigInteger()),
        _column("name", sa.Text()),
        _column("train_n", sa.Integer()),
        _column("tail", sa.Boolean()),
    )
    _table_of_run(
        "rounds",
        ["round"],
        _column("stage", sa.Integer()),
        *_columns(sa.Double(), "seconds", "ended"),
        *_columns(sa.BigInteger(), "bytes_down", "bytes_up"),
    )
    _table_of_run("round_sites", ["round", "site"], _column("absent", sa.Text(), nullable=True))
    _table_of_run(
        "round_groups",
        ["group", "round"],
        *_columns(sa.Double(), "weight", "weight_after", "risk", nullable=True),
        *_scored(),
    )
    _table_of_run("cells", ["patients", "site", "group"], *_scored())


def downgrade() -> None:
    """Drop them again."""
    for name in ("cells", "round_groups", "round_sites", "rounds", "groups", "sites", "runs"):
        op.drop_table(name)


def _column(name: str, kind: Any, nullable: bool = False, index: bool = False) -> Any:
    return sa.Column(name, kind, nullable=nullable, index=index)


def _columns(kind: Any, *names: str, nullable: bool = False) -> list[Any]:
    return [_column(name, kind, nullable) for name in names]


def _table_of_run(name: str, key: list[str], *columns: Any) -> None:
    """A table whose key begins with the run, so that a run's rows lie together."""
    run = sa.Column("run_id", sa.Integer(), sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False)
    keys = [sa.Column(part, sa.String() if part == "patients" else sa.Integer(), nullable=False) for part in key]
    op.create_table(name, run, *keys, *columns, sa.PrimaryKeyConstraint("run_id", *key))


def _scored() -> list[Any]:
    scores = [f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")]
    counts = [_column("n", sa.Integer()), _column("positives", sa.Integer(), nullable=True)]
    return counts + _columns(sa.Double(), *scores, "auroc_bound", "loss", "gate_open", nullable=True)
