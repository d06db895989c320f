"""The lane of what was captured; Redis, imports, leads to fetch, fields of sources."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Before this version a lead's lane was its source's; which one that was is not known any more.
    op.add_column("capture_batches", sa.Column("lane", sa.Text(), nullable=False, server_default="near_real_time"))
    op.alter_column("capture_batches", "lane", server_default=None)
    op.drop_constraint("pk_capture_batches", "capture_batches")
    op.create_primary_key("pk_capture_batches", "capture_batches", ["batch_id", "tenant", "source", "lane"])
    op.create_table(
        "redis_moves",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("captured", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "tenant", "source", "lane", name="pk_redis_moves"),
    )
    op.create_table(
        "redis_unacknowledged",
        sa.Column("note_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lead_ids", sa.ARRAY(sa.UUID()), nullable=False),
        sa.PrimaryKeyConstraint("note_id", name="pk_redis_unacknowledged"),
    )
    op.create_table(
        "redis_incarnations",
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("incarnation", name="pk_redis_incarnations"),
    )
    op.create_table(
        "import_progress",
        sa.Column("file_sha256", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("rejected_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("file_sha256", "tenant", "source", name="pk_import_progress"),
    )
    op.create_table(
        "lead_fetches",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_verdict", sa.Text(), nullable=True),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", name="pk_lead_fetches"),
    )
    op.create_index("ix_lead_fetches_tenant_due_at", "lead_fetches", ["tenant", "due_at"])
    op.create_table(
        "source_fields",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("used_for", sa.Text(), nullable=True),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("posts_by_then", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "source", "field", name="pk_source_fields"),
    )

