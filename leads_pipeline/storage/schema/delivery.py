"""Golden contacts, what CRMs should hold, what became of it, and what an operator decided."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from leads_pipeline.storage.schema.base import (
    int_column,
    json_column,
    stamp_columns,
    table,
    tenant_column,
    text_column,
    uuid_column,
    when_column,
)

golden_contacts = table(
    "golden_contacts",
    uuid_column("contact_id", primary_key=True),
    tenant_column(),
    int_column("version"),
    text_column("email", personal=True, nullable=True),
    # One contact holds an address, the oldest that wants it; the others await it (docs/adr/0006).
    text_column("email_key", personal=True, nullable=True),
    text_column("awaited_email_key", personal=True, nullable=True),
    text_column("phone", personal=True, nullable=True),
    text_column("first_name", personal=True, nullable=True),
    text_column("last_name", personal=True, nullable=True),
    text_column("company", personal=True, nullable=True),
    text_column("job_title", personal=True, nullable=True),
    sa.Column("date_of_birth", sa.Date, nullable=True, info={"personal": True}),
    text_column("address", personal=True, nullable=True),
    text_column("city", personal=True, nullable=True),
    text_column("state", personal=True, nullable=True),
    text_column("postcode", personal=True, nullable=True),
    text_column("country", nullable=True),
    text_column("email_verdict", nullable=True),  # valid, invalid, risky, unknown, unverified; null: has no address
    text_column("phone_verdict", nullable=True),
    text_column("phone_line_type", nullable=True),  # mobile, landline, voip …, as a provider says
    int_column("risk_score", nullable=True),  # 0 to 100, of the lead that the e-mail address came from
    json_column("attribution"),  # first and last touch
    json_column("consent"),  # folded: {purpose: {channel: {granted, as_of, lead_id}}}
    json_column("provenance"),  # {field: {lead_id, received_at, rule}}
    int_column("lead_count"),
    text_column("first_source"),
    text_column("last_source"),
    when_column("first_seen_at"),
    when_column("last_seen_at"),
    *stamp_columns(),
    when_column("updated_at"),
    sa.Index(
        "uq_golden_contacts_tenant_email_key",
        "tenant",
        "email_key",
        unique=True,
        postgresql_where=sa.text("email_key is not null"),
    ),
    sa.Index(
        "ix_golden_contacts_awaited_email_key",
        "tenant",
        "awaited_email_key",
        "contact_id",
        postgresql_where=sa.text("awaited_email_key is not null"),
    ),
)

# Desired state: one row per contact and destination. Sending it twice is harmless.
outbox = table(
    "outbox",
    sa.Column("outbox_id", sa.BigInteger, sa.Identity(), primary_key=True),
    tenant_column(),
    uuid_column("contact_id"),
    text_column("destination"),
    text_column("operation"),  # upsert, archive, erase
    text_column("state"),
    text_column("lane"),
    int_column("wanted_version"),
    int_column("delivered_version", nullable=True),
    # Leads of golden versions up to this one were no news when the destination was first to have them: a destination
    # that came later, a contact that was held back. How long they took is not measured.
    int_column("news_after_version", nullable=True),
    when_column("waiting_since"),  # since when the wanted version waits; for ages and fairness
    when_column("due_at"),
    int_column("attempts", server_default="0"),  # of the wanted version
    json_column("failures", server_default="{}"),  # {class of refusal: how often}, of the wanted version
    text_column("claimed_by", nullable=True),
    when_column("claimed_until", nullable=True),
    sa.Column("claim_owner", sa.BigInteger, nullable=True),  # key of the advisory lock that the claiming process holds
    when_column("under_way_until", nullable=True),  # a request of the claim's may be carried out until then
    text_column("last_verdict", nullable=True),
    text_column("crm_record_id", nullable=True),
    # Other records of the CRM that the contact had: archived or let go, they still hold what an erasure must reach.
    sa.Column("former_records", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("taken_over", sa.Boolean, nullable=True),  # the CRM's record was there before us; null: not known
    text_column("claims_record", nullable=True),  # the CRM's record that this contact is to take over
    # What the CRM holds from us, so that only differences are sent and what we no longer know can be cleared:
    # {property: keyed hash of its value, or null where the value is not known}.
    json_column("snapshot", personal=True, nullable=True),
    json_column("withheld", nullable=True),  # names of the properties that the destination's schema refuses
    text_column("suppressed_for", nullable=True),  # why it must not be sent: no_consent, withdrawn, listed
    when_column("delivered_at", nullable=True),
    when_column("updated_at"),
    sa.UniqueConstraint("contact_id", "destination"),
    sa.Index(
        "ix_outbox_due",
        "destination",
        "lane",
        "tenant",
        "due_at",
        "outbox_id",
        postgresql_where=sa.text("state in ('waiting', 'in_flight')"),
    ),
    sa.Index(
        "ix_outbox_fresh",
        "destination",
        "lane",
        "tenant",
        "waiting_since",
        postgresql_where=sa.text("state = 'waiting' and attempts = 0"),
    ),
    sa.Index(
        "ix_outbox_removals",
        "destination",
        "operation",
        "due_at",
        postgresql_where=sa.text("operation <> 'upsert' and state in ('waiting', 'in_flight')"),
    ),
    sa.Index("ix_outbox_owner", "claim_owner", postgresql_where=sa.text("claimed_by is not null")),
    # What ended lately is counted every few minutes, however many rows ended before.
    sa.Index("ix_outbox_delivered_at", "delivered_at", postgresql_where=sa.text("delivered_at is not null")),
    sa.Index("ix_outbox_dead", "updated_at", postgresql_where=sa.text("state = 'dead'")),
    # Few rows lack a property: whoever counts them does not read the others.
    sa.Index("ix_outbox_withheld", "destination", postgresql_where=sa.text("withheld is not null")),
    sa.Index("ix_outbox_tenant_state", "tenant", "state"),
    # Whether two have taken over one record.
    sa.Index("ix_outbox_taken_over", "destination", "crm_record_id", postgresql_where=sa.text("taken_over")),
    # Who is to take over a record, and whose it was: see storage.outbox_records.
    sa.Index("ix_outbox_claims", "destination", "claims_record", postgresql_where=sa.text("claims_record is not null")),
    sa.Index(
        "ix_outbox_given_up",
        "destination",
        "crm_record_id",
        postgresql_where=sa.text("state = 'cancelled' and crm_record_id is not null"),
    ),
    # Every delivery writes a row several times: room for its next version on the page, and vacuumed early.
    postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.01},
)

# One row per request to a CRM, written before it is sent and settled with its answer.
crm_sync_batches = table(
    "crm_sync_batches",
    uuid_column("batch_id", primary_key=True),
    text_column("tenant", nullable=True),  # null: records of several; sync_attempts has the tenant of each
    text_column("destination"),
    text_column("account"),
    text_column("endpoint"),
    text_column("operation"),
    text_column("lane", nullable=True),  # null: none in particular
    int_column("records"),
    int_column("cost", nullable=True),  # credits, where the vendor counts them
    int_column("delivered", server_default="0"),
    int_column("retried", server_default="0"),
    int_column("dead", server_default="0"),
    int_column("http_status", nullable=True),
    sa.Column("throttled", sa.Boolean, server_default=sa.false(), nullable=False),  # refused for the vendor's limit
    text_column("correlation_id", nullable=True),
    text_column("finished_as", nullable=True),  # how it ended, where the answer does not say so
    text_column("runner_id"),
    when_column("sent_at", index=True),
    when_column("answered_at", nullable=True),
)

sync_attempts = table(
    "sync_attempts",
    uuid_column("batch_id", primary_key=True),
    sa.Column("outbox_id", sa.BigInteger, primary_key=True),
    tenant_column(),
    uuid_column("contact_id", index=True),
    text_column("destination"),
    int_column("version"),
    int_column("attempt"),
    text_column("verdict", nullable=True),  # delivered, or the class of the refusal; null while unanswered
    text_column("code", nullable=True),  # the vendor's code, never its message
    when_column("sent_at"),
    when_column("settled_at", nullable=True),
)

dead_letters = table(
    "dead_letters",
    uuid_column("dead_letter_id", primary_key=True),
    tenant_column(),
    uuid_column("contact_id", index=True),
    text_column("destination"),
    sa.Column("outbox_id", sa.BigInteger, nullable=False),
    int_column("version"),
    text_column("reason"),  # the class of the refusal
    text_column("code", nullable=True),
    json_column("payload", personal=True),  # what was sent
    text_column("explanation", personal=True, nullable=True),  # the vendor's words; they may quote the value
    int_column("attempts"),
    when_column("died_at"),
    when_column("resolved_at", nullable=True),
    text_column("resolution", nullable=True),
    sa.Index("ix_dead_letters_open", "outbox_id", postgresql_where=sa.text("resolved_at is null")),
)

# What a limiter remembers, one row per account and class of endpoint; the row's lock is the queue for all processes.
rate_limits = table(
    "rate_limits",
    text_column("account", primary_key=True),
    text_column("endpoint_class", primary_key=True),
    json_column("grants"),
    json_column("daily"),
    json_column("in_flight", server_default="{}"),  # {grant: when it counts as lost}
    json_column("foreign_use", server_default="{}"),  # {window: what other applications used}
    json_column("readings", server_default="{}"),  # what the vendor last said: pauses of classes of endpoints
    sa.Column("scale", sa.Double, server_default="1", nullable=False),  # share of the limits that is used
    when_column("scaled_at", nullable=True),
    when_column("paused_until", nullable=True),
    when_column("updated_at"),
)

# A lead that was taken out of the flow for good; outlives the lead's own rows.
lead_dispositions = table(
    "lead_dispositions",
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
    text_column("state"),  # discarded, erased
    text_column("actor"),
    text_column("reason"),
    when_column("decided_at"),
)
