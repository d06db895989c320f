"""Which records of Zoho hold our keys, and which keys the records of known ids hold."""

from collections.abc import Sequence
from functools import partial

from leads_pipeline.crm import parts
from leads_pipeline.crm.port import Courier, CrmRecord, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.zoho.answers import (
    MANDATORY_NOT_FOUND,
    entries,
    entry_verdict,
    keys_held,
    not_reported,
    refusal_of,
    told_apart,
)
from leads_pipeline.crm.zoho.requests import Ids, Part, RecordRequests

in_parts = partial(parts.in_parts, refusal_of=refusal_of)

# What an upsert of the key alone is answered where nothing holds the key.
_NOT_THERE = MANDATORY_NOT_FOUND


def found_by_key(
    records: Part, *, courier: Courier, requests: RecordRequests
) -> tuple[dict[int, str], list[RecordVerdict]]:
    """The ids of what holds our keys, by outbox id, and the verdicts of those that could not be looked up."""
    ids: dict[int, str] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        told = entries(response.body)
        if len(told) != len(part):
            return [not_reported(record) for record in part]
        unknown = []
        verdicts = told_apart([entry_verdict(record, entry) for record, entry in zip(part, told, strict=True)])
        for record, verdict in zip(part, verdicts, strict=True):
            if verdict.verdict is Verdict.DELIVERED and verdict.crm_record_id is not None:
                ids[record.outbox_id] = verdict.crm_record_id
            elif verdict.code != _NOT_THERE:
                unknown.append(verdict if verdict.code is not None else not_reported(record))
        return unknown

    return ids, in_parts(records, courier=courier, build=requests.find, read=read)


def keys_of(
    records: Part, ids: Ids, *, courier: Courier, requests: RecordRequests
) -> tuple[dict[str, str], list[RecordVerdict]]:
    """The key that each record of ``ids`` holds, where it is there, and what kept us from knowing."""
    keys: dict[str, str] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        held = keys_held(response, key_property=requests.key)
        keys.update(held)
        # None of them is there: 204. An empty 200 says nothing.
        return [] if held or response.status == 204 else [not_reported(record) for record in part]

    return keys, in_parts(records, courier=courier, build=lambda part: requests.read(part, ids), read=read)


def left(records: Part, ids: Ids, verdicts: Sequence[RecordVerdict]) -> list[CrmRecord]:
    """Those that are neither found nor settled."""
    settled = {verdict.outbox_id for verdict in verdicts}
    return [record for record in records if record.outbox_id not in ids and record.outbox_id not in settled]
