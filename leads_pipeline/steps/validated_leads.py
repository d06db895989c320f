"""From ``raw_leads`` to ``validated_leads`` or ``rejected_leads``.

Here a post becomes canonical fields, by its source's kind and mapping as leads.yaml has them now: a mapping that is
mended also serves leads that came before. A revision of a person's making is judged with their corrections. Valid leads
are weighed, and what must be looked up about them is asked for: see ``verification.intake``.
"""

from collections import Counter

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.latency import Station, seconds_since_capture
from leads_pipeline.domain.stage import Chunk, ChunkReport, Stage
from leads_pipeline.domain.validation import Rejection, ValidLead, validate
from leads_pipeline.sources.stored_leads import StoredLeads, Validator
from leads_pipeline.storage.latency import Measure, Took, measure_latency
from leads_pipeline.storage.leads import RawLead, insert_rejected_leads, insert_validated_leads, read_raw_leads
from leads_pipeline.storage.pending import Waiting, call_back, claim, enqueue
from leads_pipeline.storage.source_fields import note_fields
from leads_pipeline.storage.verification_requests import call_lookups_back
from leads_pipeline.verification.intake import take_in


def validate_leads(
    engine: sa.Engine,
    chunk: Chunk,
    *,
    settings: Settings,
    validator: Validator = validate,
    measure: Measure = measure_latency,
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
        stored = StoredLeads(settings, chunk.tenant)
        valid: list[tuple[RawLead, ValidLead]] = []
        rejected: list[tuple[RawLead, Rejection]] = []
        for raw in raw_leads:
            verdict = stored.judge(raw, validator)
            if isinstance(verdict, Rejection):
                rejected.append((raw, verdict))
            else:
                valid.append((raw, verdict))
        intake = take_in(connection, chunk, valid, settings=settings.verification, sent=stored.sent)
        weighed = [(raw, lead, item) for (raw, lead), item in zip(valid, intake.triages, strict=True)]
        lanes = {item.subject_id: item.lane for item in claimed}  # a replay comes in the batch lane
        insert_validated_leads(connection, weighed, chunk, lanes=lanes)
        insert_rejected_leads(connection, rejected, chunk)
        # An earlier revision may wait there still, for its look-ups or held back: it was to be sent, this one is not.
        given_up = [raw.lead_id for raw, _rejection in rejected if raw.revision > 1]
        call_back(connection, Stage.DEDUPED_LEADS, given_up)
        call_lookups_back(connection, given_up)
        enqueue(
            connection,
            Stage.DEDUPED_LEADS,
            [
                Waiting(
                    raw.lead_id, chunk.tenant, lanes[raw.lead_id], raw.revision, chunk.now, intake.due.get(raw.lead_id)
                )
                for raw, _lead in valid
            ],
        )
        note_fields(connection, stored.count, stored.uses(), chunk)
        took = (
            (raw.capture_lane, seconds_since_capture(raw.lead_id, chunk.now))
            for raw, _lead in valid
            if raw.revision == 1
        )
        measure(connection, Took(chunk.tenant, Station.VALIDATED_LEADS, took), now=chunk.now)
    counts = {**_counts(len(claimed), valid, rejected), **intake.counts}
    return ChunkReport(taken=len(claimed), passed=len(valid), counts=counts)


def _counts(
    claimed: int, valid: list[tuple[RawLead, ValidLead]], rejected: list[tuple[RawLead, Rejection]]
) -> dict[str, int]:
    flags = Counter(flag for _raw, lead in valid for flag in lead.flags)
    counts = {"rejected": len(rejected), **{f"flag_{name}": flags[name] for name in sorted(flags)}}
    if missing := claimed - len(valid) - len(rejected):
        counts["raw_missing"] = missing
    return counts
