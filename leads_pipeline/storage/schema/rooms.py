"""The rooms of the flow up to a verdict, and what waits at their doors."""

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

# What waits at the door of a stage. Written with the row that makes it wait, deleted with the row that serves it.
pending = table(
    "pending",
    text_column("stage", primary_key=True),
    uuid_column("subject_id", primary_key=True),  # a lead id; at the door of golden_contacts a contact id
    tenant_column(),
    text_column("lane"),
    int_column("revision", server_default="1"),
    when_column("since"),  # when it came to this door
    when_column("due_at"),  # not to be taken before
    sa.Index("ix_pending_stage_tenant_lane_due_at", "stage", "tenant", "lane", "due_at"),
    # What was never put off, to find what is due although its time is ahead: see storage.pending.
    sa.Index("ix_pending_as_it_came", "stage", "tenant", "lane", "due_at", postgresql_where=sa.text("due_at <= since")),
)

raw_leads = table(
    "raw_leads",
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
    text_column("source"),
    text_column("capture_lane"),
    when_column("received_at"),
    json_column("payload", personal=True),
    json_column("context", personal=True),
    *stamp_columns(),
    when_column("moved_at"),
    sa.Index("ix_raw_leads_tenant_received_at", "tenant", "received_at"),
)

consent_events = table(
    "consent_events",
    uuid_column("lead_id", primary_key=True),
    int_column("position", primary_key=True),  # 1, 2 … within the lead
    tenant_column(),
    sa.Column("granted", sa.Boolean, nullable=False),
    text_column("purpose"),
    text_column("channel"),
    text_column("legal_basis", nullable=True),
    text_column("text_version", nullable=True),
    text_column("ip", personal=True, nullable=True),
    text_column("user_agent", personal=True, nullable=True),
    when_column("occurred_at"),
    *stamp_columns(),
)

validated_leads = table(
    "validated_leads",
    uuid_column("lead_id", primary_key=True),
    int_column("revision", primary_key=True),
    tenant_column(),
    text_column("source"),
    text_column("capture_lane"),
    text_column("sync_lane"),
    when_column("received_at"),
    # Each identifying field in three forms: as sent, as one would use it, as one compares it.
    text_column("email_raw", personal=True, nullable=True),
    text_column("email", personal=True, nullable=True),
    text_column("email_key", personal=True, nullable=True),
    text_column("phone_raw", personal=True, nullable=True),
    text_column("phone", personal=True, nullable=True),  # E.164
    text_column("phone_key", personal=True, nullable=True),
    text_column("first_name", personal=True, nullable=True),
    text_column("first_name_key", personal=True, nullable=True),
    text_column("last_name", personal=True, nullable=True),
    text_column("last_name_key", personal=True, nullable=True),
    text_column("full_name", personal=True, nullable=True),
    text_column("company", personal=True, nullable=True),
    text_column("company_key", personal=True, nullable=True),
    text_column("job_title", personal=True, nullable=True),
    sa.Column("date_of_birth", sa.Date, nullable=True, info={"personal": True}),
    text_column("address", personal=True, nullable=True),
    text_column("address_key", personal=True, nullable=True),
    text_column("city", personal=True, nullable=True),
    text_column("city_key", personal=True, nullable=True),
    text_column("state", personal=True, nullable=True),
    text_column("postcode", personal=True, nullable=True),
    text_column("postcode_key", personal=True, nullable=True),
    text_column("country", nullable=True),  # ISO 3166 alpha-2
    text_column("external_id", personal=True, nullable=True),
    text_column("message", personal=True, nullable=True),
    json_column("attribution"),  # lead_source, campaign, utm_source, utm_medium, landing_page
    json_column("flags"),  # names of what was noticed: role_mailbox, free_mailbox, email_typo_suspected …
    text_column("email_suggestion", nullable=True),  # the large provider's domain that was probably meant
    text_column("phone_region", nullable=True),  # ISO 3166 alpha-2
    text_column("phone_type", nullable=True),  # as the numbering plan has it: mobile, fixed_line …
    text_column("phone_time_zone", nullable=True),  # IANA; null where the number has several
    text_column("tier", server_default="none"),  # of verification, by triage
    int_column("value_score", server_default="0"),  # 0 to 100
    int_column("risk_score", server_default="0"),  # 0 to 100
    json_column("risk_factors", server_default="[]"),  # [{factor, points}], what makes up the risk
    text_column("rule_version"),
    *stamp_columns(),
    when_column("validated_at", index=True),
)

rejected_leads = table(
    "rejected_leads",
    uuid_column("lead_id", primary_key=True),
    int_column("revision", primary_key=True),
    tenant_column(),
    text_column("source"),
    when_column("received_at"),
    json_column("reasons"),  # [{rule, field, value_class, remedy}]: never the value
    text_column("rule_version"),
    *stamp_columns(),
    when_column("rejected_at", index=True),
)

# What an operator did with a rejected lead: each row but a discard makes a revision that is judged again.
lead_corrections = table(
    "lead_corrections",
    uuid_column("lead_id", primary_key=True),
    int_column("revision", primary_key=True),  # the one that the correction makes
    tenant_column(),
    text_column("action"),  # fix, retry, replay
    json_column("fields", personal=True),  # canonical field → its new value; null takes it away
    sa.Column("release", sa.Boolean, nullable=False),  # judge it although the door had set it aside
    text_column("actor"),
    text_column("reason", nullable=True),
    when_column("corrected_at"),
)

# Who replayed which window, and how far they came; of each lead that was judged again, lead_corrections tells as well.
replays = table(
    "replays",
    text_column("replay", primary_key=True),
    text_column("actor", primary_key=True),
    text_column("stage"),  # from which on
    text_column("tenant", nullable=True),  # null: every
    when_column("since"),
    when_column("until"),
    count_column("put_back"),  # leads, or contacts that were made anew
    uuid_column("came_to", nullable=True),  # the last lead of the window that it looked at
    when_column("began_at"),
    when_column("ended_at", nullable=True),
)

# A source's leads of one day that the batch lane must not match before they pass, or somebody lets them. A row that
# was released keeps its group from being held for the same rules again.
quality_holds = table(
    "quality_holds",
    sa.Column("hold_id", sa.BigInteger, sa.Identity(), primary_key=True),
    tenant_column(),
    text_column("source"),
    sa.Column("received_on", sa.Date, nullable=False),  # in UTC
    json_column("rules"),  # names of those that are broken
    when_column("held_at"),
    text_column("runner_id"),
    text_column("resolution", nullable=True),  # released, passed, gone
    when_column("ended_at", nullable=True),
    text_column("ended_by", nullable=True),
    text_column("reason", nullable=True),
    sa.Index("ix_quality_holds_tenant_source_received_on", "tenant", "source", "received_on"),
    sa.Index(
        "uq_quality_holds_open",
        "tenant", "source", "received_on",
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
    ),
)  # fmt: skip

# Which contact a lead belongs to now. How it came there stands in merge_log.
deduped_leads = table(
    "deduped_leads",
    uuid_column("lead_id", primary_key=True),
    int_column("revision"),
    tenant_column(),
    text_column("sync_lane"),
    uuid_column("contact_id", index=True),
    # The first golden version that includes this lead; null until golden_contacts has taken it in.
    int_column("golden_version", nullable=True),
    # The first version of its contact that ever included it, while it is news to destinations (storage.news).
    int_column("first_golden_version", nullable=True),
    text_column("decision"),  # new, rule, model
    *stamp_columns(),
    when_column("deduped_at"),
    # A walk over a tenant's leads under its lock costs what it has, not what all have.
    sa.Index("ix_deduped_leads_tenant_lead_id", "tenant", "lead_id"),
)
