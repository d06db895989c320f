"""Every column is classified, by hand, here as well as in the schema: a new one fails until somebody has decided."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from leads_pipeline.storage.schema import PARTITIONED, metadata

# Personal: whoever reads this column learns something about a person.
PERSONAL = {
    "buffer": "payload consent context",
    "raw_leads": "payload context",
    "lead_fetches": "reference",
    "consent_events": "ip user_agent",
    "validated_leads": (
        "email_raw email email_key phone_raw phone phone_key first_name first_name_key last_name last_name_key "
        "full_name company company_key job_title date_of_birth address address_key city city_key state postcode "
        "postcode_key external_id message"
    ),
    "match_records": (
        "email_key phone_key first_name_key last_name_key company_key date_of_birth address_key city_key postcode_key "
        "state_key job_title_key external_id_key key_hashes"
    ),
    "match_keys": "key_hash",
    "term_frequencies": "term_hash",
    "golden_contacts": (
        "email email_key awaited_email_key phone first_name last_name company job_title date_of_birth address city "
        "state postcode"
    ),
    "outbox": "snapshot",
    "bulk_jobs": "batch",
    "dead_letters": "payload explanation",
    "suppressions": "value_hash",
    "lead_corrections": "fields",
}

# Not personal, although the type could hold anything: names of ours, codes of vendors, hashes, numbers in JSON.
NOT_PERSONAL = {
    "api_keys": "key_id tenant scope source key_sha256",
    "ingest_keys": "tenant source key_sha256 body_sha256",
    "capture_batches": "tenant source lane captured_by_day",
    "redis_moves": "tenant source lane moved_by_day",
    "redis_unacknowledged": "tenant lead_ids",
    "redis_incarnations": "incarnation",
    "import_progress": "file_sha256 tenant source",
    "lead_fetches": "tenant source lane last_verdict",
    "source_fields": "tenant source field used_for",
    "buffer": "tenant source lane",
    "pending": "stage tenant lane",
    "raw_leads": "tenant source capture_lane runner_id",
    "consent_events": "tenant purpose channel legal_basis text_version runner_id",
    "validated_leads": (
        "tenant source capture_lane sync_lane country attribution flags rule_version runner_id email_suggestion "
        "phone_region phone_type phone_time_zone tier risk_factors"
    ),
    "rejected_leads": "tenant source reasons rule_version runner_id",
    "lead_corrections": "tenant action actor reason",
    "replays": "replay actor stage tenant",
    "quality_holds": "tenant source received_on rules runner_id resolution ended_by reason",
    "verification_requests": "kind tenant lane tier last_reason runner_id",
    "verifications": "kind tenant tier provider verdict reasons flags details runner_id",
    "verification_calls": "provider kind outcome poll_reference runner_id",
    "verification_spend": "provider day",
    "verdict_cache": "tenant kind provider verdict reasons flags details",
    "mx_cache": "verdict reasons flags mail_provider",
    "circuit_breakers": "name state reason",
    "verification_switches": "tier down_to actor reason ended_by",
    "velocity_counts": "tenant kind",
    "deduped_leads": "tenant sync_lane decision runner_id",
    "contacts": "tenant",
    "match_records": "tenant flags phone_kind",
    "match_keys": "tenant",
    "term_frequencies": "tenant",
    "identity_sizes": "tenant",
    "merge_log": "tenant kind lead_ids inverse actor reason evidence runner_id",
    "match_reviews": "tenant evidence cause actor state runner_id decided_by reason",
    "identity_links": "tenant kind actor reason withdrawn_by",
    "identity_link_leads": "tenant",
    "match_models": "tenant version parameters trained actor",
    "match_model_activations": "tenant version actor reason",
    "golden_contacts": (
        "tenant country attribution consent provenance first_source last_source runner_id email_verdict phone_verdict "
        "phone_line_type"
    ),
    "outbox": (
        "tenant destination operation state lane failures claimed_by last_verdict crm_record_id claims_record withheld "
        "suppressed_for former_records"
    ),
    "crm_sync_batches": "tenant destination account endpoint operation lane correlation_id finished_as runner_id",
    "sync_attempts": "tenant destination verdict code",
    "dead_letters": "tenant destination reason code resolution",
    "dead_letter_actions": "tenant action actor reason details",
    "rate_limits": "account endpoint_class grants daily in_flight foreign_use readings",
    "suppressions": "tenant kind destination reason actor ended_by",
    "destination_schemas": "destination schema faults",
    "refused_properties": "destination property code",
    "mapping_overrides": "destination property rule actor reason withdrawn_by",
    "destination_doors": "tenant destination",
    "access_tokens": "account credentials token fetches",
    "bulk_jobs": "destination crm_job_id step claimed_by",
    "lead_dispositions": "tenant state actor reason",
    "latency_measurements": "tenant stage destination counts",
    "latency_histograms": "tenant lane stage destination",
    "slo_verdicts": "slo tenant lane verdict severity burn_rates",
    "slo_history": "slo tenant lane verdict",
    "quality_gates": "tenant lane gate reason ruling ruled_by ruled_for",
    "gate_history": "gate tenant lane state ruled_by reason",
    "measure_history": "measure series",
    "policy_states": "policy target state",
    "policy_actions": ("policy target action tenant lane destination parameters cause runner_id ended_for ended_by"),
    "policy_pauses": "policy actor reason",
    "watch_looks": "kind name failure",
    "alerts": "alert_key source severity title facts playbook command tenant closed_for closed_by",
    "alert_notices": "kind channel state last_error",
    "outcomes": "tenant kind key_sha256 amount key_id",
}

# Ids, instants, counts, weights and yes or no: not free text, so they need no entry unless they are personal.
PLAIN_TYPES = (sa.Uuid, UUID, sa.TIMESTAMP, sa.Integer, sa.BigInteger, sa.Boolean, sa.Double)

# Not about one tenant's leads: an account's quota is shared by all tenants that use it, a buffer in Redis as well.
# What DNS says of a domain holds for everybody, a provider's account and a switch serve all tenants; so do a
# destination's fields, its token and its jobs.
WITHOUT_TENANT = {
    "rate_limits", "redis_incarnations", "mx_cache", "circuit_breakers", "verification_calls", "verification_spend",
    "verification_switches", "destination_schemas", "mapping_overrides", "refused_properties", "access_tokens",
    "bulk_jobs", "measure_history", "policy_states", "policy_pauses", "alert_notices",
    "watch_looks",
}  # fmt: skip

# One request may carry contacts of several tenants; sync_attempts has the tenant of each. What a rule does, people are
# told, or is replayed may be about all tenants.
OF_SEVERAL_TENANTS = {"crm_sync_batches", "policy_actions", "alerts", "replays"}

# Personal columns that no lead or contact owns: how often a value occurs among all of a tenant's records, and who must
# not be sent, which is to outlive the contact. A job holds its contacts until it ends.
PERSONAL_WITHOUT_OWNER = {"term_frequencies", "suppressions", "bulk_jobs"}


def _listed(lists: dict[str, str]) -> set[str]:
    return {f"{table}.{column}" for table, columns in lists.items() for column in columns.split()}


def _columns() -> list[sa.Column[object]]:
    return [column for table in metadata.tables.values() for column in table.columns]


def test_the_personal_columns_are_the_reviewed_ones() -> None:
    flagged = {str(column) for column in _columns() if column.info.get("personal")}
    assert flagged == _listed(PERSONAL)


def test_every_other_column_that_could_hold_personal_data_is_reviewed_as_not_personal() -> None:
    free = {
        str(column)
        for column in _columns()
        if not column.info.get("personal") and not isinstance(column.type, PLAIN_TYPES)
    }
    assert free == _listed(NOT_PERSONAL)


def test_personal_data_lives_only_in_tables_keyed_by_a_lead_or_a_contact() -> None:
    for name in PERSONAL.keys() - PERSONAL_WITHOUT_OWNER:
        assert {"lead_id", "contact_id"} & set(metadata.tables[name].columns.keys()), name


def test_every_table_of_lead_data_carries_its_tenant() -> None:
    without = {name for name, table in metadata.tables.items() if "tenant" not in table.columns}
    assert without == WITHOUT_TENANT
    for name in metadata.tables.keys() - WITHOUT_TENANT - OF_SEVERAL_TENANTS:
        assert not metadata.tables[name].columns["tenant"].nullable, name


def test_every_instant_knows_its_time_zone() -> None:
    for column in _columns():
        if isinstance(column.type, sa.TIMESTAMP):
            assert column.type.timezone, str(column)


def test_partitioned_tables_are_keyed_by_lead_first() -> None:
    for name in PARTITIONED:
        assert metadata.tables[name].primary_key.columns.keys()[0] == "lead_id"
