"""Records of Salesforce that a contact of ours is to become: those that people made, and those of merged contacts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from leads_pipeline.crm.parts import NOT_SENT, OVERTAKEN, renewing
from leads_pipeline.crm.port import LINK, Courier, CrmRecord, CrmRequest, RecordVerdict, Verdict
from leads_pipeline.crm.salesforce.answers import (
    CONVERTED,
    DUPLICATES_DETECTED,
    Found,
    matched_ids,
    read_entry,
    read_results,
    refusal_of,
)
from leads_pipeline.crm.salesforce.looking_up import held, in_parts, known
from leads_pipeline.crm.salesforce.removing import archive
from leads_pipeline.crm.salesforce.requests import Ids, Part, SalesforceRequests
from leads_pipeline.crm.withdrawing import tell_withdrawals
from leads_pipeline.errors import AccountParked, Overtaken


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What became of records that were to be taken over. ``gone``: theirs is not there; upsert them by key."""

    verdicts: list[RecordVerdict]
    gone: list[CrmRecord]


def settle_conflicts(
    records: Part, verdicts: list[RecordVerdict], *, courier: Courier, requests: SalesforceRequests
) -> list[RecordVerdict]:
    """The same verdicts; those of duplicates and of converted leads say more, or are delivered after all.

    A duplicate rule of the org tells which record it means only when one record is sent by itself. If that record has
    no key of ours it is taken over: a sales person made it before we came.
    """
    by_id = {record.outbox_id: record for record in records}
    duplicates = [by_id[item.outbox_id] for item in verdicts if item.code == DUPLICATES_DETECTED]
    converted = [by_id[item.outbox_id] for item in verdicts if item.code == CONVERTED]
    settled: dict[int, RecordVerdict] = {}
    targets: dict[int, str] = {}
    for record in duplicates:
        answer = _alone(record, courier=courier, requests=requests)
        settled[record.outbox_id] = answer.verdict
        # With a record of its own already, taking over a second one would leave two for one person.
        if answer.matched and record.crm_record_id is None and answer.matched[0] not in targets.values():
            targets[record.outbox_id] = answer.matched[0]
        if answer.verdict.verdict in (Verdict.THROTTLED, Verdict.AUTH):
            break
    linked = [record for record in duplicates if record.outbox_id in targets]
    settled |= {item.outbox_id: item for item in take_over(linked, targets, courier=courier, requests=requests)}
    if converted:
        settled |= {item.outbox_id: item for item in _converted(converted, courier=courier, requests=requests)}
    return [settled.get(item.outbox_id, item) for item in verdicts]


def take_over(records: Part, targets: Ids, *, courier: Courier, requests: SalesforceRequests) -> list[RecordVerdict]:
    """Take over the records ``targets`` that hold no key of ours. Only what changed its verdict is returned.

    A record that holds the key of another contact of ours stays as it is; the conflict then says whose it is.
    """
    if not records:
        return []
    found, failed = known(records, targets, courier=courier, requests=requests)
    keys = {crm_record_id: item.key for crm_record_id, item in found.items()}
    free = [record for record in records if keys.get(targets[record.outbox_id]) in ("", str(record.contact_id))]
    # A failed look-up leaves the conflict standing: it is tried again with the record's next attempt.
    parked = [verdict for verdict in failed if verdict.verdict in (Verdict.THROTTLED, Verdict.AUTH)]
    taken = _update(free, targets, courier=courier, requests=requests, purpose=LINK)
    others = [
        _of_another_contact(record, targets[record.outbox_id], key)
        for record in records
        if record not in free and (key := keys.get(targets[record.outbox_id]))
    ]
    return [*parked, *others] + [replace(verdict, linked=verdict.verdict is Verdict.DELIVERED) for verdict in taken]


def re_key(records: Part, *, courier: Courier, requests: SalesforceRequests) -> Rekeyed:
    """Give each record's ``claims_record`` our key and the record's properties.

    The record that the contact had until now is deleted before, so that the key is free, if we made it. If people did,
    or may have, nothing is changed, and the conflict says what to do. A repetition goes on where the last one ended.
    """
    claimed = {record.outbox_id: record.claims_record for record in records if record.claims_record}
    two = [record for record in records if record.crm_record_id and record.taken_over is not False]
    one = [record for record in records if record not in two]
    found, verdicts = known(one, claimed, courier=courier, requests=requests)
    failed = {verdict.outbox_id for verdict in verdicts}
    gone = [r for r in one if claimed[r.outbox_id] not in found and r.outbox_id not in failed]
    present = [r for r in one if claimed[r.outbox_id] in found]

    own = [r for r in present if r.crm_record_id and found[claimed[r.outbox_id]].key != str(r.contact_id)]
    removed = archive(own, courier=courier, requests=requests) if own else []
    kept = [verdict for verdict in removed if verdict.verdict is not Verdict.DELIVERED]
    failed = {verdict.outbox_id for verdict in kept}
    ready = [record for record in present if record.outbox_id not in failed]
    verdicts += kept + _update(ready, claimed, courier=courier, requests=requests, purpose="re_key")
    return Rekeyed(verdicts + [_two_records(record) for record in two], gone)


@dataclass(frozen=True, slots=True)
class _Alone:
    """What a record that was sent by itself is answered. ``matched``: the records that a duplicate rule means."""

    verdict: RecordVerdict
    matched: list[str]


def _alone(record: CrmRecord, *, courier: Courier, requests: SalesforceRequests) -> _Alone:
    try:
        response = renewing(courier)(requests.upsert_one(record).about([record]))
    except (AccountParked, Overtaken) as error:
        code = OVERTAKEN if isinstance(error, Overtaken) else NOT_SENT
        return _Alone(RecordVerdict(record.outbox_id, Verdict.THROTTLED, code=code), [])
    refusal = refusal_of(response)
    if response.status == 300:  # several records hold our key
        return _Alone(
            RecordVerdict(
                record.outbox_id,
                Verdict.CONFLICT,
                code="DUPLICATE_EXTERNAL_ID",
                explanation=f"several records of Salesforce hold {requests.key} {record.contact_id}: merge them there, "
                "and make the field unique",
            ),
            [],
        )
    if refusal is None:
        return _Alone(read_entry(record, response.body), [])
    matched = matched_ids(response)
    verdict = replace(refusal.of(record), holder_id=matched[0] if matched else None)
    return _Alone(verdict, matched)


def _converted(records: Part, *, courier: Courier, requests: SalesforceRequests) -> list[RecordVerdict]:
    """Leads of which people made contacts. Which contact it is stands in the lead."""
    ids, _failed = held(records, courier=courier, requests=requests)
    present = [record for record in records if record.outbox_id in ids]
    found, _failed = known(present, ids, courier=courier, requests=requests)
    return [_is_a_contact_now(record, ids, found) for record in records]


def _is_a_contact_now(record: CrmRecord, ids: Ids, found: Mapping[str, Found]) -> RecordVerdict:
    lead_id = ids.get(record.outbox_id, record.crm_record_id or "")
    contact_id = found[lead_id].converted_to if lead_id in found else None
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code=CONVERTED,
        holder_id=contact_id,
        explanation=f"lead {lead_id} was converted into contact {contact_id or '(not told)'} in Salesforce, and takes "
        "no changes any more. What helps: discard, as the contact is the sales team's now; or deliver to a destination "
        "with object_type: Contact",
    )


def withdraw(records: Part, *, courier: Courier, requests: SalesforceRequests) -> list[RecordVerdict]:
    """Tell withdrawals of consent to the records that hold our keys, or are to hold them."""

    def change(some: Part, ids: Ids) -> list[RecordVerdict]:
        return in_parts(some, courier=courier, build=lambda part: requests.change(part, ids), read=read_results)

    return tell_withdrawals(
        records,
        held=partial(held, courier=courier, requests=requests),
        present=partial(known, courier=courier, requests=requests),
        change=change,
    )


def _update(
    records: Part, ids: Ids, *, courier: Courier, requests: SalesforceRequests, purpose: str
) -> list[RecordVerdict]:
    def build(part: Part) -> CrmRequest:
        return requests.update(part, ids, purpose=purpose)

    return in_parts(records, courier=courier, build=build, read=read_results)


def _of_another_contact(record: CrmRecord, holder_id: str, contact_id: str) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code=DUPLICATES_DETECTED,
        holder_id=holder_id,
        explanation=f"a duplicate rule of Salesforce takes the contact for record {holder_id}, which is contact "
        f"{contact_id}'s. What helps: if they are one person, merge the contacts with `leads contact merge`, unless "
        "they are two tenants': then let one of them send it; else correct one of them, or the rule.",
    )


def _two_records(record: CrmRecord) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="TWO_RECORDS",
        holder_id=record.claims_record,
        explanation=f"people made the records {record.crm_record_id} and {record.claims_record} of one contact: merge "
        "them in Salesforce, then redrive",
    )
