"""An erasure of all that a CRM has of a contact: its record, and those that it had before.

A contact has had several where one was archived, and another one made or taken over. Add what does not depend on a
vendor. Keep out: how one record is erased, which a destination hands in.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Verdict

# What holds the contact's key is erased; where nothing does, the record that is remembered.
Erase = Callable[[Sequence[CrmRecord]], list[RecordVerdict]]

# Of one record; the others can be erased all the same.
_GO_ON = (Verdict.DELIVERED, Verdict.CONFLICT)


def erase_all(records: Sequence[CrmRecord], erase: Erase) -> list[RecordVerdict]:
    """Erase what holds each contact's key, and every record that it had. One verdict for each contact.

    The vendor is asked again only for contacts that have had more than one record. What hinders the erasure of one
    record leaves the contact to be erased again, with all of them: what is gone is no hindrance.
    """
    verdicts = {verdict.outbox_id: verdict for verdict in erase(records)}
    left = {record.outbox_id: _others(record, verdicts[record.outbox_id]) for record in records}
    by_id = {record.outbox_id: record for record in records}
    while asked := [replace(by_id[i], crm_record_id=ids.pop()) for i, ids in left.items() if ids]:
        said = {verdict.outbox_id: verdict for verdict in erase(asked)}
        for record in asked:
            verdict, before = said[record.outbox_id], verdicts[record.outbox_id]
            if verdict.verdict not in _GO_ON:
                left[record.outbox_id].clear()
            if verdict.verdict is Verdict.CONFLICT and _is_no_hindrance(verdict, record, by_id[record.outbox_id]):
                continue
            # What stands in the way is told before what is done; what is done with a remark before what is not there.
            if before.verdict is Verdict.DELIVERED and (
                verdict.verdict is not Verdict.DELIVERED or verdict.explanation
            ):
                verdicts[record.outbox_id] = verdict
    return list(verdicts.values())


def _others(record: CrmRecord, first: RecordVerdict) -> list[str]:
    """The records that are still to be erased after the first round."""
    if first.verdict not in _GO_ON:
        return []
    # Without an id nothing held the key: the remembered record was looked up, and is gone.
    done = {first.crm_record_id, record.crm_record_id if first.crm_record_id is None else None}
    ids = dict.fromkeys([*record.former_records, record.crm_record_id])
    return [crm_record_id for crm_record_id in ids if crm_record_id is not None and crm_record_id not in done]


def _is_no_hindrance(conflict: RecordVerdict, asked: CrmRecord, contact: CrmRecord) -> bool:
    """Whether the record that was asked for needs no erasure of its own.

    Another contact of ours may hold it by now. One that people merged into another record of this contact goes with it.
    """
    return conflict.holder_id in {asked.crm_record_id, contact.crm_record_id, *contact.former_records} - {None}
