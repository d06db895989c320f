"""The tables of the first version.

A migration is what a released version did, so it repeats the columns instead of importing ``storage.schema``. Forward
only: the way back is a backup.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
    )

    op.create_table(
        "ingest_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "source", "key_sha256", name="pk_ingest_keys"),
    )
    op.create_index("ix_ingest_keys_received_at", "ingest_keys", ["received_at"])

    op.create_table(
        "capture_batches",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("captured", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), server_default="0", nullable=False),
        sa.Column("committed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "tenant", "source", name="pk_capture_batches"),
    )
    op.create_index("ix_capture_batches_committed_at", "capture_batches", ["committed_at"])

    op.create_table(
        "buffer",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("consent", JSONB(), nullable=False),
        sa.Column("context", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", name="pk_buffer"),
    )
    op.create_index("ix_buffer_tenant_lane_lead_id", "buffer", ["tenant", "lane", "lead_id"])

    op.create_table(
        "pending",
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stage", "subject_id", name="pk_pending"),
    )
    op.create_index("ix_pending_stage_tenant_lane_due_at", "pending", ["stage", "tenant", "lane", "due_at"])

    op.create_table(
        "raw_leads",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("capture_lane", sa.Text(), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("context", JSONB(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("moved_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", name="pk_raw_leads"),
        postgresql_partition_by="RANGE (lead_id)",
    )
    op.create_index("ix_raw_leads_tenant_received_at", "raw_leads", ["tenant", "received_at"])

    op.create_table(
        "consent_events",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("legal_basis", sa.Text(), nullable=True),
        sa.Column("text_version", sa.Text(), nullable=True),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "position", name="pk_consent_events"),
        postgresql_partition_by="RANGE (lead_id)",
    )

    op.create_table(
        "validated_leads",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("capture_lane", sa.Text(), nullable=False),
        sa.Column("sync_lane", sa.Text(), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("email_raw", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_key", sa.Text(), nullable=True),
        sa.Column("phone_raw", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("phone_key", sa.Text(), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("first_name_key", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("last_name_key", sa.Text(), nullable=True),
        sa.Column("full_name", sa.Text(), nullable=True),
        sa.Column("company", sa.Text(), nullable=True),
        sa.Column("company_key", sa.Text(), nullable=True),
        sa.Column("job_title", sa.Text(), nullable=True),
        sa.Column("date_of_birth", sa.Date(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("address_key", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("city_key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("postcode_key", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("attribution", JSONB(), nullable=False),
        sa.Column("flags", JSONB(), nullable=False),
        sa.Column("rule_version", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("validated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "revision", name="pk_validated_leads"),
        postgresql_partition_by="RANGE (lead_id)",
    )
    op.create_index("ix_validated_leads_validated_at", "validated_leads", ["validated_at"])

    op.create_table(
        "rejected_leads",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reasons", JSONB(), nullable=False),
        sa.Column("rule_version", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("rejected_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "revision", name="pk_rejected_leads"),
        postgresql_partition_by="RANGE (lead_id)",
    )
    op.create_index("ix_rejected_leads_rejected_at", "rejected_leads", ["rejected_at"])

    op.create_table(
        "verification_requests",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("patience_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "revision", "kind", name="pk_verification_requests"),
    )

    op.create_table(
        "verifications",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", JSONB(), nullable=False),
        sa.Column("cost_micros", sa.Integer(), server_default="0", nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "revision", "kind", name="pk_verifications"),
    )

    op.create_table(
        "deduped_leads",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("sync_lane", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("golden_version", sa.Integer(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("deduped_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", name="pk_deduped_leads"),
    )
    op.create_index("ix_deduped_leads_contact_id", "deduped_leads", ["contact_id"])

    op.create_table(
        "contacts",
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("founding_lead_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("merged_into", sa.UUID(), nullable=True),
        sa.PrimaryKeyConstraint("contact_id", name="pk_contacts"),
    )
    op.create_index(
        "ix_contacts_merged_into", "contacts", ["merged_into"], postgresql_where=sa.text("merged_into is not null")
    )
    op.create_index("ix_contacts_tenant_contact_id", "contacts", ["tenant", "contact_id"])

    op.create_table(
        "match_records",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=True),
        sa.Column("phone_key", sa.Text(), nullable=True),
        sa.Column("first_name_key", sa.Text(), nullable=True),
        sa.Column("last_name_key", sa.Text(), nullable=True),
        sa.Column("company_key", sa.Text(), nullable=True),
        sa.Column("date_of_birth", sa.Date(), nullable=True),
        sa.Column("address_key", sa.Text(), nullable=True),
        sa.Column("city_key", sa.Text(), nullable=True),
        sa.Column("postcode_key", sa.Text(), nullable=True),
        sa.Column("flags", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", name="pk_match_records"),
    )
    op.create_index("ix_match_records_contact_id", "match_records", ["contact_id"])
    op.create_index(
        "ix_match_records_email_key", "match_records", ["email_key"], postgresql_where=sa.text("email_key is not null")
    )

    op.create_table(
        "match_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.BigInteger(), nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key_hash", "lead_id", name="pk_match_keys"),
    )
    op.create_index("ix_match_keys_lead_id", "match_keys", ["lead_id"])

    op.create_table(
        "term_frequencies",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "field", "term", name="pk_term_frequencies"),
    )

    op.create_table(
        "identity_sizes",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("records", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("contacts", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_identity_sizes"),
    )

    op.create_table(
        "merge_log",
        sa.Column("merge_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("other_contact_id", sa.UUID(), nullable=True),
        sa.Column("lead_ids", JSONB(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("match_weight", sa.Double(), nullable=True),
        sa.Column("evidence", JSONB(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("merged_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merge_id", name="pk_merge_log"),
    )
    op.create_index("ix_merge_log_contact_id", "merge_log", ["contact_id"])
    op.create_index("ix_merge_log_other_contact_id", "merge_log", ["other_contact_id"])

    op.create_table(
        "match_reviews",
        sa.Column("review_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("other_lead_id", sa.UUID(), nullable=False),
        sa.Column("match_weight", sa.Double(), nullable=False),
        sa.Column("evidence", JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("review_id", name="pk_match_reviews"),
        sa.UniqueConstraint("lead_id", "other_lead_id", name="uq_match_reviews_lead_id_other_lead_id"),
    )
    op.create_index("ix_match_reviews_other_lead_id", "match_reviews", ["other_lead_id"])

    op.create_table(
        "golden_contacts",
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("email_key", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("company", sa.Text(), nullable=True),
        sa.Column("job_title", sa.Text(), nullable=True),
        sa.Column("date_of_birth", sa.Date(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("attribution", JSONB(), nullable=False),
        sa.Column("consent", JSONB(), nullable=False),
        sa.Column("provenance", JSONB(), nullable=False),
        sa.Column("lead_count", sa.Integer(), nullable=False),
        sa.Column("first_source", sa.Text(), nullable=False),
        sa.Column("last_source", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("contact_id", name="pk_golden_contacts"),
    )
    op.create_index(
        "uq_golden_contacts_tenant_email_key",
        "golden_contacts",
        ["tenant", "email_key"],
        unique=True,
        postgresql_where=sa.text("email_key is not null"),
    )

    op.create_table(
        "outbox",
        sa.Column("outbox_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("wanted_version", sa.Integer(), nullable=False),
        sa.Column("delivered_version", sa.Integer(), nullable=True),
        sa.Column("waiting_since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_verdict", sa.Text(), nullable=True),
        sa.Column("crm_record_id", sa.Text(), nullable=True),
        sa.Column("delivered_fields", JSONB(), nullable=True),
        sa.Column("delivered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("outbox_id", name="pk_outbox"),
        sa.UniqueConstraint("contact_id", "destination", name="uq_outbox_contact_id_destination"),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["destination", "tenant", "lane", "due_at"],
        postgresql_where=sa.text("state in ('waiting', 'in_flight')"),
    )
    op.create_index("ix_outbox_tenant_state", "outbox", ["tenant", "state"])

    op.create_table(
        "crm_sync_batches",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retried", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dead", sa.Integer(), server_default="0", nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("answered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("batch_id", name="pk_crm_sync_batches"),
    )
    op.create_index("ix_crm_sync_batches_sent_at", "crm_sync_batches", ["sent_at"])

    op.create_table(
        "sync_attempts",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("batch_id", "outbox_id", name="pk_sync_attempts"),
    )
    op.create_index("ix_sync_attempts_contact_id", "sync_attempts", ["contact_id"])

    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.UUID(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("died_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("dead_letter_id", name="pk_dead_letters"),
    )
    op.create_index("ix_dead_letters_contact_id", "dead_letters", ["contact_id"])
    op.create_index(
        "ix_dead_letters_open", "dead_letters", ["outbox_id"], postgresql_where=sa.text("resolved_at is null")
    )

    op.create_table(
        "rate_limits",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("endpoint_class", sa.Text(), nullable=False),
        sa.Column("grants", JSONB(), nullable=False),
        sa.Column("daily", JSONB(), nullable=False),
        sa.Column("paused_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "endpoint_class", name="pk_rate_limits"),
    )

    op.create_table(
        "lead_dispositions",
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", name="pk_lead_dispositions"),
    )
