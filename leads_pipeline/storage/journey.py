"""Everything that is known about one lead, in the order in which it happened.

Each entry of ``_CHAPTERS`` reads one table for one lead (``:lead_id``) and its contact (``:contact_id``), by index. Add
a table's chapter here. The details are ids, decisions and codes; personal values are not read.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId, LeadId


@dataclass(frozen=True, slots=True)
class JourneyEvent:
    """One row or decision. ``details`` hold no personal data."""

    at: datetime
    table: str
    event: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Journey:
    """A lead, the contact that it belongs to by now (if any), and its events, oldest first."""

    lead_id: LeadId
    tenant: str
    contact_id: ContactId | None
    events: tuple[JourneyEvent, ...]


# Each statement gives (at, event, details).
_CHAPTERS: dict[str, str] = {
    "buffer": """
        select received_at as at, 'captured, waits in the buffer' as event,
               jsonb_build_object('tenant', tenant, 'source', source, 'lane', lane) as details
        from buffer where lead_id = :lead_id""",
    "raw_leads": """
        select received_at as at, 'captured' as event,
               jsonb_build_object('tenant', tenant, 'source', source, 'lane', capture_lane) as details
        from raw_leads where lead_id = :lead_id
        union all
        select moved_at, 'moved out of the buffer', jsonb_build_object('batch', batch_id, 'runner', runner_id)
        from raw_leads where lead_id = :lead_id""",
    "lead_fetches": """
        select since as at, 'waits for its vendor to be asked' as event,
               jsonb_build_object('source', source, 'lane', lane, 'attempts', attempts, 'last_verdict', last_verdict,
                                  'due_at', due_at) as details
        from lead_fetches where lead_id = :lead_id
        union all
        select cast(context ->> 'fetched_at' as timestamptz),
               'its vendor was asked: ' || (context ->> 'fetch_verdict'),
               jsonb_build_object('attempts', context -> 'fetch_attempts')
        from raw_leads where lead_id = :lead_id and context ->> 'fetched_at' is not null""",
    "consent_events": """
        select occurred_at as at, case when granted then 'consent given' else 'consent withdrawn' end as event,
               jsonb_build_object('purpose', purpose, 'channel', channel, 'legal_basis', legal_basis,
                                  'text_version', text_version) as details
        from consent_events where lead_id = :lead_id""",
    "validated_leads": """
        select validated_at as at, 'validated' as event,
               jsonb_build_object('revision', revision, 'rules', rule_version, 'flags', flags, 'tier', tier,
                                  'value', value_score, 'risk', risk_score, 'risk_factors', risk_factors,
                                  'batch', batch_id, 'runner', runner_id) as details
        from validated_leads where lead_id = :lead_id""",
    "verification_switches": """
        select v.validated_at as at, 'a tier was switched down at that time' as event,
               jsonb_build_object('tier', s.tier, 'treated_as', s.down_to, 'actor', s.actor,
                                  'reason', s.reason) as details
        from validated_leads v join verification_switches s
          on s.since <= v.validated_at and v.validated_at < least(s.until, s.ended_at, 'infinity')
        where v.lead_id = :lead_id""",
    "rejected_leads": """
        select rejected_at as at, 'rejected' as event,
               jsonb_build_object('revision', revision, 'rules', rule_version, 'reasons', reasons, 'batch', batch_id,
                                  'runner', runner_id) as details
        from rejected_leads where lead_id = :lead_id""",
    "lead_corrections": """
        select corrected_at as at, case action when 'fix' then 'corrected' else 'to be judged again' end as event,
               jsonb_build_object('revision', revision, 'actor', actor, 'reason', reason,
                                  'fields', (select jsonb_agg(name order by name) from jsonb_object_keys(fields) name),
                                  'released', case when release then true end) as details
        from lead_corrections where lead_id = :lead_id""",
    "verifications": """
        select verified_at as at,
               case when provider = 'skipped' then 'its look-up was let go'
                    when requested_at = verified_at then 'was known already' else 'verified' end as event,
               jsonb_build_object('kind', kind, 'revision', revision, 'tier', tier, 'provider', provider,
                                  'verdict', verdict, 'reasons', reasons, 'flags', flags,
                                  'cost', case when cost_micros > 0 then cost_micros / 1000000.0 end,
                                  'call', call_id, 'batch', batch_id, 'runner', runner_id) as details
        from verifications where lead_id = :lead_id""",
    "verification_requests": """
        select requested_at as at, 'waits to be looked up' as event,
               jsonb_build_object('kind', kind, 'revision', revision, 'tier', tier, 'attempts', attempts,
                                  'last_reason', last_reason, 'waits_for_mx', case when blocked then true end,
                                  'under_way_in_call', call_id, 'due_at', due_at,
                                  'patience_until', patience_until) as details
        from verification_requests where lead_id = :lead_id""",
    "deduped_leads": """
        select deduped_at as at, 'assigned to a contact' as event,
               jsonb_build_object('contact', contact_id, 'decision', decision, 'golden_version', golden_version,
                                  'batch', batch_id, 'runner', runner_id) as details
        from deduped_leads where lead_id = :lead_id
        union all
        select d.deduped_at, 'went on unverified', jsonb_build_object('still_to_look_up', jsonb_agg(late.kind))
        from deduped_leads d
        join lateral (
            select r.kind from verification_requests r
            where r.lead_id = d.lead_id and r.revision = d.revision and r.requested_at < d.deduped_at
            union
            select v.kind from verifications v
            where v.lead_id = d.lead_id and v.revision = d.revision and v.requested_at < d.deduped_at
              and v.verified_at > d.deduped_at
            order by kind
        ) late on true
        where d.lead_id = :lead_id
        group by d.deduped_at""",
    "merge_log": """
        with recursive about as (  -- what names its contact or, going back, one that it came from
            select m.* from merge_log m where m.contact_id = :contact_id or m.other_contact_id = :contact_id
            union
            select m.* from about a
            join merge_log m on m.contact_id in (a.contact_id, a.other_contact_id)
                or m.other_contact_id in (a.contact_id, a.other_contact_id)
            where a.other_contact_id is not null
        )
        select m.merged_at as at,
               case m.kind when 'merge' then 'its contacts were merged'
                           when 'join' then 'joined a contact'
                           when 'move' then 'moved to another contact'
                           when 'split' then 'its contact was split'
                           when 'link' then 'called one person with another lead'
                           when 'unlink' then 'called another person than another lead'
                           when 'undo' then 'a decision was taken back' else m.kind end as event,
               jsonb_build_object('decision', m.merge_id, 'kind', m.kind, 'contact', m.contact_id,
                                  'other_contact', m.other_contact_id, 'actor', m.actor, 'reason', m.reason,
                                  'moved', case when m.lead_ids @> lead.named then true end,
                                  'undoes', m.undoes, 'undone_by', (
                                      select u.merge_id from merge_log u where u.undoes = m.merge_id),
                                  'match_weight', round(m.match_weight::numeric, 2),
                                  'compared', case when m.compared_lead_id is not null then jsonb_build_array(
                                      m.compared_lead_id, m.compared_with_lead_id) end,
                                  'evidence', m.evidence) as details
        from about m
        cross join (
            select jsonb_build_array(jsonb_build_object('lead_id', cast(:lead_id as text))) as named
        ) lead
        where m.lead_ids @> lead.named
           or (m.kind in ('merge', 'split', 'link', 'unlink')
               and cast(:contact_id as uuid) in (m.contact_id, m.other_contact_id))
        order by m.number""",
    "identity_links": """
        select l.made_at as at,
               case l.kind when 'must' then 'is to stay together' else 'is to stay apart' end as event,
               jsonb_build_object('link', l.link_id, 'decision', l.merge_id, 'actor', l.actor, 'reason', l.reason,
                                  'other_leads', (
                                      select jsonb_agg(o.lead_id order by o.lead_id) from identity_link_leads o
                                      where o.link_id = l.link_id and o.side <> m.side),
                                  'withdrawn_at', l.withdrawn_at, 'withdrawn_by', l.withdrawn_by) as details
        from identity_link_leads m join identity_links l on l.link_id = m.link_id
        where m.lead_id = :lead_id""",
    "match_reviews": """
        select opened_at as at, 'put before a person' as event,
               jsonb_build_object('review', review_id, 'other_lead',
                                  case when lead_id = :lead_id then other_lead_id else lead_id end,
                                  'cause', cause, 'match_weight', round(match_weight::numeric, 2),
                                  'state', state) as details
        from match_reviews where lead_id = :lead_id or other_lead_id = :lead_id
        union all
        select decided_at, 'review ' || state,
               jsonb_build_object('review', review_id, 'actor', decided_by, 'reason', reason) as details
        from match_reviews where (lead_id = :lead_id or other_lead_id = :lead_id) and decided_at is not null""",
    "golden_contacts": """
        select updated_at as at, 'golden contact as of now' as event,
               jsonb_build_object('contact', contact_id, 'version', version, 'leads', lead_count, 'batch', batch_id,
                                  'runner', runner_id) as details
        from golden_contacts where contact_id = :contact_id""",
    "sync_attempts": """
        select a.sent_at as at, 'sent' as event,
               jsonb_build_object('destination', a.destination, 'version', a.version, 'attempt', a.attempt,
                                  'verdict', coalesce(a.verdict, 'unanswered'), 'code', a.code,
                                  'http_status', b.http_status, 'batch', a.batch_id, 'runner', b.runner_id) as details
        from sync_attempts a left join crm_sync_batches b using (batch_id)
        where a.contact_id = :contact_id""",
    "dead_letters": """
        select died_at as at, 'became a dead letter' as event,
               jsonb_build_object('dead_letter', dead_letter_id, 'destination', destination, 'reason', reason,
                                  'code', code, 'attempts', attempts, 'resolution', resolution) as details
        from dead_letters where contact_id = :contact_id""",
    "outbox": """
        select updated_at as at, 'outbox as of now: ' || state as event,
               jsonb_build_object('destination', destination, 'operation', operation, 'wanted_version', wanted_version,
                                  'delivered_version', delivered_version, 'lane', lane, 'attempts', attempts,
                                  'suppressed_for', suppressed_for,
                                  'due_at', case when state = 'waiting' then due_at end,
                                  'crm_record', crm_record_id) as details
        from outbox where contact_id = :contact_id""",
    "lead_dispositions": """
        select decided_at as at, state as event, jsonb_build_object('actor', actor, 'reason', reason) as details
        from lead_dispositions where lead_id = :lead_id""",
    "pending": """
        select since as at, 'waits at the door of ' || stage as event,
               jsonb_build_object('lane', lane, 'revision', revision, 'due_at', due_at) as details
        from pending where subject_id in (cast(:lead_id as uuid), cast(:contact_id as uuid))""",
}

_CAPTURE = ("buffer", "raw_leads")
# What they say of a time before the lead was captured was other leads' doing.
_OF_CONTACT = ("merge_log", "sync_attempts", "dead_letters")


def lead_journey(connection: sa.Connection, lead_id: LeadId) -> Journey | None:
    """The journey of a lead, or ``None`` if it was never captured (or was erased without a trace of its own)."""
    tenant = connection.execute(
        sa.text(
            "select tenant from buffer where lead_id = :lead_id union all "
            "select tenant from raw_leads where lead_id = :lead_id union all "
            "select tenant from lead_dispositions where lead_id = :lead_id limit 1"
        ),
        {"lead_id": lead_id},
    ).scalar()
    if tenant is None:
        return None
    contact_id = connection.execute(
        sa.text("select contact_id from deduped_leads where lead_id = :lead_id"), {"lead_id": lead_id}
    ).scalar()
    events = [
        JourneyEvent(
            row.at, table, row.event, {name: value for name, value in row.details.items() if value is not None}
        )
        for table, statement in _CHAPTERS.items()
        for row in connection.execute(_typed(statement), {"lead_id": lead_id, "contact_id": contact_id})
    ]
    captured = min((event.at for event in events if event.table in _CAPTURE), default=None)
    if captured is not None:
        events = [event for event in events if event.at >= captured or event.table not in _OF_CONTACT]
    events.sort(key=lambda event: event.at)  # stable: rows of one instant keep the order of the flow
    return Journey(lead_id, tenant, contact_id, tuple(events))


def _typed(statement: str) -> sa.TextClause:
    names = [name for name in ("lead_id", "contact_id") if f":{name}" in statement]
    return sa.text(statement).bindparams(*(sa.bindparam(name, type_=sa.Uuid()) for name in names))


def leads_of_email(connection: sa.Connection, email_key: str, *, email: str, limit: int = 50) -> list[LeadId]:
    """The leads that one may mean by an e-mail address, newest first.

    ``email_key`` is the address as matching compares it, ``email`` as it was typed. Contacts are found by index; leads
    that belong to none yet (waiting, rejected) are looked for among those only.
    """
    rows = connection.execute(
        sa.text(
            """
            select lead_id from (
                select d.lead_id from match_records m join deduped_leads d using (contact_id)
                where m.email_key = :email_key
                union
                select lead_id from buffer where lower(payload ->> 'email') = :email
                union
                select r.lead_id from rejected_leads j join raw_leads r using (lead_id)
                where lower(r.payload ->> 'email') = :email
                union
                select lead_id from lead_corrections where lower(fields ->> 'email') = :email
                union
                select r.lead_id from pending p join raw_leads r on r.lead_id = p.subject_id
                where p.stage in ('validated_leads', 'deduped_leads') and lower(r.payload ->> 'email') = :email
            ) found
            order by lead_id desc limit :limit
            """
        ),
        {"email_key": email_key, "email": email.strip().lower(), "limit": limit},
    )
    return [LeadId(_uuid(row.lead_id)) for row in rows]


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
