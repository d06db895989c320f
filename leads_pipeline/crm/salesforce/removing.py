"""Contacts that Salesforce is to hold no longer: deleted, or let go.

What holds our key now is looked up first: after somebody merged two records the id that we remember is that of the
loser, and its survivor may be another person's. Only what Salesforce says is not there counts as gone.
"""

from dataclasses import replace

from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.salesforce.answers import Found, read_results
from leads_pipeline.crm.salesforce.looking_up import held, in_parts, known, left
from leads_pipeline.crm.salesforce.requests import Ids, Part, SalesforceRequests

# What is deleted lies in the recycle bin for 15 days, and no call of REST empties it.
IN_RECYCLE_BIN = "IN_RECYCLE_BIN"
_RECYCLE_BIN = (
    "the record is deleted, and lies in Salesforce's recycle bin for 15 days; who must have it erased at once empties "
    "the bin there"
)
_GONE = frozenset({"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY"})


def archive(records: Part, *, courier: Courier, requests: SalesforceRequests) -> list[RecordVerdict]:
    """Delete the records that we made. One that people made keeps everything but our key."""
    ids, verdicts = held(records, courier=courier, requests=requests)
    verdicts += [_nothing(record, "NOTHING_TO_ARCHIVE") for record in left(records, ids, verdicts)]
    present = [record for record in records if record.outbox_id in ids]
    ours = [record for record in present if not record.taken_over]
    theirs = [record for record in present if record.taken_over]

    def unlink(part: Part) -> CrmRequest:
        return requests.unlink(part, ids)

    verdicts += _delete(ours, ids, courier=courier, requests=requests, purpose="archive")
    return verdicts + in_parts(theirs, courier=courier, build=unlink, read=read_results)


def erase(records: Part, *, courier: Courier, requests: SalesforceRequests) -> list[RecordVerdict]:
    """Delete what holds our key, or what we delivered, whoever made it.

    A record that somebody merged into another one is not erased, as it may be another person's by now; the conflict
    names it.
    """
    ids, verdicts = held(records, courier=courier, requests=requests)
    remembered = {
        record.outbox_id: record.crm_record_id for record in left(records, ids, verdicts) if record.crm_record_id
    }
    asked = [record for record in records if record.outbox_id in remembered]
    found, failed = known(asked, remembered, courier=courier, requests=requests, deleted=True)
    verdicts += failed
    for record in left(asked, {}, verdicts):
        item = found.get(remembered[record.outbox_id])
        if item is not None and (item.master_id or item.key not in ("", str(record.contact_id))):
            verdicts.append(_merged_away(record, item))
        elif item is not None and item.deleted:
            verdicts.append(_erased(_nothing(record, IN_RECYCLE_BIN)))
        elif item is not None:
            ids[record.outbox_id] = item.crm_record_id
    verdicts += [_nothing(record, "NOTHING_TO_ERASE") for record in left(records, ids, verdicts)]
    present = [record for record in records if record.outbox_id in ids]
    deleted = _delete(present, ids, courier=courier, requests=requests, purpose="erase")
    return verdicts + [_erased(item) if item.verdict is Verdict.DELIVERED else item for item in deleted]


def _delete(
    records: Part, ids: Ids, *, courier: Courier, requests: SalesforceRequests, purpose: str
) -> list[RecordVerdict]:
    def build(part: Part) -> CrmRequest:
        return requests.delete(part, ids, purpose=purpose)

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        verdicts = read_results(part, response)
        # What is gone by now is gone, too.
        return [
            replace(item, verdict=Verdict.DELIVERED, crm_record_id=ids[item.outbox_id], explanation=None)
            if item.code in _GONE
            else item
            for item in verdicts
        ]

    return in_parts(records, courier=courier, build=build, read=read)


def _nothing(record: CrmRecord, code: str) -> RecordVerdict:
    return RecordVerdict(record.outbox_id, Verdict.DELIVERED, code=code)


def _erased(verdict: RecordVerdict) -> RecordVerdict:
    return replace(verdict, code=IN_RECYCLE_BIN, explanation=_RECYCLE_BIN)


def _merged_away(record: CrmRecord, found: Found) -> RecordVerdict:
    survivor = found.master_id or found.crm_record_id
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="MERGED_AWAY",
        holder_id=survivor,
        explanation=f"record {record.crm_record_id} was merged into {survivor}, or is another contact's, in "
        "Salesforce: if that is the same person, delete it there; then discard",
    )
