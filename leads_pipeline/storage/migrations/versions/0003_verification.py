"""Verification: look-ups, their calls and budgets; what leads are worth and risk; corrected leads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("ix_pending_as_it_came", "pending", ["stage", "tenant", "lane", "due_at"], postgresql_where=sa.text("due_at <= since"))
    op.add_column("validated_leads", sa.Column("email_suggestion", sa.Text(), nullable=True))
    op.add_column("validated_leads", sa.Column("phone_region", sa.Text(), nullable=True))
    op.add_column("validated_leads", sa.Column("phone_type", sa.Text(), nullable=True))
    op.add_column("validated_leads", sa.Column("phone_time_zone", sa.Text(), nullable=True))
    op.add_column("validated_leads", sa.Column("tier", sa.Text(), server_default="none", nullable=False))
    op.add_column("validated_leads", sa.Column("value_score", sa.Integer(), server_default="0", nullable=False))
    op.add_column("validated_leads", sa.Column("risk_score", sa.Integer(), server_default="0", nullable=False))
    op.add_column("validated_leads", sa.Column("risk_factors", JSONB(), server_default="[]", nullable=False))
    op.add_column("golden_contacts", sa.Column("email_verdict", sa.Text(), nullable=True))
    op.add_column("golden_contacts", sa.Column("phone_verdict", sa.Text(), nullable=True))
    op.add_column("golden_contacts", sa.Column("phone_line_type", sa.Text(), nullable=True))
    op.add_column("golden_contacts", sa.Column("risk_score", sa.Integer(), nullable=True))
    # Neither table was written before this version.
    op.drop_table("verification_requests")
    op.drop_table("verifications")
    op.create_table(
        "lead_corrections",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("fields", JSONB(), nullable=False),
        sa.Column("release", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("corrected_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "revision", name="pk_lead_corrections"),
    )
    op.create_table(
        "quality_holds",
        sa.Column("hold_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.Column("rules", JSONB(), nullable=False),
        sa.Column("held_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("hold_id", name="pk_quality_holds"),
    )
    op.create_index("ix_quality_holds_tenant_source_received_on", "quality_holds", ["tenant", "source", "received_on"])
    op.create_index("uq_quality_holds_open", "quality_holds", ["tenant", "source", "received_on"], unique=True, postgresql_where=sa.text("ended_at is null"))
    op.create_table(
        "verification_requests",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("urgency", sa.Integer(), nullable=False),
        sa.Column("subject_hash", sa.BigInteger(), nullable=False),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("patience_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_reason", sa.Text(), nullable=True),
        sa.Column("call_id", sa.UUID(), nullable=True),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "revision", "kind", name="pk_verification_requests"),
    )
    op.create_index("ix_verification_requests_call_id", "verification_requests", ["call_id"], postgresql_where=sa.text("call_id is not null"))
    op.create_index("ix_verification_requests_kind_tenant_subject_hash", "verification_requests", ["kind", "tenant", "subject_hash"])
    op.create_index("ix_verification_requests_kind_tenant_urgency_due_at", "verification_requests", ["kind", "tenant", "urgency", "due_at"], postgresql_where=sa.text("not blocked"))
    op.create_table(
        "verifications",
        sa.Column("verification_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", JSONB(), nullable=False),
        sa.Column("flags", JSONB(), nullable=False),
        sa.Column("details", JSONB(), nullable=False),
        sa.Column("cost_micros", sa.Integer(), server_default="0", nullable=False),
        sa.Column("call_id", sa.UUID(), nullable=True),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("verified_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("verification_id", name="pk_verifications"),
    )
    op.create_index("ix_verifications_lead_id", "verifications", ["lead_id"])
    op.create_index("ix_verifications_verified_at", "verifications", ["verified_at"])
    op.create_table(
        "verification_calls",
        sa.Column("call_id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lookups", sa.Integer(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("answered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("poll_reference", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", name="pk_verification_calls"),
    )
    op.create_index("ix_verification_calls_provider_sent_at", "verification_calls", ["provider", "sent_at"])
    op.create_index("ix_verification_calls_unanswered", "verification_calls", ["provider"], postgresql_where=sa.text("answered_at is null"))
    op.create_table(
        "verification_spend",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("lookups", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "day", name="pk_verification_spend"),
    )
    op.create_table(
        "verdict_cache",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_hash", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", JSONB(), nullable=False),
        sa.Column("flags", JSONB(), nullable=False),
        sa.Column("details", JSONB(), nullable=False),
        sa.Column("verified_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind", "subject_hash", name="pk_verdict_cache"),
    )
    op.create_index("ix_verdict_cache_expires_at", "verdict_cache", ["expires_at"])
    op.create_table(
        "mx_cache",
        sa.Column("domain_hash", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", JSONB(), nullable=False),
        sa.Column("flags", JSONB(), nullable=False),
        sa.Column("mail_provider", sa.Text(), nullable=True),
        sa.Column("checked_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("domain_hash", name="pk_mx_cache"),
    )
    op.create_index("ix_mx_cache_expires_at", "mx_cache", ["expires_at"])
    op.create_table(
        "circuit_breakers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_probe_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_circuit_breakers"),
    )
    op.create_table(
        "verification_switches",
        sa.Column("switch_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("down_to", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("switch_id", name="pk_verification_switches"),
    )
    op.create_table(
        "velocity_counts",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_hash", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("leads", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind", "subject_hash", "bucket", name="pk_velocity_counts"),
    )
    op.create_index("ix_velocity_counts_bucket", "velocity_counts", ["bucket"])
