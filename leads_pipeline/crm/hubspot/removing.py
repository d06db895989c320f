"""Contacts that HubSpot is to hold no longer: archived, let go, or erased for good.

The id that we remember is not enough. After somebody merged two records in the CRM an old id leads to the survivor, and
removing that would take away the wrong person; so what holds our key now is looked up first. Only what HubSpot says is
not there counts as gone, as an answer may be empty without a reason.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from leads_pipeline.crm import parts
from leads_pipeline.crm.hubspot.answers import (
    not_reported,
    read_batch,
    read_found,
    read_missing,
    read_one,
    refusal_of,
    refusal_of_one,
)
from leads_pipeline.crm.hubspot.requests import ContactRequests, Part
from leads_pipeline.crm.port import Courier, CrmRecord, CrmResponse, RecordVerdict, Verdict

_in_parts = partial(parts.in_parts, refusal_of=refusal_of)
_one_by_one = partial(parts.in_parts, refusal_of=refusal_of_one, largest=1)


def archive(records: Part, *, courier: Courier, requests: ContactRequests) -> list[RecordVerdict]:
    """Archive the records that we made. One that people made keeps everything but our key."""
    ids, verdicts = held(records, courier=courier, requests=requests)
    absent = _left(records, ids, verdicts)
    verdicts += [RecordVerdict(r.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_ARCHIVE") for r in absent]

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        if response.status == 204:
            return [RecordVerdict(r.outbox_id, Verdict.DELIVERED, crm_record_id=ids[r.outbox_id]) for r in part]
        return read_batch(part, response, key_property=requests.key, targets=ids)

    present = [record for record in records if record.outbox_id in ids]
    ours = [record for record in present if not record.taken_over]
    theirs = [record for record in present if record.taken_over]
    verdicts += _in_parts(ours, courier=courier, build=lambda part: requests.archive(part, ids), read=read)
    verdicts += _in_parts(theirs, courier=courier, build=lambda part: requests.unlink(part, ids), read=read)
    return verdicts


def erase(records: Part, *, courier: Courier, requests: ContactRequests) -> list[RecordVerdict]:
    """Erase what holds our key, or what we archived; whoever made it. A request for each, as HubSpot has no batch.

    A record that somebody merged into another one is not erased, as it may be another person's by now; the conflict
    names it. HubSpot refuses an erased address from then on.
    """
    ids, verdicts = held(records, courier=courier, requests=requests)
    for archived in (False, True):
        remembered = [record for record in _left(records, ids, verdicts) if record.crm_record_id]
        found, failed = _remembered(remembered, archived=archived, courier=courier, requests=requests)
        ids |= found
        verdicts += failed
    absent = _left(records, ids, verdicts)
    verdicts += [RecordVerdict(r.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_ERASE") for r in absent]

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        # What is gone by now (404) is gone, too.
        if response.status not in (204, 404):
            return not_reported(part)
        return [RecordVerdict(r.outbox_id, Verdict.DELIVERED, crm_record_id=ids[r.outbox_id]) for r in part]

    present = [record for record in records if record.outbox_id in ids]
    return verdicts + _one_by_one(
        present, courier=courier, build=lambda part: requests.erase(part[0], ids[part[0].outbox_id]), read=read
    )


def held(records: Part, *, courier: Courier, requests: ContactRequests) -> tuple[dict[int, str], list[RecordVerdict]]:
    """The ids of what holds our keys now, by outbox id, and the verdicts of those that could not be looked up."""
    ids: dict[int, str] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        found = {item.key: item.crm_record_id for item in read_found(response, key_property=requests.key)}
        ids.update({r.outbox_id: found[str(r.contact_id)] for r in part if str(r.contact_id) in found})
        missing = read_missing(response)
        return not_reported([r for r in part if r.outbox_id not in ids and str(r.contact_id) not in missing])

    return ids, _in_parts(records, courier=courier, build=requests.read_by_key, read=read)


def _remembered(
    records: Part, *, archived: bool, courier: Courier, requests: ContactRequests
) -> tuple[dict[int, str], list[RecordVerdict]]:
    """As ``_held``, by the ids that we remember: of what lost our key, or of what is archived."""
    ids: dict[int, str] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        [record], found = part, read_one(response, key_property=requests.key)
        if found is None:
            return [] if response.status == 404 else not_reported(part)
        if found.crm_record_id != record.crm_record_id or found.key not in ("", str(record.contact_id)):
            return [_merged_away(record, found.crm_record_id)]
        ids[record.outbox_id] = found.crm_record_id
        return []

    return ids, _one_by_one(
        records,
        courier=courier,
        build=lambda part: requests.read_one(part[0].crm_record_id or "", archived=archived),
        read=read,
    )


def _left(records: Part, ids: Mapping[int, str], verdicts: Sequence[RecordVerdict]) -> list[CrmRecord]:
    """Those that are neither found nor settled."""
    settled = {verdict.outbox_id for verdict in verdicts}
    return [record for record in records if record.outbox_id not in ids and record.outbox_id not in settled]


def _merged_away(record: CrmRecord, survivor_id: str) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="MERGED_AWAY",
        holder_id=survivor_id,
        explanation=f"record {record.crm_record_id} was merged into {survivor_id} in HubSpot: if that is the same "
        "person, delete it there, permanently; then discard",
    )
