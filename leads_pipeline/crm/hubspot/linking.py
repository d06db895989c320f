"""Records of HubSpot that a contact of ours is to become: those that people made, and those of merged contacts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from leads_pipeline.crm import parts
from leads_pipeline.crm.hubspot.answers import not_reported, read_batch, read_found, read_missing, refusal_of
from leads_pipeline.crm.hubspot.removing import archive, held
from leads_pipeline.crm.hubspot.requests import ContactRequests, Ids, Part
from leads_pipeline.crm.port import LINK, Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.withdrawing import tell_withdrawals

_in_parts = partial(parts.in_parts, refusal_of=refusal_of)


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What became of records that were to be taken over. ``gone``: theirs is not there; upsert them by key."""

    verdicts: list[RecordVerdict]
    gone: list[CrmRecord]


def take_over(records: Part, targets: Ids, *, courier: Courier, requests: ContactRequests) -> list[RecordVerdict]:
    """Take over the CRM records ``targets`` that hold no key of ours. Only what changed its verdict is returned.

    A record that holds the key of another contact of ours stays as it is; the conflict then says whose it is.
    """
    keys, failed = _keys_of(records, targets, courier=courier, requests=requests)
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


def re_key(records: Part, *, courier: Courier, requests: ContactRequests) -> Rekeyed:
    """Give each record's ``claims_record`` our key and the record's properties.

    The record that the contact had until now is archived before, so that the key is free, if we made it. If people did,
    or may have, nothing is changed, and the conflict says what to do. A repetition goes on where the last one ended.
    """
    claimed = {record.outbox_id: record.claims_record for record in records if record.claims_record}
    two = [record for record in records if record.crm_record_id and record.taken_over is not False]
    one = [record for record in records if record not in two]
    keys, verdicts = _keys_of(one, claimed, courier=courier, requests=requests)
    failed = {verdict.outbox_id for verdict in verdicts}
    # By the id of a record that was merged in the CRM its survivor is found, who is somebody else's record.
    gone = [r for r in one if claimed[r.outbox_id] not in keys and r.outbox_id not in failed]
    present = [r for r in one if claimed[r.outbox_id] in keys]

    own = [r for r in present if r.crm_record_id and keys[claimed[r.outbox_id]] != str(r.contact_id)]
    removed = archive(own, courier=courier, requests=requests) if own else []
    kept = [verdict for verdict in removed if verdict.verdict is not Verdict.DELIVERED]
    failed = {verdict.outbox_id for verdict in kept}
    ready = [record for record in present if record.outbox_id not in failed]
    verdicts += kept + _update(ready, claimed, courier=courier, requests=requests, purpose="re_key")
    return Rekeyed(verdicts + [_two_records(record) for record in two], gone)


def withdraw(records: Part, *, courier: Courier, requests: ContactRequests) -> list[RecordVerdict]:
    """Tell withdrawals of consent to the records that hold our keys, or are to hold them."""

    def change(some: Part, ids: Ids) -> list[RecordVerdict]:
        def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
            return read_batch(part, response, key_property=requests.key, targets=ids)

        return _in_parts(some, courier=courier, build=lambda part: requests.change(part, ids), read=read)

    return tell_withdrawals(
        records,
        held=partial(held, courier=courier, requests=requests),
        present=partial(_keys_of, courier=courier, requests=requests),
        change=change,
    )


def _keys_of(
    records: Part, ids: Ids, *, courier: Courier, requests: ContactRequests
) -> tuple[dict[str, str], list[RecordVerdict]]:
    """The key that each CRM record of ``ids`` holds, where it is there, and what kept us from knowing."""
    keys: dict[str, str] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        found = read_found(response, key_property=requests.key)
        keys.update({item.crm_record_id: item.key for item in found})
        if len(found) + len(read_missing(response)) >= len(part):
            return []
        return not_reported([record for record in part if ids[record.outbox_id] not in keys])

    return keys, _in_parts(records, courier=courier, build=lambda part: requests.read_by_id(part, ids), read=read)


def _update(
    records: Part, ids: Ids, *, courier: Courier, requests: ContactRequests, purpose: str
) -> list[RecordVerdict]:
    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        return read_batch(part, response, key_property=requests.key, targets=ids)

    def build(part: Sequence[CrmRecord]) -> CrmRequest:
        return requests.update(part, ids, purpose=purpose)

    return _in_parts(records, courier=courier, build=build, read=read)


def _of_another_contact(record: CrmRecord, holder_id: str, contact_id: str) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="CONFLICT",
        holder_id=holder_id,
        explanation=f"HubSpot's record {holder_id} has the same address and is contact {contact_id}'s. What helps: if "
        "they are one person, merge the contacts with `leads contact merge`, unless they are two tenants': then let "
        "one of them send it; else correct one of the addresses.",
    )


def _two_records(record: CrmRecord) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="TWO_RECORDS",
        holder_id=record.claims_record,
        explanation=f"people made the records {record.crm_record_id} and {record.claims_record} of one contact: merge "
        "them in HubSpot, then redrive",
    )
