"""All tables, in SQLAlchemy Core.

Every table of lead data carries ``tenant``. Every column says in ``info`` whether it holds personal data
(``personal=True``), and only tables keyed by a lead or a contact may. Change a table here and in a migration; a test
compares the two. Keep out: queries, which live beside the family of tables that they are about.

Rooms are append-only; what waits at a room's door stands in ``pending``. A lead's state is derived from these rows by
``storage.conservation``.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.schema import SchemaItem

SCHEMA = "leads"  # set as search_path by storage.database; Dagster's own tables live in "public"

# Partitioned by ranges of the UUIDv7 lead id, one partition a month: retention drops partitions.
PARTITIONED = ("raw_leads", "consent_events", "validated_leads", "rejected_leads")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _uuid(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, UUID(as_uuid=True), **{"nullable": False, **kw})


def _text(name: str, *, personal: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, info={"personal": personal}, **{"nullable": False, **kw})


def _json(name: str, *, personal: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, JSONB, info={"personal": personal}, **{"nullable": False, **kw})


def _when(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), **{"nullable": False, **kw})


def _int(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, **{"nullable": False, **kw})


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _tenant() -> sa.Column[Any]:
    return _text("tenant")


def _stamp() -> tuple[sa.Column[Any], ...]:
    """Who wrote the row: the chunk and the run, worker or command."""
    return _uuid("batch_id"), _text("runner_id")


def _table(name: str, *items: SchemaItem, **kw: Any) -> sa.Table:
    if name in PARTITIONED:
        kw["postgresql_partition_by"] = "RANGE (lead_id)"
    return sa.Table(name, metadata, *items, **kw)


# --- capture ---------------------------------------------------------------------------------------------------------

api_keys = _table(
    "api_keys",
    _text("key_id", primary_key=True),  # the public prefix of the key
    _tenant(),
    _text("source"),
    _text("key_sha256"),
    _when("created_at"),
    _when("revoked_at", nullable=True),
)

ingest_keys = _table(
    "ingest_keys",
    _text("tenant", primary_key=True),
    _text("source", primary_key=True),
    sa.Column("key_sha256", sa.LargeBinary, primary_key=True),
    _uuid("lead_id"),
    sa.Column("body_sha256", sa.LargeBinary, nullable=False),
    _when("received_at", index=True),
)

# One row per group commit, tenant, source and lane, written with the buffer rows: the independent count of what was
# captured.
capture_batches = _table(
    "capture_batches",
    _uuid("batch_id", primary_key=True),
    _text("tenant", primary_key=True),
    _text("source", primary_key=True),
    _text("lane", primary_key=True),
    _int("captured"),
    _int("duplicates", server_default="0"),  # re-posts answered with the first lead's id; not captured again
    _when("committed_at", index=True),
)

buffer = _table(
    "buffer",
    _uuid("lead_id", primary_key=True),
    _tenant(),
    _text("source"),
    _text("lane"),
    _when("received_at"),
    _json("payload", personal=True),  # the fields as they were sent
    _json("consent", personal=True),  # a list of consent statements as they were sent
    _json("context", personal=True),  # ip, user_agent, idempotency key, content type: how the lead came
    sa.Index("ix_buffer_tenant_lane_lead_id", "tenant", "lane", "lead_id"),
)

# What left a buffer in Redis: one row per chunk, source and lane, counted with the raw leads' own commit. Added up, and
# with what waits there, it must be what the counter of its door says. Rows, because two workers would wait for a sum.
redis_moves = _table(
    "redis_moves",
    _uuid("batch_id", primary_key=True),
    _text("tenant", primary_key=True),
    _text("source", primary_key=True),
    _text("lane", primary_key=True),
    _count("moved"),
    _count("duplicates"),  # known from before the buffer was in Redis; no second lead was made
    _count("captured"),  # the counter of its door when the chunk was taken
)

# Leads that a chunk has settled and that Redis may not have let go of yet: gone a moment later.
redis_unacknowledged = _table(
    "redis_unacknowledged",
    _uuid("note_id", primary_key=True),
    _tenant(),
    sa.Column("lead_ids", ARRAY(UUID(as_uuid=True)), nullable=False),
)

# Every buffer in Redis gives itself a random name. A second name here means that the first one was emptied or replaced.
redis_incarnations = _table(
    "redis_incarnations",
    _text("incarnation", primary_key=True),
    _when("first_seen_at"),
)

# How far an import came: one row a file and source, written with the rows of each commit.
import_progress = _table(
    "import_progress",
    _text("file_sha256", primary_key=True),  # of the file and of the way in which it is read
    _text("tenant", primary_key=True),
    _text("source", primary_key=True),
    _count("position"),  # rows that were read and settled, from the beginning of the file
    _count("accepted"),
    _count("duplicates"),
    _count("rejected"),
    _count("rejected_bytes"),  # how long the file of rejected rows was then
    _when("started_at"),
    _when("updated_at"),
    _when("finished_at", nullable=True),
)

# Leads of which the vendor sent only the id: what is to be asked for before they can be validated.
lead_fetches = _table(
    "lead_fetches",
    _uuid("lead_id", primary_key=True),
    _tenant(),
    _text("source"),
    _text("lane"),
    _text("reference", personal=True),  # the vendor's id of the lead
    _int("attempts", server_default="0"),
    _text("last_verdict", nullable=True),
    _when("since"),
    _when("due_at"),
    sa.Index("ix_lead_fetches_tenant_due_at", "tenant", "due_at"),
)

# Which fields each source sends, as far as its leads were read: what is new and what has vanished is schema drift.
source_fields = _table(
    "source_fields",
    _text("tenant", primary_key=True),
    _text("source", primary_key=True),
    _text("field", primary_key=True),
    _text("used_for", nullable=True),  # the canonical field, consent or lane; null: kept as sent
    _count("seen"),
    _count("posts_by_then"),  # posts of the source, when the field was last seen
    _when("first_seen_at"),
    _when("last_seen_at"),
)

# --- the rooms -------------------------------------------------------------------------------------------------------

# What waits at the door of a stage. Written with the row that makes it wait, deleted with the row that serves it.
pending = _table(
    "pending",
    _text("stage", primary_key=True),
    _uuid("subject_id", primary_key=True),  # a lead id; at the door of golden_contacts a contact id
    _tenant(),
    _text("lane"),
    _int("revision", server_default="1"),
    _when("since"),  # when it came to this door
    _when("due_at"),  # not to be taken before
    sa.Index("ix_pending_stage_tenant_lane_due_at", "stage", "tenant", "lane", "due_at"),
)

raw_leads = _table(
    "raw_leads",
    _uuid("lead_id", primary_key=True),
    _tenant(),
    _text("source"),
    _text("capture_lane"),
    _when("received_at"),
    _json("payload", personal=True),
    _json("context", personal=True),
    *_stamp(),
    _when("moved_at"),
    sa.Index("ix_raw_leads_tenant_received_at", "tenant", "received_at"),
)

consent_events = _table(
    "consent_events",
    _uuid("lead_id", primary_key=True),
    _int("position", primary_key=True),  # 1, 2 … within the lead
    _tenant(),
    sa.Column("granted", sa.Boolean, nullable=False),
    _text("purpose"),
    _text("channel"),
    _text("legal_basis", nullable=True),
    _text("text_version", nullable=True),
    _text("ip", personal=True, nullable=True),
    _text("user_agent", personal=True, nullable=True),
    _when("occurred_at"),
    *_stamp(),
)

validated_leads = _table(
    "validated_leads",
    _uuid("lead_id", primary_key=True),
    _int("revision", primary_key=True),
    _tenant(),
    _text("source"),
    _text("capture_lane"),
    _text("sync_lane"),
    _when("received_at"),
    # Each identifying field in three forms: as sent, as one would use it, as one compares it.
    _text("email_raw", personal=True, nullable=True),
    _text("email", personal=True, nullable=True),
    _text("email_key", personal=True, nullable=True),
    _text("phone_raw", personal=True, nullable=True),
    _text("phone", personal=True, nullable=True),  # E.164
    _text("phone_key", personal=True, nullable=True),
    _text("first_name", personal=True, nullable=True),
    _text("first_name_key", personal=True, nullable=True),
    _text("last_name", personal=True, nullable=True),
    _text("last_name_key", personal=True, nullable=True),
    _text("full_name", personal=True, nullable=True),
    _text("company", personal=True, nullable=True),
    _text("company_key", personal=True, nullable=True),
    _text("job_title", personal=True, nullable=True),
    sa.Column("date_of_birth", sa.Date, nullable=True, info={"personal": True}),
    _text("address", personal=True, nullable=True),
    _text("address_key", personal=True, nullable=True),
    _text("city", personal=True, nullable=True),
    _text("city_key", personal=True, nullable=True),
    _text("state", personal=True, nullable=True),
    _text("postcode", personal=True, nullable=True),
    _text("postcode_key", personal=True, nullable=True),
    _text("country", nullable=True),  # ISO 3166 alpha-2
    _text("external_id", personal=True, nullable=True),
    _text("message", personal=True, nullable=True),
    _json("attribution"),  # lead_source, campaign, utm_source, utm_medium, landing_page
    _json("flags"),  # names of what was noticed: role_mailbox, free_mailbox, email_typo_suspected …
    _text("rule_version"),
    *_stamp(),
    _when("validated_at", index=True),
)

rejected_leads = _table(
    "rejected_leads",
    _uuid("lead_id", primary_key=True),
    _int("revision", primary_key=True),
    _tenant(),
    _text("source"),
    _when("received_at"),
    _json("reasons"),  # [{rule, field, value_class, remedy}]: never the value
    _text("rule_version"),
    *_stamp(),
    _when("rejected_at", index=True),
)

verification_requests = _table(
    "verification_requests",
    _uuid("lead_id", primary_key=True),
    _int("revision", primary_key=True),
    _text("kind", primary_key=True),  # mx, mailbox, phone_line …
    _tenant(),
    _text("tier"),
    _when("requested_at"),
    _when("patience_until"),  # the lead goes on unverified after this
    _when("sent_at", nullable=True),
    _text("provider", nullable=True),
    *_stamp(),
)

verifications = _table(
    "verifications",
    _uuid("lead_id", primary_key=True),
    _int("revision", primary_key=True),
    _text("kind", primary_key=True),
    _tenant(),
    _text("provider"),
    _text("verdict"),  # valid, invalid, risky, unknown
    _json("reasons"),
    _int("cost_micros", server_default="0"),
    *_stamp(),
    _when("verified_at"),
)

# Which contact a lead belongs to now. How it came there stands in merge_log.
deduped_leads = _table(
    "deduped_leads",
    _uuid("lead_id", primary_key=True),
    _int("revision"),
    _tenant(),
    _text("sync_lane"),
    _uuid("contact_id", index=True),
    # The first golden version that includes this lead; null until golden_contacts has taken it in.
    _int("golden_version", nullable=True),
    _text("decision"),  # new, rule, model
    *_stamp(),
    _when("deduped_at"),
)

# --- identity --------------------------------------------------------------------------------------------------------

contacts = _table(
    "contacts",
    _uuid("contact_id", primary_key=True),
    _tenant(),
    _uuid("founding_lead_id"),
    _when("created_at"),
    _uuid("merged_into", nullable=True),  # the surviving contact; null while this one lives
    sa.Index("ix_contacts_tenant_contact_id", "tenant", "contact_id"),
    sa.Index("ix_contacts_merged_into", "merged_into", postgresql_where=sa.text("merged_into is not null")),
)

# The fields that matching compares, one row per distinct appearance of a contact.
match_records = _table(
    "match_records",
    _uuid("lead_id", primary_key=True),
    _tenant(),
    _uuid("contact_id", index=True),
    _text("email_key", personal=True, nullable=True),
    _text("phone_key", personal=True, nullable=True),
    _text("first_name_key", personal=True, nullable=True),
    _text("last_name_key", personal=True, nullable=True),
    _text("company_key", personal=True, nullable=True),
    sa.Column("date_of_birth", sa.Date, nullable=True, info={"personal": True}),
    _text("address_key", personal=True, nullable=True),
    _text("city_key", personal=True, nullable=True),
    _text("postcode_key", personal=True, nullable=True),
    _json("flags"),
    sa.Index("ix_match_records_email_key", "email_key", postgresql_where=sa.text("email_key is not null")),
)

# Blocking keys: records that share one are compared. The hash is of "<kind>:<value>".
match_keys = _table(
    "match_keys",
    _text("tenant", primary_key=True),
    sa.Column("key_hash", sa.BigInteger, primary_key=True, info={"personal": True}),
    _uuid("lead_id", primary_key=True),
    _text("kind"),
    sa.Index("ix_match_keys_lead_id", "lead_id"),
)

# How common a value is, for term-frequency adjustments.
term_frequencies = _table(
    "term_frequencies",
    _text("tenant", primary_key=True),
    _text("field", primary_key=True),
    _text("term", primary_key=True, personal=True),
    _int("occurrences"),
)

identity_sizes = _table(
    "identity_sizes",
    _text("tenant", primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("contacts", sa.BigInteger, nullable=False, server_default="0"),
)

merge_log = _table(
    "merge_log",
    _uuid("merge_id", primary_key=True),
    _tenant(),
    _text("kind"),  # join: a lead into a contact; merge: a contact into a contact
    _uuid("contact_id", index=True),  # the survivor
    _uuid("other_contact_id", nullable=True, index=True),  # the contact that was merged away
    _json("lead_ids"),  # the leads that moved, with their revision: the full inverse
    _text("actor"),  # rule:<name>, model:<version>, person:<name>
    sa.Column("match_weight", sa.Double, nullable=True),
    _json("evidence"),  # weights per comparison; no values
    *_stamp(),
    _when("merged_at"),
)

match_reviews = _table(
    "match_reviews",
    _uuid("review_id", primary_key=True),
    _tenant(),
    _uuid("lead_id"),
    _uuid("other_lead_id", index=True),
    sa.Column("match_weight", sa.Double, nullable=False),
    _json("evidence"),
    _text("state"),  # open, accepted, rejected
    *_stamp(),
    _when("opened_at"),
    _when("decided_at", nullable=True),
    _text("decided_by", nullable=True),
    sa.UniqueConstraint("lead_id", "other_lead_id"),
)

# --- golden contacts -------------------------------------------------------------------------------------------------

golden_contacts = _table(
    "golden_contacts",
    _uuid("contact_id", primary_key=True),
    _tenant(),
    _int("version"),
    _text("email", personal=True, nullable=True),
    _text("email_key", personal=True, nullable=True),
    _text("phone", personal=True, nullable=True),
    _text("first_name", personal=True, nullable=True),
    _text("last_name", personal=True, nullable=True),
    _text("company", personal=True, nullable=True),
    _text("job_title", personal=True, nullable=True),
    sa.Column("date_of_birth", sa.Date, nullable=True, info={"personal": True}),
    _text("address", personal=True, nullable=True),
    _text("city", personal=True, nullable=True),
    _text("state", personal=True, nullable=True),
    _text("postcode", personal=True, nullable=True),
    _text("country", nullable=True),
    _json("attribution"),  # first and last touch
    _json("consent"),  # folded: {purpose: {channel: {granted, as_of, lead_id}}}
    _json("provenance"),  # {field: {lead_id, received_at, rule}}
    _int("lead_count"),
    _text("first_source"),
    _text("last_source"),
    _when("first_seen_at"),
    _when("last_seen_at"),
    *_stamp(),
    _when("updated_at"),
    sa.Index(
        "uq_golden_contacts_tenant_email_key",
        "tenant",
        "email_key",
        unique=True,
        postgresql_where=sa.text("email_key is not null"),
    ),
)

# --- delivery --------------------------------------------------------------------------------------------------------

# Desired state: one row per contact and destination. Sending it twice is harmless.
outbox = _table(
    "outbox",
    sa.Column("outbox_id", sa.BigInteger, sa.Identity(), primary_key=True),
    _tenant(),
    _uuid("contact_id"),
    _text("destination"),
    _text("operation"),  # upsert, archive
    _text("state"),
    _text("lane"),
    _int("wanted_version"),
    _int("delivered_version", nullable=True),
    _when("waiting_since"),  # since when the wanted version waits; for ages and fairness
    _when("due_at"),
    _int("attempts", server_default="0"),  # of the wanted version
    _text("claimed_by", nullable=True),
    _when("claimed_until", nullable=True),
    _text("last_verdict", nullable=True),
    _text("crm_record_id", nullable=True),
    # Names of the properties that the CRM holds from us, so that one which we no longer know can be cleared there.
    _json("delivered_fields", nullable=True),
    _when("delivered_at", nullable=True),
    _when("updated_at"),
    sa.UniqueConstraint("contact_id", "destination"),
    sa.Index(
        "ix_outbox_due",
        "destination",
        "tenant",
        "lane",
        "due_at",
        postgresql_where=sa.text("state in ('waiting', 'in_flight')"),
    ),
    sa.Index("ix_outbox_tenant_state", "tenant", "state"),
)

# One row per request to a CRM, written before it is sent and settled with its answer.
crm_sync_batches = _table(
    "crm_sync_batches",
    _uuid("batch_id", primary_key=True),
    _tenant(),
    _text("destination"),
    _text("account"),
    _text("endpoint"),
    _text("operation"),
    _int("records"),
    _int("delivered", server_default="0"),
    _int("retried", server_default="0"),
    _int("dead", server_default="0"),
    _int("http_status", nullable=True),
    _text("correlation_id", nullable=True),
    _text("runner_id"),
    _when("sent_at", index=True),
    _when("answered_at", nullable=True),
)

sync_attempts = _table(
    "sync_attempts",
    _uuid("batch_id", primary_key=True),
    sa.Column("outbox_id", sa.BigInteger, primary_key=True),
    _tenant(),
    _uuid("contact_id", index=True),
    _text("destination"),
    _int("version"),
    _int("attempt"),
    _text("verdict", nullable=True),  # delivered, or the class of the refusal; null while unanswered
    _text("code", nullable=True),  # the vendor's code, never its message
    _when("sent_at"),
    _when("settled_at", nullable=True),
)

dead_letters = _table(
    "dead_letters",
    _uuid("dead_letter_id", primary_key=True),
    _tenant(),
    _uuid("contact_id", index=True),
    _text("destination"),
    sa.Column("outbox_id", sa.BigInteger, nullable=False),
    _int("version"),
    _text("reason"),  # the class of the refusal
    _text("code", nullable=True),
    _json("payload", personal=True),  # what was sent
    _text("explanation", personal=True, nullable=True),  # the vendor's words; they may quote the value
    _int("attempts"),
    _when("died_at"),
    _when("resolved_at", nullable=True),
    _text("resolution", nullable=True),
    sa.Index("ix_dead_letters_open", "outbox_id", postgresql_where=sa.text("resolved_at is null")),
)

# What a limiter remembers, one row per account and class of endpoint; the row's lock is the queue for all processes.
rate_limits = _table(
    "rate_limits",
    _text("account", primary_key=True),
    _text("endpoint_class", primary_key=True),
    _json("grants"),
    _json("daily"),
    _when("paused_until", nullable=True),
    _when("updated_at"),
)

# --- what an operator decided ----------------------------------------------------------------------------------------

# A lead that was taken out of the flow for good; outlives the lead's own rows.
lead_dispositions = _table(
    "lead_dispositions",
    _uuid("lead_id", primary_key=True),
    _tenant(),
    _text("state"),  # discarded, erased
    _text("actor"),
    _text("reason"),
    _when("decided_at"),
)
