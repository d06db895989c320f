"""A withdrawn consent, told to the records that a CRM has of somebody, and to no new one.

For CRMs whose upsert would make a record where there is none. What holds our key is looked up, and beside it the record
that the contact is to take over; both are changed by their ids. Keep out: how a vendor looks up and changes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.domain.delivery import NOT_THERE

# The CRM's ids of records, by outbox id.
Ids = Mapping[int, str]


def tell_withdrawals(
    records: Sequence[CrmRecord],
    *,
    held: Callable[[Sequence[CrmRecord]], tuple[Ids, list[RecordVerdict]]],
    present: Callable[[Sequence[CrmRecord], Ids], tuple[Collection[str], list[RecordVerdict]]],
    change: Callable[[Sequence[CrmRecord], Ids], list[RecordVerdict]],
) -> list[RecordVerdict]:
    """One verdict for each record: what failed of it, or delivered, as ``NOT_THERE`` where nothing is.

    ``held`` says which records hold our keys, ``present`` which of these ids are there; both with the verdicts of those
    that could not be looked up. ``change`` changes the records of these ids, and leaves their keys alone.
    """
    ids, told = held(records)
    verdicts = list(told)
    claimed = {
        record.outbox_id: record.claims_record
        for record in records
        if record.claims_record is not None and record.claims_record != ids.get(record.outbox_id)
    }
    claiming = [record for record in records if record.outbox_id in claimed]
    there, failed = present(claiming, claimed) if claiming else ((), [])
    verdicts += failed
    own = [record for record in records if record.outbox_id in ids]
    taken = [record for record in claiming if claimed[record.outbox_id] in there]
    verdicts += (change(own, ids) if own else []) + (change(taken, claimed) if taken else [])
    found: dict[int, RecordVerdict] = {}
    for verdict in verdicts:
        if verdict.outbox_id not in found or verdict.verdict is not Verdict.DELIVERED:
            found[verdict.outbox_id] = verdict
    return [found.get(r.outbox_id) or RecordVerdict(r.outbox_id, Verdict.DELIVERED, code=NOT_THERE) for r in records]
