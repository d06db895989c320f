"""From ``raw_leads`` to ``validated_leads`` or ``rejected_leads``.

Here a post becomes canonical fields, by its source's kind and mapping as leads.yaml has them now: a mapping that is
mended also serves leads that came before. Rows of files are canonical since they were imported.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Chunk, ChunkReport, Stage
from leads_pipeline.domain.validation import VALIDATOR_FAILED, Rejection, ValidLead, set_aside, validate
from leads_pipeline.sources.reading import PostReader
from leads_pipeline.storage.consent import MALFORMED_CONSENT_KEY
from leads_pipeline.storage.leads import RawLead, insert_rejected_leads, insert_validated_leads, read_raw_leads
from leads_pipeline.storage.pending import Waiting, claim, enqueue
from leads_pipeline.storage.source_fields import FieldCount, note_fields
from leads_pipeline.telemetry import get_logger

_log = get_logger(__name__)

Validator = Callable[..., ValidLead | Rejection]

# The home market of a tenant that the configuration no longer knows; its leads were accepted and must go on.
_UNCONFIGURED_COUNTRY = "US"


def validate_leads(
    engine: sa.Engine, chunk: Chunk, *, settings: Settings, validator: Validator = validate
) -> ChunkReport:
    """Judge one chunk of one tenant.

    One transaction: killed before the commit, the leads still wait at the door; run again, they get the same verdicts.
    """
    with engine.begin() as connection:
        claimed = claim(connection, Stage.VALIDATED_LEADS, chunk)
        if not claimed:
            return ChunkReport(taken=0, passed=0, counts={})
        raw_leads = read_raw_leads(
            connection, tenant=chunk.tenant, wanted={item.subject_id: item.revision for item in claimed}
        )
        countries = _home_countries(settings, chunk.tenant)
        posts = _Posts(settings, chunk.tenant)
        valid: list[tuple[RawLead, ValidLead]] = []
        rejected: list[tuple[RawLead, Rejection]] = []
        for raw in raw_leads:
            country = countries.get(raw.source, countries[""])
            verdict = _verdict(validator, posts, raw, country=country, today=raw.received_at.date())
            if isinstance(verdict, Rejection):
                rejected.append((raw, verdict))
            else:
                valid.append((raw, verdict))
        insert_validated_leads(connection, valid, chunk)
        insert_rejected_leads(connection, rejected, chunk)
        enqueue(
            connection,
            Stage.DEDUPED_LEADS,
            [Waiting(raw.lead_id, chunk.tenant, raw.capture_lane, raw.revision, chunk.now) for raw, _lead in valid],
        )
        note_fields(connection, posts.count, posts.uses(), chunk)
    return ChunkReport(taken=len(claimed), passed=len(valid), counts=_counts(len(claimed), valid, rejected))


class _Posts:
    """One chunk's posts on their way to canonical fields, and what fields they had."""

    def __init__(self, settings: Settings, tenant: str) -> None:
        self._settings = settings
        self._tenant = tenant
        self._readers: dict[str, PostReader] = {}
        self.count = FieldCount()

    def lead_of(self, raw: RawLead) -> Mapping[str, Any]:
        payload: dict[str, Any] = json.loads(raw.payload)
        if raw.imported:
            return payload
        payload.pop(MALFORMED_CONSENT_KEY, None)  # ours, no field of the source
        reader = self._readers.get(raw.source)
        if reader is None:
            reader = self._readers[raw.source] = PostReader(self._settings.source(self._tenant, raw.source))
        lead, names = reader.read(payload)
        self.count.add(raw.source, names)
        return lead

    def uses(self) -> dict[str, dict[str, str]]:
        return {source: reader.uses for source, reader in self._readers.items()}


def _verdict(validator: Validator, posts: _Posts, raw: RawLead, *, country: str, today: date) -> ValidLead | Rejection:
    """The validator's verdict; a lead on which it, or reading the payload, breaks is quarantined alone."""
    if raw.quarantine is not None:
        return set_aside(raw.quarantine)
    try:
        return validator(posts.lead_of(raw), country=country, today=today)
    except Exception as error:  # noqa: BLE001 - a fault in a rule must not hold up every other lead
        # Not the error's words: they may quote the lead.
        _log.error("validator_failed", lead_id=str(raw.lead_id), error_type=type(error).__name__)
        return VALIDATOR_FAILED


def _home_countries(settings: Settings, tenant: str) -> Mapping[str, str]:
    """The country to assume for each source of the tenant; under "" the tenant's own."""
    tenant_settings = settings.tenants.get(tenant)
    if tenant_settings is None:
        return {"": _UNCONFIGURED_COUNTRY}
    home = tenant_settings.country
    return {"": home, **{name: source.country or home for name, source in tenant_settings.sources.items()}}


def _counts(
    claimed: int, valid: list[tuple[RawLead, ValidLead]], rejected: list[tuple[RawLead, Rejection]]
) -> dict[str, int]:
    flags = Counter(flag for _raw, lead in valid for flag in lead.flags)
    counts = {"rejected": len(rejected), **{f"flag_{name}": flags[name] for name in sorted(flags)}}
    if missing := claimed - len(valid) - len(rejected):
        counts["raw_missing"] = missing
    return counts
