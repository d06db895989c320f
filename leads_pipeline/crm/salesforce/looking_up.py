"""Which record holds a key, and which key a record holds: by queries, as what we remember may be out of date."""

from collections.abc import Mapping, Sequence
from functools import partial

from leads_pipeline.crm import parts
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict
from leads_pipeline.crm.salesforce.answers import Found, not_reported, read_found, refusal_of
from leads_pipeline.crm.salesforce.requests import Ids, Part, SalesforceRequests

in_parts = partial(parts.in_parts, refusal_of=refusal_of)


def held(
    records: Part, *, courier: Courier, requests: SalesforceRequests
) -> tuple[dict[int, str], list[RecordVerdict]]:
    """The ids of what holds our keys now, by outbox id, and the verdicts of those that could not be looked up."""
    ids: dict[int, str] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        found = read_found(response, key_property=requests.key)
        if found is None:
            return not_reported(part)
        by_key = {item.key: item.crm_record_id for item in found}
        ids.update({r.outbox_id: by_key[str(r.contact_id)] for r in part if str(r.contact_id) in by_key})
        return []

    return ids, in_parts(records, courier=courier, build=requests.find_by_key, read=read)


def known(
    records: Part, ids: Ids, *, courier: Courier, requests: SalesforceRequests, deleted: bool = False
) -> tuple[dict[str, Found], list[RecordVerdict]]:
    """The records of ``ids`` that are there, by id, and the verdicts of those that could not be looked up."""
    records_found: dict[str, Found] = {}

    def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
        found = read_found(response, key_property=requests.key)
        if found is None:
            return not_reported(part)
        records_found.update({item.crm_record_id: item for item in found})
        return []

    def build(part: Part) -> CrmRequest:
        return requests.find_by_id(part, ids, deleted=deleted)

    return records_found, in_parts(records, courier=courier, build=build, read=read)


def left(records: Part, done: Mapping[int, object], verdicts: Sequence[RecordVerdict]) -> list[CrmRecord]:
    """Those that are neither among ``done`` nor settled."""
    settled = {verdict.outbox_id for verdict in verdicts}
    return [record for record in records if record.outbox_id not in done and record.outbox_id not in settled]
