"""Verification: what is to be looked up, what was asked and paid, what came of it, and what is remembered."""

import sqlalchemy as sa

from leads_pipeline.storage.schema.base import (
    count_column,
    int_column,
    json_column,
    stamp_columns,
    table,
    tenant_column,
    text_column,
    uuid_column,
    when_column,
)

# What waits to be looked up: one row per lead, revision and kind of look-up. Deleted with the verdict that serves it.
verification_requests = table(
    "verification_requests",
    uuid_column("lead_id", primary_key=True),
    int_column("revision", primary_key=True),
    text_column("kind", primary_key=True),  # mx, mailbox, phone
    tenant_column(),
    text_column("lane"),
    text_column("tier"),
    int_column("urgency"),  # the tier's place in leads.yaml: the smaller, the sooner
    sa.Column("subject_hash", sa.BigInteger, nullable=False),  # of tenant and address: equal ones are asked for once
    sa.Column("blocked", sa.Boolean, nullable=False),  # waits for the domain's MX: a dead domain needs no paid look-up
    when_column("requested_at"),
    when_column("patience_until"),  # the lead goes on unverified after this
    when_column("due_at"),  # not to be taken before; while claimed, the end of the lease
    int_column("attempts", server_default="0"),
    text_column("last_reason", nullable=True),
    uuid_column("call_id", nullable=True),  # the call in which it was asked: without an answer it may have been paid
    *stamp_columns(),
    sa.Index(
        "ix_verification_requests_kind_tenant_urgency_due_at",
        "kind", "tenant", "urgency", "due_at",
        postgresql_where=sa.text("not blocked"),
    ),
    sa.Index("ix_verification_requests_kind_tenant_subject_hash", "kind", "tenant", "subject_hash"),
    sa.Index("ix_verification_requests_call_id", "call_id", postgresql_where=sa.text("call_id is not null")),
)  # fmt: skip

# Verdicts as they were when they came: a later one is a further row, the latest counts.
verifications = table(
    "verifications",
    uuid_column("verification_id", primary_key=True),
    tenant_column(),
    uuid_column("lead_id", index=True),
    int_column("revision"),
    text_column("kind"),
    text_column("tier"),
    text_column("provider"),  # who said so; dns for mx; cache, skipped
    text_column("verdict"),  # valid, invalid, risky, unknown
    json_column("reasons"),
    json_column("flags"),
    json_column("details"),  # line_type, mail_provider …: nothing personal
    int_column(
        "cost_micros", server_default="0"
    ),  # millionths of the account's currency; shared look-ups cost the first
    uuid_column("call_id", nullable=True),
    when_column("requested_at"),
    when_column("verified_at"),
    *stamp_columns(),
    sa.Index("ix_verifications_verified_at", "verified_at"),
)

# Every request to a provider, written before it is sent.
verification_calls = table(
    "verification_calls",
    uuid_column("call_id", primary_key=True),
    text_column("provider"),  # its name in leads.yaml
    text_column("kind"),
    int_column("lookups"),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),  # reserved when sent, what was billed when answered
    when_column("sent_at"),
    when_column("answered_at", nullable=True),
    text_column("outcome", nullable=True),  # answered, poll, throttled, refused …; null: under way, or lost
    int_column("http_status", nullable=True),
    text_column("poll_reference", nullable=True),  # the provider's id of an answer that is still to come
    *stamp_columns(),
    sa.Index("ix_verification_calls_provider_sent_at", "provider", "sent_at"),
    sa.Index("ix_verification_calls_unanswered", "provider", postgresql_where=sa.text("answered_at is null")),
)

# The ledger of the budgets: one row per provider and day of its account's time zone.
verification_spend = table(
    "verification_spend",
    text_column("provider", primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    count_column("calls"),
    count_column("lookups"),
    count_column("cost_micros"),
)

# What is known of an address already, and until when. The address itself is not here.
verdict_cache = table(
    "verdict_cache",
    text_column("tenant", primary_key=True),
    text_column("kind", primary_key=True),
    sa.Column("subject_hash", sa.BigInteger, primary_key=True),
    text_column("provider"),
    text_column("verdict"),
    json_column("reasons"),
    json_column("flags"),
    json_column("details"),
    when_column("verified_at"),
    when_column("expires_at", index=True),
)

# What DNS said about a domain, for all tenants.
mx_cache = table(
    "mx_cache",
    sa.Column("domain_hash", sa.BigInteger, primary_key=True),
    text_column("verdict"),
    json_column("reasons"),
    json_column("flags"),
    text_column("mail_provider", nullable=True),
    when_column("checked_at"),
    when_column("expires_at", index=True),
)

# One row per vendor's account: closed, open, or half-open with one probe under way in all processes.
circuit_breakers = table(
    "circuit_breakers",
    text_column("name", primary_key=True),
    text_column("state"),
    int_column("failures"),
    text_column("reason", nullable=True),
    when_column("opened_at", nullable=True),
    when_column("next_probe_at", nullable=True),
    when_column("updated_at"),
)

# A tier that an operator or the policy engine has switched down: its leads are treated as the lower tier's.
verification_switches = table(
    "verification_switches",
    sa.Column("switch_id", sa.BigInteger, sa.Identity(), primary_key=True),
    text_column("tier"),
    text_column("down_to"),
    text_column("actor"),
    text_column("reason"),
    when_column("since"),
    when_column("until", nullable=True),
    when_column("ended_at", nullable=True),
    text_column("ended_by", nullable=True),
)

# How many leads came lately from one address of the network or with one domain of e-mail.
velocity_counts = table(
    "velocity_counts",
    text_column("tenant", primary_key=True),
    text_column("kind", primary_key=True),  # ip, domain
    sa.Column("subject_hash", sa.BigInteger, primary_key=True),
    when_column("bucket", primary_key=True),
    int_column("leads"),
    sa.Index("ix_velocity_counts_bucket", "bucket"),
)
