"""Who is whom: contacts, keys and fields to match by, merges, reviews."""

import sqlalchemy as sa

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

contacts = table(
    "contacts",
    uuid_column("contact_id", primary_key=True),
    tenant_column(),
    uuid_column("founding_lead_id"),
    when_column("created_at"),
    uuid_column("merged_into", nullable=True),  # the surviving contact; null while this one lives
    sa.Index("ix_contacts_tenant_contact_id", "tenant", "contact_id"),
    sa.Index("ix_contacts_merged_into", "merged_into", postgresql_where=sa.text("merged_into is not null")),
)

# The fields that matching compares, one row per distinct appearance of a contact.
match_records = table(
    "match_records",
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
    uuid_column("contact_id", index=True),
    text_column("email_key", personal=True, nullable=True),
    text_column("phone_key", personal=True, nullable=True),
    text_column("first_name_key", personal=True, nullable=True),
    text_column("last_name_key", personal=True, nullable=True),
    text_column("company_key", personal=True, nullable=True),
    sa.Column("date_of_birth", sa.Date, nullable=True, info={"personal": True}),
    text_column("address_key", personal=True, nullable=True),
    text_column("city_key", personal=True, nullable=True),
    text_column("postcode_key", personal=True, nullable=True),
    json_column("flags"),
    sa.Index("ix_match_records_email_key", "email_key", postgresql_where=sa.text("email_key is not null")),
)

# Blocking keys: records that share one are compared. The hash is of "<kind>:<value>".
match_keys = table(
    "match_keys",
    text_column("tenant", primary_key=True),
    sa.Column("key_hash", sa.BigInteger, primary_key=True, info={"personal": True}),
    uuid_column("lead_id", primary_key=True),
    text_column("kind"),
    sa.Index("ix_match_keys_lead_id", "lead_id"),
)

# How common a value is, for term-frequency adjustments.
term_frequencies = table(
    "term_frequencies",
    text_column("tenant", primary_key=True),
    text_column("field", primary_key=True),
    text_column("term", primary_key=True, personal=True),
    int_column("occurrences"),
)

identity_sizes = table(
    "identity_sizes",
    text_column("tenant", primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("contacts", sa.BigInteger, nullable=False, server_default="0"),
)

merge_log = table(
    "merge_log",
    uuid_column("merge_id", primary_key=True),
    tenant_column(),
    text_column("kind"),  # join: a lead into a contact; merge: a contact into a contact
    uuid_column("contact_id", index=True),  # the survivor
    uuid_column("other_contact_id", nullable=True, index=True),  # the contact that was merged away
    json_column("lead_ids"),  # the leads that moved, with their revision: the full inverse
    text_column("actor"),  # rule:<name>, model:<version>, person:<name>
    sa.Column("match_weight", sa.Double, nullable=True),
    json_column("evidence"),  # weights per comparison; no values
    *stamp_columns(),
    when_column("merged_at"),
)

match_reviews = table(
    "match_reviews",
    uuid_column("review_id", primary_key=True),
    tenant_column(),
    uuid_column("lead_id"),
    uuid_column("other_lead_id", index=True),
    sa.Column("match_weight", sa.Double, nullable=False),
    json_column("evidence"),
    text_column("state"),  # open, accepted, rejected
    *stamp_columns(),
    when_column("opened_at"),
    when_column("decided_at", nullable=True),
    text_column("decided_by", nullable=True),
    sa.UniqueConstraint("lead_id", "other_lead_id"),
)
