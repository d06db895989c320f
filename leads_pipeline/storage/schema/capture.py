"""The way in: keys, the buffer, what is counted and remembered of it, imports, sources."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from leads_pipeline.storage.schema.base import (
    count_column,
    int_column,
    json_column,
    table,
    tenant_column,
    text_column,
    uuid_column,
    when_column,
)

api_keys = table(
    "api_keys",
    text_column("key_id", primary_key=True),  # the public prefix of the key
    tenant_column(),
    text_column("scope", server_default="post"),  # post: leads of its source; lookup; outcomes
    text_column("source", nullable=True),  # of scope post
    text_column("key_sha256"),
    when_column("created_at"),
    when_column("revoked_at", nullable=True),
)

ingest_keys = table(
    "ingest_keys",
    text_column("tenant", primary_key=True),
    text_column("source", primary_key=True),
    sa.Column("key_sha256", sa.LargeBinary, primary_key=True),
    uuid_column("lead_id"),
    sa.Column("body_sha256", sa.LargeBinary, nullable=False),
    when_column("received_at", index=True),
)

# One row per group commit, tenant, source and lane, written with the buffer rows: the independent count of what was
# captured.
capture_batches = table(
    "capture_batches",
    uuid_column("batch_id", primary_key=True),
    text_column("tenant", primary_key=True),
    text_column("source", primary_key=True),
    text_column("lane", primary_key=True),
    int_column("captured"),
    # {day of the lead's id (UTC): leads}, empty where all are of the day of committed_at: around midnight, and where a
    # clock was set, they are not. So a day's count is exact. Null: from before it was counted.
    json_column("captured_by_day", nullable=True, server_default="{}"),
    int_column("duplicates", server_default="0"),  # re-posts answered with the first lead's id; not captured again
    when_column("committed_at", index=True),
    # The few commits that count for other days than their own are found for any of these.
    sa.Index(
        "ix_capture_batches_other_days", "committed_at", postgresql_where=sa.text("captured_by_day <> '{}'::jsonb")
    ),
)

buffer = table(
    "buffer",
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
    text_column("source"),
    text_column("lane"),
    when_column("received_at"),
    json_column("payload", personal=True),  # the fields as they were sent
    json_column("consent", personal=True),  # a list of consent statements as they were sent
    json_column("context", personal=True),  # ip, user_agent, idempotency key, content type: how the lead came
    sa.Index("ix_buffer_tenant_lane_lead_id", "tenant", "lane", "lead_id"),
)

# What left a buffer in Redis: one row per chunk, source and lane, counted with the raw leads' own commit. Added up, and
# with what waits there, it must be what the counter of its door says. Rows, because two workers would wait for a sum.
redis_moves = table(
    "redis_moves",
    uuid_column("batch_id", primary_key=True),
    text_column("tenant", primary_key=True),
    text_column("source", primary_key=True),
    text_column("lane", primary_key=True),
    count_column("moved"),
    json_column("moved_by_day", nullable=True),  # {day of the lead's id: leads}; null: not counted by day yet
    count_column("duplicates"),  # known from before the buffer was in Redis; no second lead was made
    count_column("captured"),  # the counter of its door when the chunk was taken
)

# Leads that a chunk has settled and that Redis may not have let go of yet: gone a moment later.
redis_unacknowledged = table(
    "redis_unacknowledged",
    uuid_column("note_id", primary_key=True),
    tenant_column(),
    sa.Column("lead_ids", ARRAY(UUID(as_uuid=True)), nullable=False),
)

# Every buffer in Redis gives itself a random name. A second name here means that the first one was emptied or replaced.
redis_incarnations = table(
    "redis_incarnations",
    text_column("incarnation", primary_key=True),
    when_column("first_seen_at"),
)

# How far an import came: one row a file and source, written with the rows of each commit.
import_progress = table(
    "import_progress",
    text_column("file_sha256", primary_key=True),  # of the file and of the way in which it is read
    text_column("tenant", primary_key=True),
    text_column("source", primary_key=True),
    count_column("position"),  # rows that were read and settled, from the beginning of the file
    count_column("accepted"),
    count_column("duplicates"),
    count_column("rejected"),
    count_column("rejected_bytes"),  # how long the file of rejected rows was then
    when_column("started_at"),
    when_column("updated_at"),
    when_column("finished_at", nullable=True),
)

# Leads of which the vendor sent only the id: what is to be asked for before they can be validated.
lead_fetches = table(
    "lead_fetches",
    uuid_column("lead_id", primary_key=True),
    tenant_column(),
    text_column("source"),
    text_column("lane"),
    text_column("reference", personal=True),  # the vendor's id of the lead
    int_column("attempts", server_default="0"),
    text_column("last_verdict", nullable=True),
    when_column("since"),
    when_column("due_at"),
    sa.Index("ix_lead_fetches_tenant_due_at", "tenant", "due_at"),
)

# Which fields each source sends, as far as its leads were read: what is new and what has vanished is schema drift.
source_fields = table(
    "source_fields",
    text_column("tenant", primary_key=True),
    text_column("source", primary_key=True),
    text_column("field", primary_key=True),
    text_column("used_for", nullable=True),  # the canonical field, consent or lane; null: kept as sent
    count_column("seen"),
    count_column("posts_by_then"),  # posts of the source, when the field was last seen
    when_column("first_seen_at"),
    when_column("last_seen_at"),
)
