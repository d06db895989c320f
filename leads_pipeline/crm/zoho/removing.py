"""Contacts that Zoho is to hold no longer: put into the recycle bin, let go, or erased for good.

What holds our key now is looked up first: the record that we remember may be somebody else's by now.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from leads_pipeline.crm.port import Courier, CrmRecord, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.zoho.answers import entries, entry_verdict, not_reported, read_batch, told_apart
from leads_pipeline.crm.zoho.looking_up import found_by_key, in_parts, keys_of, left
from leads_pipeline.crm.zoho.requests import Ids, Part, RecordRequests

# What Zoho says of an id that is not there, or is not in the recycle bin.
_GONE = frozenset({"INVALID_DATA", "NOT_FOUND", "NO_RECORDS_FOUND", "NO_CONTENT"})
_OF_AN_ID = re.compile(r"\bids?\b")
# The recycle bin has a scope of its own, and may be for administrators only.
_NO_RIGHT = frozenset({"AUTHORIZATION_FAILED", "NO_PERMISSION", "OAUTH_SCOPE_MISMATCH"})
_STILL_IN_THE_BIN = (
    "deleted, and still in Zoho's recycle bin for 60 days: take it out there; or make a refresh token with the scope "
    "ZohoCRM.settings.recycle_bin.DELETE as an administrator, and redrive"
)


def archive(records: Part, *, courier: Courier, requests: RecordRequests) -> list[RecordVerdict]:
    """Delete the records that we made; for 60 days people can take them out of the recycle bin.

    One that people made keeps everything but our key.
    """
    ids, verdicts = found_by_key(records, courier=courier, requests=requests)
    absent = left(records, ids, verdicts)
    verdicts += [RecordVerdict(r.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_ARCHIVE") for r in absent]
    present = [record for record in records if record.outbox_id in ids]
    ours = [record for record in present if not record.taken_over]
    theirs = [record for record in present if record.taken_over]
    verdicts += _delete(ours, ids, courier=courier, requests=requests, purpose="archive")
    verdicts += in_parts(theirs, courier=courier, build=lambda part: requests.unlink(part, ids), read=read_batch)
    return verdicts


def erase(records: Part, *, courier: Courier, requests: RecordRequests) -> list[RecordVerdict]:
    """Delete what holds our key, whoever made it, and take it out of the recycle bin; also what we had deleted before.

    Zoho has no call that erases a person: its audit log and whatever was exported keep what they hold.
    """
    ids, verdicts = found_by_key(records, courier=courier, requests=requests)
    remembered = {r.outbox_id: r.crm_record_id for r in left(records, ids, verdicts) if r.crm_record_id}
    looked_up = [record for record in records if record.outbox_id in remembered]
    keys, failed = keys_of(looked_up, remembered, courier=courier, requests=requests)
    verdicts += failed
    for record in left(looked_up, ids, verdicts):
        key = keys.get(remembered[record.outbox_id])
        if key:
            verdicts.append(_of_another_contact(record, remembered[record.outbox_id], key))
        elif key is not None:
            ids[record.outbox_id] = remembered[record.outbox_id]
    living = [record for record in records if record.outbox_id in ids]
    kept = [
        verdict
        for verdict in _delete(living, ids, courier=courier, requests=requests, purpose="erase")
        if verdict.verdict is not Verdict.DELIVERED
    ]
    verdicts += kept
    binned = _binned(records, ids, remembered, settled={verdict.outbox_id for verdict in verdicts})
    verdicts += [
        RecordVerdict(record.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_ERASE")
        for record in left(records, binned, verdicts)
    ]
    gone = [record for record in records if record.outbox_id in binned]
    purged = in_parts(gone, courier=courier, build=lambda part: requests.purge(part, binned), read=_removed)
    return verdicts + [replace(_purged(verdict), crm_record_id=binned[verdict.outbox_id]) for verdict in purged]


def _binned(records: Part, ids: Ids, remembered: Ids, *, settled: set[int]) -> dict[int, str]:
    """What is to leave the recycle bin: what was deleted just now, or what we remember and is nowhere else."""
    found = {record.outbox_id: ids.get(record.outbox_id) or remembered.get(record.outbox_id) for record in records}
    return {outbox_id: item for outbox_id, item in found.items() if item is not None and outbox_id not in settled}


def _delete(
    records: Part, ids: Ids, *, courier: Courier, requests: RecordRequests, purpose: str
) -> list[RecordVerdict]:
    return in_parts(
        records, courier=courier, build=lambda part: requests.delete(part, ids, purpose=purpose), read=_removed
    )


def _removed(part: Part, response: CrmResponse) -> list[RecordVerdict]:
    """One verdict for each record; what is gone by now is gone, too."""
    told = entries(response.body)
    if len(told) != len(part):
        return [not_reported(record) for record in part]
    return told_apart([_gone(record, entry) for record, entry in zip(part, told, strict=True)])


def _purged(verdict: RecordVerdict) -> RecordVerdict:
    """What became of a record in the recycle bin.

    An id that is not there is refused whole, alone as with others. A right that is missing for this call alone is no
    reason to leave the destination alone.
    """
    if verdict.code in _GONE and verdict.verdict is Verdict.INVALID and _OF_AN_ID.search(verdict.explanation or ""):
        return RecordVerdict(verdict.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_REMOVE")
    if verdict.verdict is Verdict.AUTH and verdict.code in _NO_RIGHT:
        return replace(verdict, verdict=Verdict.INVALID, explanation=_STILL_IN_THE_BIN)
    return verdict


def _gone(record: CrmRecord, entry: Mapping[str, object]) -> RecordVerdict:
    verdict = entry_verdict(record, entry)
    if verdict.code in _GONE:
        return RecordVerdict(record.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_REMOVE")
    return verdict


def _of_another_contact(record: CrmRecord, crm_record_id: str, key: str) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="OF_ANOTHER_CONTACT",
        holder_id=crm_record_id,
        explanation=f"Zoho's record {crm_record_id} holds the key of contact {key} by now: if that is the same person, "
        "delete it there and empty the recycle bin; then discard",
    )
