"""What is known of destinations beside their contacts: who must not be sent, their fields, tokens, jobs, decisions."""

import sqlalchemy as sa

from leads_pipeline.storage.schema.base import (
    json_column,
    table,
    tenant_column,
    text_column,
    uuid_column,
    when_column,
)

# Who must not be sent, whoever they are: outlives the contact, so that a list can be kept after an erasure.
suppressions = table(
    "suppressions",
    sa.Column("suppression_id", sa.BigInteger, sa.Identity(), primary_key=True),
    tenant_column(),
    text_column("kind"),  # email, phone, domain, contact
    sa.Column("value_hash", sa.LargeBinary, nullable=False, info={"personal": True}),  # keyed; the value is nowhere
    text_column("destination", nullable=True),  # null: all
    text_column("reason", nullable=True),
    text_column("actor"),
    when_column("added_at"),
    when_column("ended_at", nullable=True),
    text_column("ended_by", nullable=True),
    sa.Index(
        "uq_suppressions_value",
        "tenant",
        "kind",
        "value_hash",
        "destination",
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
        postgresql_nulls_not_distinct=True,
    ),
)

# The fields that a destination has, as it last told, and what of the mapping does not fit them.
destination_schemas = table(
    "destination_schemas",
    text_column("destination", primary_key=True),
    when_column("fetched_at"),
    json_column("schema"),
    json_column("faults", server_default="[]"),
)

# A person's correction of the mapping that leads.yaml states.
mapping_overrides = table(
    "mapping_overrides",
    uuid_column("override_id", primary_key=True),
    text_column("destination"),
    text_column("property"),
    json_column("rule"),
    text_column("actor"),
    text_column("reason", nullable=True),
    when_column("made_at"),
    when_column("withdrawn_at", nullable=True),
    text_column("withdrawn_by", nullable=True),
    sa.Index(
        "uq_mapping_overrides_property",
        "destination",
        "property",
        unique=True,
        postgresql_where=sa.text("withdrawn_at is null"),
    ),
)

# What a destination refused although its fields say that it takes it; left out of what is sent.
refused_properties = table(
    "refused_properties",
    text_column("destination", primary_key=True),
    text_column("property", primary_key=True),
    text_column("code", nullable=True),
    when_column("refused_at"),
)

# How far a destination that was added later has been filled with the contacts that were there before it.
destination_doors = table(
    "destination_doors",
    text_column("tenant", primary_key=True),
    text_column("destination", primary_key=True),
    uuid_column("filled_after", nullable=True),  # contacts up to this id are in the outbox
    when_column("filled_at", nullable=True),
)

# What persons did with dead letters; written in the transaction of what they did.
dead_letter_actions = table(
    "dead_letter_actions",
    sa.Column("action_id", sa.BigInteger, sa.Identity(), primary_key=True),
    tenant_column(),
    uuid_column("dead_letter_id", index=True),
    text_column("action"),  # fix, redrive, discard, dry_run, to_sandbox
    text_column("actor"),
    text_column("reason", nullable=True),
    when_column("acted_at"),
    json_column("details", server_default="{}"),  # names of fields and numbers, never values
)

# One token for all processes: some vendors allow few, and a new one ends the oldest.
access_tokens = table(
    "access_tokens",
    text_column("account", primary_key=True),
    text_column("credentials", primary_key=True),  # fingerprint of what it is fetched with
    sa.Column("token", sa.LargeBinary, nullable=True),  # sealed; null: asked for, none came yet
    when_column("expires_at", nullable=True),  # null: until the vendor refuses it
    json_column("fetches", server_default="[]"),  # when tokens were fetched lately
)

# Jobs that a vendor works on by itself; whoever comes next asks how far they are.
bulk_jobs = table(
    "bulk_jobs",
    uuid_column("job_id", primary_key=True),
    text_column("destination"),
    text_column("crm_job_id", nullable=True),
    text_column("step"),
    sa.Column("records", sa.Integer, nullable=False),
    # What is sent and what is held, until the job ends.
    json_column("batch", personal=True, nullable=True),
    text_column("claimed_by"),  # the token that the rows' claims bear
    sa.Column("taken", sa.Integer, nullable=False, server_default="0"),  # how often: the last who took it has it
    when_column("started_at"),
    when_column("next_poll_at"),
    when_column("deadline_at"),
    when_column("ended_at", nullable=True),
    sa.Index("ix_bulk_jobs_open", "destination", "next_poll_at", postgresql_where=sa.text("ended_at is null")),
)
