"""The pipeline watches itself: measurements, promises, rules, alerts, and what became of leads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"

TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("capture_batches", sa.Column("captured_by_day", JSONB(), nullable=True))
    op.alter_column("capture_batches", "captured_by_day", server_default="{}")
    op.create_index(
        "ix_capture_batches_other_days",
        "capture_batches",
        ["committed_at"],
        postgresql_where=sa.text("captured_by_day <> '{}'::jsonb"),
    )
    op.add_column("redis_moves", sa.Column("moved_by_day", JSONB(), nullable=True))
    op.create_table(
        "latency_measurements",
        sa.Column("measurement_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), server_default="", nullable=False),
        sa.Column("measured_at", TIME, nullable=False),
        sa.Column("counts", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("measurement_id", name="pk_latency_measurements"),
    )
    op.create_index("ix_latency_measurements_measured_at", "latency_measurements", ["measured_at"], unique=False)
    op.create_table(
        "latency_histograms",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("span_seconds", sa.Integer(), nullable=False),
        sa.Column("leads", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "lane", "stage", "destination", "began_at", "bucket", name="pk_latency_histograms"
        ),
    )
    op.create_index(
        "ix_latency_histograms_span_seconds", "latency_histograms", ["span_seconds", "began_at"], unique=False
    )
    op.create_index("ix_latency_histograms_stage_began_at", "latency_histograms", ["stage", "began_at"], unique=False)
    # Leads that were there before are never measured as if they came now: 0 for them, null for those to come.
    op.add_column("deduped_leads", sa.Column("first_golden_version", sa.Integer(), server_default="0", nullable=True))
    op.alter_column("deduped_leads", "first_golden_version", server_default=None)
    op.add_column("outbox", sa.Column("news_after_version", sa.Integer(), nullable=True))
    op.create_table(
        "replays",
        sa.Column("replay", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("since", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("put_back", sa.BigInteger(), nullable=False),
        sa.Column("came_to", sa.UUID(), nullable=True),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("replay", "actor", name="pk_replays"),
    )
    op.create_table(
        "slo_verdicts",
        sa.Column("slo", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("good", sa.BigInteger(), nullable=False),
        sa.Column("bad", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("budget_left", sa.Double(), nullable=True),
        sa.Column("burn_rates", JSONB(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("evaluated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("slo", "tenant", "lane", name="pk_slo_verdicts"),
    )
    op.create_table(
        "slo_history",
        sa.Column("slo", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("evaluated_at", TIME, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("good", sa.BigInteger(), nullable=False),
        sa.Column("bad", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("budget_left", sa.Double(), nullable=True),
        sa.Column("burn_rate", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("slo", "tenant", "lane", "evaluated_at", name="pk_slo_history"),
    )
    op.create_index("ix_slo_history_evaluated_at", "slo_history", ["evaluated_at"], unique=False)
    op.create_table(
        "quality_gates",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("ruling", sa.Text(), nullable=True),
        sa.Column("ruled_by", sa.Text(), nullable=True),
        sa.Column("ruled_for", sa.Text(), nullable=True),
        sa.Column("ruled_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "lane", "gate", name="pk_quality_gates"),
    )
    op.create_table(
        "gate_history",
        sa.Column("history_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ruled_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("history_id", name="pk_gate_history"),
    )
    op.create_index(
        "uq_gate_history_closed",
        "gate_history",
        ["gate", "tenant", "lane"],
        unique=True,
        postgresql_where=sa.text("ruled_by is null and ended_at is null"),
    )
    op.create_table(
        "policy_states",
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("evaluated_at", TIME, nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("action_id", sa.UUID(), nullable=True),
        sa.PrimaryKeyConstraint("policy", "target", name="pk_policy_states"),
    )
    op.create_table(
        "policy_actions",
        sa.Column("action_id", sa.UUID(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("lane", sa.Text(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("parameters", JSONB(), nullable=False),
        sa.Column("cause", JSONB(), nullable=False),
        sa.Column("runner_id", sa.Text(), nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ends_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_for", sa.Text(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("action_id", name="pk_policy_actions"),
    )
    op.create_index("ix_policy_actions_began_at", "policy_actions", ["began_at"], unique=False)
    op.create_index(
        "uq_policy_actions_open",
        "policy_actions",
        ["policy", "target"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "measure_history",
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("measured_at", TIME, nullable=False),
        sa.Column("series", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("measure", "measured_at", name="pk_measure_history"),
    )
    op.create_index("ix_measure_history_measured_at", "measure_history", ["measured_at"], unique=False)
    op.create_table(
        "policy_pauses",
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("paused_at", TIME, nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("policy", name="pk_policy_pauses"),
    )
    op.create_table(
        "watch_looks",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("looked_at", TIME, nullable=False),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_watch_looks"),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.UUID(), nullable=False),
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("facts", JSONB(), nullable=False),
        sa.Column("playbook", sa.Text(), nullable=True),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("tenant", sa.Text(), nullable=True),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.Column("healthy_since", TIME, nullable=True),
        sa.Column("occurrences", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("closed_for", sa.Text(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_opened_at", "alerts", ["opened_at"], unique=False)
    op.create_index(
        "uq_alerts_open", "alerts", ["alert_key"], unique=True, postgresql_where=sa.text("closed_at is null")
    )
    op.create_table(
        "alert_notices",
        sa.Column("notice_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("alert_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("notice_id", name="pk_alert_notices"),
    )
    op.create_index("ix_alert_notices_alert_id", "alert_notices", ["alert_id"], unique=False)
    op.create_index(
        "ix_alert_notices_due",
        "alert_notices",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state in ('waiting', 'sending')"),
    )
    op.create_table(
        "outcomes",
        sa.Column("outcome_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=True),
        sa.Column("contact_id", sa.UUID(), nullable=True),
        sa.Column("key_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("outcome_id", name="pk_outcomes"),
        sa.UniqueConstraint("tenant", "key_sha256", name="uq_outcomes_tenant_key_sha256"),
    )
    op.create_index(
        "ix_outcomes_contact_id",
        "outcomes",
        ["contact_id"],
        unique=False,
        postgresql_where=sa.text("contact_id is not null"),
    )
    op.create_index(
        "ix_outcomes_lead_id", "outcomes", ["lead_id"], unique=False, postgresql_where=sa.text("lead_id is not null")
    )
    op.create_index("ix_outcomes_kind_occurred_at", "outcomes", ["kind", "occurred_at"], unique=False)
    op.create_index("ix_outcomes_tenant_kind_occurred_at", "outcomes", ["tenant", "kind", "occurred_at"], unique=False)
