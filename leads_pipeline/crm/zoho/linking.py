"""Records of Zoho that a contact of ours is to become: those that people made, and those of merged contacts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from leads_pipeline.crm.port import LINK, Courier, CrmRecord, CrmRequest, RecordVerdict, Verdict
from leads_pipeline.crm.withdrawing import tell_withdrawals
from leads_pipeline.crm.zoho.answers import read_batch
from leads_pipeline.crm.zoho.looking_up import found_by_key, in_parts, keys_of
from leads_pipeline.crm.zoho.removing import archive
from leads_pipeline.crm.zoho.requests import Ids, Part, RecordRequests


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What became of records that were to be taken over. ``gone``: theirs is not there; upsert them by key."""

    verdicts: list[RecordVerdict]
    gone: list[CrmRecord]


def take_over(records: Part, holders: Ids, *, courier: Courier, requests: RecordRequests) -> list[RecordVerdict]:
    """Take over those of ``holders`` that hold no key of ours. Only what changed its verdict is returned."""
    keys, failed = keys_of(records, holders, courier=courier, requests=requests)
    free = [record for record in records if keys.get(holders[record.outbox_id]) in ("", str(record.contact_id))]
    # A failed look-up leaves the conflict standing: it is tried again with the record's next attempt.
    parked = [verdict for verdict in failed if verdict.verdict in (Verdict.THROTTLED, Verdict.AUTH)]
    taken = _update(free, holders, courier=courier, requests=requests, purpose=LINK)
    others = [
        _of_another_contact(record, holders[record.outbox_id], key)
        for record in records
        if record not in free and (key := keys.get(holders[record.outbox_id]))
    ]
    return [*parked, *others, *(replace(item, linked=item.verdict is Verdict.DELIVERED) for item in taken)]


def re_key(records: Part, *, courier: Courier, requests: RecordRequests) -> Rekeyed:
    """Give each record's ``claims_record`` our key and the record's properties.

    The record that the contact had until now is deleted before, if we made it: two cannot hold one key. Where people
    made it, or may have, nothing is changed. A repetition goes on where the last one ended.
    """
    claimed = {record.outbox_id: record.claims_record for record in records if record.claims_record}
    two = [record for record in records if record.crm_record_id and record.taken_over is not False]
    one = [record for record in records if record not in two]
    keys, verdicts = keys_of(one, claimed, courier=courier, requests=requests)
    failed = {verdict.outbox_id for verdict in verdicts}
    gone = [r for r in one if claimed[r.outbox_id] not in keys and r.outbox_id not in failed]
    present = [r for r in one if claimed[r.outbox_id] in keys]

    own = [r for r in present if r.crm_record_id and keys[claimed[r.outbox_id]] != str(r.contact_id)]
    removed = archive(own, courier=courier, requests=requests) if own else []
    kept = [verdict for verdict in removed if verdict.verdict is not Verdict.DELIVERED]
    failed = {verdict.outbox_id for verdict in kept}
    ready = [record for record in present if record.outbox_id not in failed]
    verdicts += kept + _update(ready, claimed, courier=courier, requests=requests, purpose="re_key")
    return Rekeyed(verdicts + [_two_records(record) for record in two], gone)


def withdraw(records: Part, *, courier: Courier, requests: RecordRequests) -> list[RecordVerdict]:
    """Tell withdrawals of consent to the records that hold our keys, or are to hold them."""

    def change(some: Part, ids: Ids) -> list[RecordVerdict]:
        return in_parts(some, courier=courier, build=lambda part: requests.change(part, ids), read=read_batch)

    return tell_withdrawals(
        records,
        held=partial(found_by_key, courier=courier, requests=requests),
        present=partial(keys_of, courier=courier, requests=requests),
        change=change,
    )


def _update(
    records: Part, ids: Ids, *, courier: Courier, requests: RecordRequests, purpose: str
) -> list[RecordVerdict]:
    def build(part: Sequence[CrmRecord]) -> CrmRequest:
        return requests.update(part, ids, purpose=purpose)

    return in_parts(records, courier=courier, build=build, read=read_batch)


def _of_another_contact(record: CrmRecord, holder_id: str, contact_id: str) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="DUPLICATE_DATA",
        holder_id=holder_id,
        explanation=f"Zoho's record {holder_id} has the same value in a unique field and is contact {contact_id}'s. If "
        "they are one person, merge the contacts with `leads contact merge`, unless they are two tenants': then let "
        "one of them send it; else correct one of the values.",
    )


def _two_records(record: CrmRecord) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="TWO_RECORDS",
        holder_id=record.claims_record,
        explanation=f"people made the records {record.crm_record_id} and {record.claims_record} of one contact: merge "
        "them in Zoho, then redrive",
    )
