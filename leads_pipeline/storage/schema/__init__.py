"""All tables, in SQLAlchemy Core.

Every table of lead data carries ``tenant``. Every column says in ``info`` whether it holds personal data
(``personal=True``), and only tables keyed by a lead or a contact may. Change a table here and in a migration; a test
compares the two. Keep out: queries, which live beside the family of tables that they are about.

Rooms are append-only; what waits at a room's door stands in ``pending``. A lead's state is derived from these rows by
``storage.conservation``.
"""

from leads_pipeline.storage.schema.base import PARTITIONED, SCHEMA, metadata
from leads_pipeline.storage.schema.capture import (
    api_keys,
    buffer,
    capture_batches,
    import_progress,
    ingest_keys,
    lead_fetches,
    redis_incarnations,
    redis_moves,
    redis_unacknowledged,
    source_fields,
)
from leads_pipeline.storage.schema.delivery import (
    crm_sync_batches,
    dead_letters,
    golden_contacts,
    lead_dispositions,
    outbox,
    rate_limits,
    sync_attempts,
)
from leads_pipeline.storage.schema.destinations import (
    access_tokens,
    bulk_jobs,
    dead_letter_actions,
    destination_doors,
    destination_schemas,
    mapping_overrides,
    suppressions,
)
from leads_pipeline.storage.schema.identity import (
    contacts,
    identity_link_leads,
    identity_links,
    identity_sizes,
    match_keys,
    match_model_activations,
    match_models,
    match_records,
    match_reviews,
    merge_log,
    term_frequencies,
)
from leads_pipeline.storage.schema.rooms import (
    consent_events,
    deduped_leads,
    lead_corrections,
    pending,
    quality_holds,
    raw_leads,
    rejected_leads,
    validated_leads,
)
from leads_pipeline.storage.schema.verification import (
    circuit_breakers,
    mx_cache,
    velocity_counts,
    verdict_cache,
    verification_calls,
    verification_requests,
    verification_spend,
    verification_switches,
    verifications,
)

__all__ = [
    "PARTITIONED",
    "SCHEMA",
    "access_tokens",
    "api_keys",
    "buffer",
    "bulk_jobs",
    "capture_batches",
    "circuit_breakers",
    "consent_events",
    "contacts",
    "crm_sync_batches",
    "dead_letter_actions",
    "dead_letters",
    "deduped_leads",
    "destination_doors",
    "destination_schemas",
    "golden_contacts",
    "identity_link_leads",
    "identity_links",
    "identity_sizes",
    "import_progress",
    "ingest_keys",
    "lead_corrections",
    "lead_dispositions",
    "lead_fetches",
    "mapping_overrides",
    "match_keys",
    "match_model_activations",
    "match_models",
    "match_records",
    "match_reviews",
    "merge_log",
    "metadata",
    "mx_cache",
    "outbox",
    "pending",
    "quality_holds",
    "rate_limits",
    "raw_leads",
    "redis_incarnations",
    "redis_moves",
    "redis_unacknowledged",
    "rejected_leads",
    "source_fields",
    "suppressions",
    "sync_attempts",
    "term_frequencies",
    "validated_leads",
    "velocity_counts",
    "verdict_cache",
    "verification_calls",
    "verification_requests",
    "verification_spend",
    "verification_switches",
    "verifications",
]
