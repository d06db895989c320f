"""Who is who, as identity resolution writes it: one statement for each table and chunk.

The caller holds ``identity.lock_identity``, so these rows have no other writer. The order matters in one place: a merge
moves all that belongs to the contact that goes, so it comes after the rows of this chunk.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId, uuid7
from leads_pipeline.domain.match_keys import INDEX_VERSION, MatchFields
from leads_pipeline.domain.resolution import Founding, Merge, Reason, Review
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.storage import match_index
from leads_pipeline.storage.copying import copy_rows
from leads_pipeline.storage.identity import MATCH_FIELDS
from leads_pipeline.storage.news import ON_LEAVING

_RECORD_COLUMNS = ("lead_id", "tenant", "contact_id", "flags", "key_hashes", *MATCH_FIELDS)

_INSERT_CONTACTS = sa.text(
    """
    insert into contacts (contact_id, tenant, founding_lead_id, created_at)
    select t.contact_id, :tenant, t.lead_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, lead_id uuid)
    """
)

_UPSERT_DEDUPED = sa.text(
    f"""
    insert into deduped_leads as d (
        lead_id, revision, tenant, sync_lane, contact_id, golden_version, decision, batch_id, runner_id, deduped_at
    )
    select t.lead_id, t.revision, :tenant, t.sync_lane, t.contact_id, null, t.decision, :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, revision integer, sync_lane text, contact_id uuid, decision text
    )
    on conflict (lead_id) do update set
        revision = excluded.revision, sync_lane = excluded.sync_lane, contact_id = excluded.contact_id,
        golden_version = null, batch_id = excluded.batch_id,
        first_golden_version = case
            when d.contact_id = excluded.contact_id then d.first_golden_version else {ON_LEAVING} end,
        decision = coalesce(nullif(excluded.decision, :unchanged), d.decision),
        runner_id = excluded.runner_id, deduped_at = excluded.deduped_at
    where d.revision < excluded.revision
    """  # noqa: S608 - text of ours
)

# A contact whose founding lead went elsewhere counts from its oldest one, as after any other decision.
_FOLLOW_FOUNDERS = sa.text(
    """
    update contacts c set founding_lead_id = first.lead_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as gone(lead_id uuid, contact_id uuid)
    cross join lateral (
        select d.lead_id from deduped_leads d where d.contact_id = gone.contact_id order by d.lead_id limit 1
    ) first
    where c.contact_id = gone.contact_id and c.founding_lead_id = gone.lead_id
    returning gone.lead_id
    """
)

_ADD_SIZE = sa.text(
    """
    insert into identity_sizes (tenant, records, contacts, index_version)
    values (:tenant, :records, :contacts, :index_version)
    on conflict (tenant) do update set
        records = identity_sizes.records + excluded.records, contacts = identity_sizes.contacts + excluded.contacts
    """
)

# Chains are flattened: whatever was merged into the contact that goes now points to the survivor as well.
_MERGE_CONTACTS = sa.text(
    """
    with pairs as (select * from jsonb_to_recordset(cast(:rows as jsonb)) as t(other uuid, survivor uuid)),
    before as (
        select p.other, p.survivor, c.contact_id, c.merged_into
        from pairs p join contacts c on c.contact_id = p.other
        union all
        select p.other, p.survivor, c.contact_id, c.merged_into
        from pairs p join contacts c on c.merged_into = p.other
    )
    update contacts set merged_into = before.survivor
    from before where contacts.contact_id = before.contact_id
    returning before.other, before.contact_id, before.merged_into
    """
)
_MOVE_LEADS = sa.text(
    f"""
    update deduped_leads d set
        contact_id = t.survivor, golden_version = null, first_golden_version = {ON_LEAVING}
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(other uuid, survivor uuid)
    where d.contact_id = t.other
    returning t.other, d.lead_id, d.revision
    """  # noqa: S608 - text of ours
)
_MOVE_RECORDS = sa.text(
    """
    update match_records m set contact_id = t.survivor
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(other uuid, survivor uuid)
    where m.contact_id = t.other
    """
)

_INSERT_MERGE_LOG = sa.text(
    """
    insert into merge_log (
        merge_id, tenant, kind, contact_id, other_contact_id, lead_ids, inverse, actor, match_weight, evidence,
        compared_lead_id, compared_with_lead_id, review_weight, merge_weight, batch_id, runner_id, merged_at
    )
    select t.merge_id, :tenant, t.kind, t.contact_id, t.other_contact_id, t.lead_ids, t.inverse, t.actor,
        t.match_weight, t.evidence, t.compared_lead_id, t.compared_with_lead_id, t.review_weight, t.merge_weight,
        :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        merge_id uuid, kind text, contact_id uuid, other_contact_id uuid, lead_ids jsonb, inverse jsonb, actor text,
        match_weight double precision, evidence jsonb, compared_lead_id uuid, compared_with_lead_id uuid,
        review_weight double precision, merge_weight double precision
    )
    """
)

# One question about two contacts at a time. A pair that had come together and is apart again is asked anew.
_INSERT_REVIEWS = sa.text(
    """
    insert into match_reviews (
        review_id, tenant, lead_id, other_lead_id, match_weight, evidence, review_weight, merge_weight, cause, actor,
        state, batch_id, runner_id, opened_at
    )
    select t.review_id, :tenant, t.lead_id, t.other_lead_id, t.match_weight, t.evidence, t.review_weight,
        t.merge_weight, t.cause, t.actor, 'open', :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        review_id uuid, lead_id uuid, other_lead_id uuid, contact_id uuid, other_contact_id uuid,
        match_weight double precision, evidence jsonb, review_weight double precision, merge_weight double precision,
        cause text, actor text
    )
    where not exists (
        select from deduped_leads d
        join match_reviews r on r.lead_id = d.lead_id and r.state = 'open'
        join deduped_leads e on e.lead_id = r.other_lead_id
        where d.contact_id = t.contact_id and e.contact_id = t.other_contact_id
    ) and not exists (
        select from deduped_leads d
        join match_reviews r on r.other_lead_id = d.lead_id and r.state = 'open'
        join deduped_leads e on e.lead_id = r.lead_id
        where d.contact_id = t.contact_id and e.contact_id = t.other_contact_id
    )
    on conflict (lead_id, other_lead_id) do update set
        match_weight = excluded.match_weight, evidence = excluded.evidence, review_weight = excluded.review_weight,
        merge_weight = excluded.merge_weight, cause = excluded.cause, actor = excluded.actor, state = 'open',
        batch_id = excluded.batch_id, runner_id = excluded.runner_id, opened_at = excluded.opened_at,
        decided_at = null, decided_by = null, reason = null
    where match_reviews.state = 'closed'
    """
)

_CLOSE_REVIEWS = sa.text(
    """
    update match_reviews r set state = 'closed', decided_at = :now
    from deduped_leads d, deduped_leads e
    where r.state = 'open' and d.lead_id = r.lead_id and e.lead_id = r.other_lead_id and d.contact_id = e.contact_id
        and r.review_id in (
            select m.review_id from unnest(cast(:leads as uuid[])) as moved(lead_id)
            join match_reviews m on m.lead_id = moved.lead_id and m.state = 'open'
            union all
            select m.review_id from unnest(cast(:leads as uuid[])) as moved(lead_id)
            join match_reviews m on m.other_lead_id = moved.lead_id and m.state = 'open'
        )
    """
)

# Stands for the decision that a known lead has.
UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Assigned:
    """A lead and the contact that it now belongs to.

    ``logged`` is ``join`` or ``move`` where that is a change to be explained by ``reason``; ``moved_from`` is the
    contact that it leaves.
    """

    lead_id: UUID
    revision: int
    sync_lane: Lane
    contact_id: ContactId
    decision: str
    logged: str | None = None
    reason: Reason | None = None
    moved_from: ContactId | None = None


@dataclass(frozen=True, slots=True)
class Appearance:
    """A record to be found by later leads."""

    lead_id: UUID
    contact_id: ContactId
    fields: MatchFields
    flags: Sequence[str]


def write_contacts(connection: sa.Connection, chunk: Chunk, foundings: Sequence[Founding]) -> None:
    rows = [{"contact_id": str(item.contact_id), "lead_id": str(item.lead_id)} for item in foundings]
    _send(connection, _INSERT_CONTACTS, rows, tenant=chunk.tenant, now=chunk.now)


def write_assignments(connection: sa.Connection, chunk: Chunk, leads: Sequence[Assigned]) -> None:
    """Say whose each lead is, and why where it joined somebody. A revision that is known already stays as it is."""
    rows = [
        {
            "lead_id": str(lead.lead_id),
            "revision": lead.revision,
            "sync_lane": lead.sync_lane,
            "contact_id": str(lead.contact_id),
            "decision": lead.decision,
        }
        for lead in leads
    ]
    _send(connection, _UPSERT_DEDUPED, rows, **_stamp(chunk), unchanged=UNCHANGED)
    founders = _follow_founders(connection, leads)
    changes = []
    for lead in leads:
        if lead.logged is None or lead.reason is None:
            continue
        moved = _lead_of(lead.lead_id, lead.revision)
        before = {**moved, "contact_id": str(lead.moved_from) if lead.moved_from else None}
        inverse: dict[str, Any] = {"leads": [before], "contacts": {}}
        if lead.lead_id in founders:
            inverse["founders"] = {str(lead.moved_from): str(lead.lead_id)}
        changes.append(_log_row(chunk, lead.logged, lead.contact_id, lead.moved_from, [moved], inverse, lead.reason))
    _send(connection, _INSERT_MERGE_LOG, changes, **_stamp(chunk))


def _follow_founders(connection: sa.Connection, leads: Sequence[Assigned]) -> set[UUID]:
    """Let contacts that their founding lead left count from another; those leads are answered."""
    left = [{"lead_id": str(lead.lead_id), "contact_id": str(lead.moved_from)} for lead in leads if lead.moved_from]
    if not left:
        return set()
    return {row.lead_id for row in connection.execute(_FOLLOW_FOUNDERS, {"rows": json.dumps(left)})}


def write_merges(connection: sa.Connection, chunk: Chunk, merges: Sequence[Merge]) -> list[UUID]:
    """Merge contacts: their leads, their records and whatever was merged into them go to the survivor.

    Returns the leads that moved.
    """
    if not merges:
        return []
    pairs = json.dumps([{"other": str(merge.other), "survivor": str(merge.survivor)} for merge in merges])
    redirected: dict[UUID, dict[str, str | None]] = {merge.other: {} for merge in merges}
    for row in connection.execute(_MERGE_CONTACTS, {"rows": pairs}):
        redirected[row.other][str(row.contact_id)] = str(row.merged_into) if row.merged_into else None
    moved: dict[UUID, list[dict[str, Any]]] = {merge.other: [] for merge in merges}
    leads: list[UUID] = []
    for row in connection.execute(_MOVE_LEADS, {"rows": pairs}):
        moved[row.other].append(_lead_of(row.lead_id, row.revision))
        leads.append(row.lead_id)
    connection.execute(_MOVE_RECORDS, {"rows": pairs})
    log = []
    for merge in merges:
        before = [{**lead, "contact_id": str(merge.other)} for lead in moved[merge.other]]
        inverse = {"leads": before, "contacts": redirected[merge.other]}
        log.append(_log_row(chunk, "merge", merge.survivor, merge.other, moved[merge.other], inverse, merge.reason))
    _send(connection, _INSERT_MERGE_LOG, log, **_stamp(chunk))
    return leads


def write_reviews(connection: sa.Connection, chunk: Chunk, reviews: Sequence[Review]) -> None:
    """Put pairs before a person; what is asked about two contacts already, or was decided, is not asked again."""
    rows = [
        {
            "review_id": str(uuid7(chunk.now)),
            "lead_id": str(review.lead_id),
            "other_lead_id": str(review.other_lead_id),
            "contact_id": str(review.contacts[0]),
            "other_contact_id": str(review.contacts[1]),
            "cause": "refused" if review.refused else "grey",
            **_why(review.reason),
        }
        for review in reviews
    ]
    _send(connection, _INSERT_REVIEWS, rows, **_stamp(chunk))


def close_reviews(connection: sa.Connection, chunk: Chunk, leads: Collection[UUID]) -> None:
    """Close the open reviews of these leads whose other lead is in the same contact by now."""
    if leads:
        connection.execute(_CLOSE_REVIEWS, {"leads": list(leads), "now": chunk.now})


def write_appearances(connection: sa.Connection, tenant: str, appearances: Sequence[Appearance]) -> None:
    """Make records findable."""
    keys = [match_index.stored_keys(tenant, item.fields) for item in appearances]
    rows = (
        (
            item.lead_id,
            tenant,
            item.contact_id,
            json.dumps(item.flags),
            "{" + ",".join(map(str, own)) + "}",
            *(getattr(item.fields, name) for name in MATCH_FIELDS),
        )
        for item, own in zip(appearances, keys, strict=True)
    )
    copy_rows(connection, "match_records", _RECORD_COLUMNS, rows)
    match_index.write_keys(
        connection, tenant, ((str(item.lead_id), own) for item, own in zip(appearances, keys, strict=True))
    )


def remove_appearances(connection: sa.Connection, leads: Collection[UUID]) -> int:
    """Forget the records of leads that were corrected; how many there were is answered."""
    return match_index.remove_records(connection, leads)


def add_to_statistics(
    connection: sa.Connection, tenant: str, terms: Counter[tuple[str, str]], *, records: int, contacts: int
) -> None:
    """Count up how many contacts have each of ``terms`` (field, value), and the tenant's sizes.

    Frequencies are never counted down: a merge or a correction leaves a value counted once too often, which only makes
    the next agreement on it weigh a little less.
    """
    match_index.add_frequencies(connection, tenant, terms)
    connection.execute(
        _ADD_SIZE, {"tenant": tenant, "records": records, "contacts": contacts, "index_version": INDEX_VERSION}
    )


def _log_row(
    chunk: Chunk,
    kind: str,
    contact: ContactId,
    other: ContactId | None,
    leads: list[dict[str, Any]],
    inverse: dict[str, Any],
    reason: Reason,
) -> dict[str, Any]:
    return {
        "merge_id": str(uuid7(chunk.now)),
        "kind": kind,
        "contact_id": str(contact),
        "other_contact_id": str(other) if other else None,
        "lead_ids": leads,
        "inverse": inverse,
        "compared_lead_id": str(reason.leads[0]) if reason.leads else None,
        "compared_with_lead_id": str(reason.leads[1]) if reason.leads else None,
        **_why(reason),
    }


def _why(reason: Reason) -> dict[str, Any]:
    review_weight, merge_weight = reason.cut_offs or (None, None)
    return {
        "actor": reason.actor,
        "match_weight": reason.match_weight,
        "evidence": dict(reason.evidence),
        "review_weight": review_weight,
        "merge_weight": merge_weight,
    }


def _lead_of(lead_id: UUID, revision: int) -> dict[str, Any]:
    return {"lead_id": str(lead_id), "revision": revision}


def _stamp(chunk: Chunk) -> Mapping[str, Any]:
    return {"tenant": chunk.tenant, "batch_id": chunk.batch_id, "runner_id": chunk.runner_id, "now": chunk.now}


def _send(connection: sa.Connection, statement: sa.TextClause, rows: list[dict[str, Any]], **values: Any) -> None:
    if rows:
        connection.execute(statement, {"rows": json.dumps(rows), **values})
