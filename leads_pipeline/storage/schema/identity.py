"""Who is whom: contacts, keys and fields to match by, merges, reviews."""

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
    text_column("state_key", personal=True, nullable=True),
    text_column("job_title_key", personal=True, nullable=True),
    text_column("external_id_key", personal=True, nullable=True),  # "<source>:<the sender's own id>"
    text_column("phone_kind", nullable=True),  # mobile, other
    sa.Column("email_verified", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("role_mailbox", sa.Boolean, nullable=False, server_default=sa.false()),
    json_column("flags"),
    sa.Column("key_hashes", ARRAY(sa.BigInteger), nullable=False, server_default="{}", info={"personal": True}),
    # By the value alone where no tenant is given; with the tenant, so that what others hold under it is not read.
    sa.Index("ix_match_records_email_key", "email_key", "tenant", postgresql_where=sa.text("email_key is not null")),
    sa.Index("ix_match_records_phone_key", "phone_key", "tenant", postgresql_where=sa.text("phone_key is not null")),
)

# Blocking keys: records that share one are compared. The hash is of tenant, kind and value, so the primary key alone
# answers a look-up. Nothing else is indexed: a record says itself under which keys it stands (key_hashes).
match_keys = table(
    "match_keys",
    sa.Column("key_hash", sa.BigInteger, primary_key=True, autoincrement=False, info={"personal": True}),
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
)

# How common a value is, for term-frequency adjustments. The hash is of tenant, field and value. Counted up with every
# chunk: room on the page keeps a new version of a row next to the old one, and no index entry is written.
term_frequencies = table(
    "term_frequencies",
    sa.Column("term_hash", sa.BigInteger, primary_key=True, autoincrement=False, info={"personal": True}),
    int_column("occurrences"),
    tenant_column(),
    postgresql_with={"fillfactor": 80},
)

identity_sizes = table(
    "identity_sizes",
    text_column("tenant", primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("contacts", sa.BigInteger, nullable=False, server_default="0"),
    # By which version of keys (domain.match_keys.INDEX_VERSION) all of the tenant's records can be found.
    int_column("index_version", server_default="0"),
    # While records are made anew: by which version, and the last lead whose record is.
    int_column("reindexing_version", nullable=True),
    uuid_column("reindexed_through", nullable=True),
)

merge_log = table(
    "merge_log",
    uuid_column("merge_id", primary_key=True),
    # In the order in which they were decided, which clocks do not tell: all of a chunk bear one instant.
    sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False),
    tenant_column(),
    text_column(
        "kind"
    ),  # join: a lead into a contact; merge: a contact into a contact; split, move, undo, link, unlink
    uuid_column("contact_id", index=True),  # the survivor
    uuid_column("other_contact_id", nullable=True, index=True),  # merged away, or split off
    json_column("lead_ids"),  # the leads that moved, with their revision
    # What brings back the state before: {"leads": [{lead_id, revision, contact_id}], "contacts": {id: merged_into}}
    json_column("inverse", server_default="{}"),
    uuid_column("undoes", nullable=True),  # the decision that this one takes back
    text_column("actor"),  # rule:<name>, model:<version>, person:<name>
    text_column("reason", nullable=True),  # a person's words; no personal data
    sa.Column("match_weight", sa.Double, nullable=True),
    json_column("evidence"),  # weights per comparison; no values
    # The two leads that were weighed, and the cut-offs that their weight was held against.
    uuid_column("compared_lead_id", nullable=True),
    uuid_column("compared_with_lead_id", nullable=True),
    sa.Column("review_weight", sa.Double, nullable=True),
    sa.Column("merge_weight", sa.Double, nullable=True),
    *stamp_columns(),
    when_column("merged_at"),
    # A decision is taken back once.
    sa.Index("uq_merge_log_undoes", "undoes", unique=True, postgresql_where=sa.text("undoes is not null")),
)

match_reviews = table(
    "match_reviews",
    uuid_column("review_id", primary_key=True),
    tenant_column(),
    uuid_column("lead_id"),
    uuid_column("other_lead_id", index=True),
    sa.Column("match_weight", sa.Double, nullable=False),
    json_column("evidence"),
    sa.Column("review_weight", sa.Double, nullable=True),  # the cut-offs of that day
    sa.Column("merge_weight", sa.Double, nullable=True),
    text_column("cause", server_default="grey"),  # grey: between the cut-offs; refused: votes or size spoke against it
    text_column("actor", server_default=""),  # what scored it: model:<version>, rule:<name>
    text_column("state"),  # open; accepted, rejected: decided by a person; closed: came together or went by itself
    *stamp_columns(),
    when_column("opened_at"),
    when_column("decided_at", nullable=True),
    text_column("decided_by", nullable=True),
    text_column("reason", nullable=True),  # a person's words; no personal data
    sa.UniqueConstraint("lead_id", "other_lead_id"),
    sa.Index("ix_match_reviews_open", "tenant", "match_weight", postgresql_where=sa.text("state = 'open'")),
)

# What was decided for good, by a person or by an undo: between leads, as those never change. No contact holds a lead of
# side 0 together with one of side 1 (cannot), or all of both are one contact's (must).
identity_links = table(
    "identity_links",
    uuid_column("link_id", primary_key=True),
    tenant_column(),
    text_column("kind"),  # must, cannot
    text_column("actor"),  # person:<name>
    text_column("reason", nullable=True),  # a person's words; no personal data
    uuid_column("merge_id", nullable=True),  # the undo or split in merge_log that made it
    when_column("made_at"),
    when_column("withdrawn_at", nullable=True),
    text_column("withdrawn_by", nullable=True),
    sa.Index("ix_identity_links_tenant", "tenant", postgresql_where=sa.text("withdrawn_at is null")),
)

identity_link_leads = table(
    "identity_link_leads",
    uuid_column("link_id", primary_key=True),
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
    int_column("side"),  # 0 or 1
    sa.Index("ix_identity_link_leads_lead_id", "lead_id"),
)

# Learned parameters of the matching model; the one that ships with the package is not here.
match_models = table(
    "match_models",
    text_column("tenant", primary_key=True),
    text_column("version", primary_key=True),
    json_column("parameters"),  # m, u, prior: shares, never values
    json_column("trained"),  # from how many records and labels, how, and what it was found to do
    text_column("actor"),
    when_column("trained_at"),
)

# The newest row of a tenant names its model; without one the shipped model serves. Nothing is changed or removed.
match_model_activations = table(
    "match_model_activations",
    sa.Column("activation_id", sa.BigInteger, sa.Identity(), primary_key=True),
    tenant_column(),
    text_column("version", nullable=True),  # null: the shipped one
    sa.Column("undoes", sa.BigInteger, nullable=True),  # the activation that a rollback takes back
    text_column("actor"),
    text_column("reason", nullable=True),
    when_column("activated_at"),
    sa.Index("ix_match_model_activations_tenant", "tenant", "activation_id"),
)
