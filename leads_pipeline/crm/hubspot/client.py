"""HubSpot contacts: batch upsert by our own unique property, one verdict per record.

Requests and answers as HubSpot documents and sends them; how an answer is read stands in ``answers``. Three of its
habits shape this module. A batch is all-or-nothing unless every input carries its own ``objectWriteTraceId``, and
sometimes even then: a batch refused whole is halved until the poison stands alone. Results come in any order and may be
missing. A contact whose e-mail another CRM record holds is refused; if that record has no key of ours it is taken over,
because a sales person made it before we came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from leads_pipeline.config import HubSpotSettings
from leads_pipeline.crm import parts
from leads_pipeline.crm.hubspot.answers import existing_id, read_batch, read_found, refusal_of, response_of, trace_id
from leads_pipeline.crm.hubspot.schema import schema_of
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Traits, Verdict
from leads_pipeline.domain.delivery import PropertyValue
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.credentials import StaticKey
from leads_pipeline.outbound.transport import Transport

TRAITS = Traits(max_batch=100, partial_updates=True, operations=frozenset({Operation.UPSERT, Operation.ARCHIVE}))

_in_parts = partial(parts.in_parts, refusal_of=refusal_of)


@dataclass(frozen=True, slots=True)
class _Linked:
    """A record of ours and the CRM record that it is to take over."""

    record: CrmRecord
    target_id: str


class HubSpot:
    """One HubSpot account, as ``CrmClient``."""

    def __init__(self, transport: Transport, *, api_prefix: str, key_property: str) -> None:
        self._transport = transport
        self._contacts = f"{api_prefix.rstrip('/')}/contacts/batch"
        self._properties = f"{api_prefix.rstrip('/').replace('/objects', '/properties')}/contacts"
        self._key = key_property

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``."""
        return TRAITS

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request as it is."""
        return response_of(self._transport.send(request.method, request.path, query=request.query, body=request.body))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """See ``CrmClient.describe``."""
        response = courier(CrmRequest(purpose="describe", method="GET", path=self._properties, records=0))
        refusal = refusal_of(response)
        schema = schema_of(response.body)
        if refusal is None and schema.fields:
            return schema
        refused = refusal is not None and refusal.verdict is Verdict.AUTH
        raise CrmError(
            f"HubSpot did not tell the properties of its contacts ({refusal.code if refusal else 'EMPTY_ANSWER'}); "
            + ("give the token the scope crm.schemas.contacts.read" if refused else "ask again later")
        )

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Upsert or archive; see ``CrmClient.deliver``."""
        match records[0].operation:
            case Operation.UPSERT:
                return self._upsert(records, courier=courier)
            case Operation.ARCHIVE:
                return self._archive(records, courier=courier)
            case Operation.ERASE:
                return parts.unsupported(records, vendor="HubSpot", advice="delete it in HubSpot, permanently")

    def _upsert(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        def read(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
            return read_batch(part, response, key_property=self._key)

        verdicts = _in_parts(records, courier=courier, build=self._upsert_request, read=read)
        by_id = {record.outbox_id: record for record in records}
        linked: list[_Linked] = []
        for verdict in verdicts:
            target = existing_id(verdict) if verdict.verdict is Verdict.CONFLICT else None
            record = by_id[verdict.outbox_id]
            # With a CRM record of its own already, taking over a second one would leave two for one person. The
            # conflict mostly ends by itself: the other record gets its new e-mail, or is archived, in a later batch.
            if target and record.crm_record_id is None and target not in {item.target_id for item in linked}:
                linked.append(_Linked(record, target))
        if not linked:
            return verdicts
        settled = {verdict.outbox_id: verdict for verdict in self._link(linked, courier=courier)}
        return [settled.get(verdict.outbox_id, verdict) for verdict in verdicts]

    def _link(self, linked: Sequence[_Linked], *, courier: Courier) -> list[RecordVerdict]:
        """Take over the CRM records that hold no key of ours. Only what changed its verdict is returned."""
        targets = {item.record.outbox_id: item.target_id for item in linked}
        keys: dict[str, str] = {}

        def look_up(part: Sequence[CrmRecord]) -> CrmRequest:
            body = {"inputs": [{"id": targets[record.outbox_id]} for record in part], "properties": [self._key]}
            return self._request("look_up", "read", body, part)

        def read_keys(_part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
            keys.update({found.crm_record_id: found.key for found in read_found(response, key_property=self._key)})
            return []

        def update(part: Sequence[CrmRecord]) -> CrmRequest:
            inputs = [{"id": targets[record.outbox_id], **self._input(record)} for record in part]
            return self._request("link", "update", {"inputs": inputs}, part)

        def read_update(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
            verdicts = read_batch(part, response, key_property=self._key, targets=targets)
            return [replace(item, linked=item.verdict is Verdict.DELIVERED) for item in verdicts]

        records = [item.record for item in linked]
        failed = _in_parts(records, courier=courier, build=look_up, read=read_keys)
        free = [record for record in records if keys.get(targets[record.outbox_id]) in ("", str(record.contact_id))]
        # A failed look-up leaves the conflict standing: it is tried again with the record's next attempt.
        parked = [verdict for verdict in failed if verdict.verdict in (Verdict.THROTTLED, Verdict.AUTH)]
        return parked + (_in_parts(free, courier=courier, build=update, read=read_update) if free else [])

    def _archive(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Archive what holds our key now.

        The id that we remember is not enough: after somebody merged two records in the CRM, an old id leads to the
        survivor, and archiving that would take away the wrong person.
        """
        ids: dict[int, str] = {}

        def look_up(part: Sequence[CrmRecord]) -> CrmRequest:
            inputs = [{"id": str(record.contact_id)} for record in part]
            body = {"idProperty": self._key, "inputs": inputs, "properties": [self._key]}
            return self._request("look_up", "read", body, part)

        def read_ids(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
            found = {item.key: item.crm_record_id for item in read_found(response, key_property=self._key)}
            for record in part:
                if str(record.contact_id) in found:
                    ids[record.outbox_id] = found[str(record.contact_id)]
            absent = [record for record in part if record.outbox_id not in ids]
            return [RecordVerdict(record.outbox_id, Verdict.DELIVERED, code="NOTHING_TO_ARCHIVE") for record in absent]

        def archive(part: Sequence[CrmRecord]) -> CrmRequest:
            return self._request("archive", "archive", {"inputs": [{"id": ids[r.outbox_id]} for r in part]}, part)

        def read_archive(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
            if response.status == 204:
                return [RecordVerdict(r.outbox_id, Verdict.DELIVERED, crm_record_id=ids[r.outbox_id]) for r in part]
            return read_batch(part, response, key_property=self._key, targets=ids)

        verdicts = _in_parts(records, courier=courier, build=look_up, read=read_ids)
        present = [record for record in records if record.outbox_id in ids]
        return verdicts + (_in_parts(present, courier=courier, build=archive, read=read_archive) if present else [])

    def _upsert_request(self, part: Sequence[CrmRecord]) -> CrmRequest:
        inputs = [
            {"id": str(record.contact_id), "idProperty": self._key, **self._input(record)} for record in part
        ]  # fmt: skip
        return self._request("upsert", "upsert", {"inputs": inputs}, part)

    def _input(self, record: CrmRecord) -> dict[str, Any]:
        properties = {name: _text(value) for name, value in record.properties.items()}
        properties[self._key] = str(record.contact_id)
        return {"properties": properties, "objectWriteTraceId": trace_id(record)}

    def _request(self, purpose: str, verb: str, body: Mapping[str, Any], part: Sequence[CrmRecord]) -> CrmRequest:
        return CrmRequest(purpose=purpose, method="POST", path=f"{self._contacts}/{verb}", body=body, records=len(part))


def build(settings: HubSpotSettings) -> HubSpot:
    """The client of one account; the caller closes it.

    Raises:
        ConfigError: the token's environment variable is not set, or the token cannot be sent.
    """
    transport = Transport(
        settings.base_url,
        credentials=StaticKey(settings.token.resolve(), base_url=settings.base_url),
        timeout_seconds=settings.timeout_seconds,
        connections=settings.limits.in_flight,
    )
    return HubSpot(transport, api_prefix=settings.api_prefix, key_property=settings.key_property)


def _text(value: PropertyValue) -> str:
    """HubSpot takes every value as text; an empty one clears the property."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
