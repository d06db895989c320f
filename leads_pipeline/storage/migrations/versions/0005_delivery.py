"""Delivery: differences instead of everything, budgets per class of refusal, limits of every kind, destinations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0005"
down_revision = "0004"

TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    _outbox()
    _books()
    _destinations()


def _outbox() -> None:
    for column in (
        sa.Column("failures", JSONB(), server_default="{}", nullable=False),
        sa.Column("claim_owner", sa.BigInteger(), nullable=True),
        sa.Column("under_way_until", TIME, nullable=True),
        sa.Column("former_records", ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("taken_over", sa.Boolean(), nullable=True),
        sa.Column("claims_record", sa.Text(), nullable=True),
        sa.Column("snapshot", JSONB(), nullable=True),
        sa.Column("withheld", JSONB(), nullable=True),
        sa.Column("suppressed_for", sa.Text(), nullable=True),
    ):
        op.add_column("outbox", column)
    # Which properties are there is known, their values are not.
    op.execute(
        """
        update outbox set snapshot = (
            select coalesce(jsonb_object_agg(name, null), '{}') from jsonb_array_elements_text(delivered_fields) as name
        )
        where jsonb_typeof(delivered_fields) = 'array'
        """
    )
    op.drop_column("outbox", "delivered_fields")
    open_rows = "state in ('waiting', 'in_flight')"
    op.drop_index("ix_outbox_due", "outbox")
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["destination", "lane", "tenant", "due_at", "outbox_id"],
        postgresql_where=sa.text(open_rows),
    )
    op.create_index(
        "ix_outbox_fresh",
        "outbox",
        ["destination", "lane", "tenant", "waiting_since"],
        postgresql_where=sa.text("state = 'waiting' and attempts = 0"),
    )
    op.create_index(
        "ix_outbox_removals",
        "outbox",
        ["destination", "operation", "due_at"],
        postgresql_where=sa.text(f"operation <> 'upsert' and {open_rows}"),
    )
    op.create_index("ix_outbox_owner", "outbox", ["claim_owner"], postgresql_where=sa.text("claimed_by is not null"))
    op.create_index(
        "ix_outbox_delivered_at", "outbox", ["delivered_at"], postgresql_where=sa.text("delivered_at is not null")
    )
    op.create_index("ix_outbox_dead", "outbox", ["updated_at"], postgresql_where=sa.text("state = 'dead'"))
    op.create_index("ix_outbox_withheld", "outbox", ["destination"], postgresql_where=sa.text("withheld is not null"))
    op.create_index(
        "ix_outbox_taken_over", "outbox", ["destination", "crm_record_id"], postgresql_where=sa.text("taken_over")
    )
    op.create_index(
        "ix_outbox_claims", "outbox", ["destination", "claims_record"], postgresql_where=sa.text("claims_record is not null")
    )
    op.create_index(
        "ix_outbox_given_up",
        "outbox",
        ["destination", "crm_record_id"],
        postgresql_where=sa.text("state = 'cancelled' and crm_record_id is not null"),
    )
    op.execute("alter table outbox set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01)")


def _books() -> None:
    op.alter_column("crm_sync_batches", "tenant", nullable=True)
    for column in (
        sa.Column("lane", sa.Text(), nullable=True),
        sa.Column("cost", sa.Integer(), nullable=True),
        sa.Column("throttled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("finished_as", sa.Text(), nullable=True),
    ):
        op.add_column("crm_sync_batches", column)
    op.execute("update crm_sync_batches set throttled = true where http_status = 429")
    for name in ("in_flight", "foreign_use", "readings"):
        op.add_column("rate_limits", sa.Column(name, JSONB(), server_default="{}", nullable=False))
    op.add_column("rate_limits", sa.Column("scale", sa.Double(), server_default="1", nullable=False))
    op.add_column("rate_limits", sa.Column("scaled_at", TIME, nullable=True))
    op.create_table(
        "dead_letter_actions",
        sa.Column("action_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("dead_letter_id", sa.UUID(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("acted_at", TIME, nullable=False),
        sa.Column("details", JSONB(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("action_id", name="pk_dead_letter_actions"),
    )
    op.create_index("ix_dead_letter_actions_dead_letter_id", "dead_letter_actions", ["dead_letter_id"])


def _destinations() -> None:
    op.create_table(
        "suppressions",
        sa.Column("suppression_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value_hash", sa.LargeBinary(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("suppression_id", name="pk_suppressions"),
    )
    op.create_index(
        "uq_suppressions_value",
        "suppressions",
        ["tenant", "kind", "value_hash", "destination"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "destination_schemas",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("fetched_at", TIME, nullable=False),
        sa.Column("schema", JSONB(), nullable=False),
        sa.Column("faults", JSONB(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("destination", name="pk_destination_schemas"),
    )
    op.create_table(
        "mapping_overrides",
        sa.Column("override_id", sa.UUID(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("property", sa.Text(), nullable=False),
        sa.Column("rule", JSONB(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("withdrawn_at", TIME, nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("override_id", name="pk_mapping_overrides"),
    )
    op.create_index(
        "uq_mapping_overrides_property",
        "mapping_overrides",
        ["destination", "property"],
        unique=True,
        postgresql_where=sa.text("withdrawn_at is null"),
    )
    op.create_table(
        "refused_properties",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("property", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("refused_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("destination", "property", name="pk_refused_properties"),
    )
    op.create_table(
        "destination_doors",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("filled_after", sa.UUID(), nullable=True),
        sa.Column("filled_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "destination", name="pk_destination_doors"),
    )
    op.create_table(
        "access_tokens",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("fetches", JSONB(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("account", "credentials", name="pk_access_tokens"),
    )
    op.create_table(
        "bulk_jobs",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("crm_job_id", sa.Text(), nullable=True),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("batch", JSONB(), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("next_poll_at", TIME, nullable=False),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_bulk_jobs"),
    )
    op.create_index(
        "ix_bulk_jobs_open", "bulk_jobs", ["destination", "next_poll_at"], postgresql_where=sa.text("ended_at is null")
    )
