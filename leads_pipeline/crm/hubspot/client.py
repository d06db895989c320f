"""HubSpot contacts: batch upsert by our own unique property, one verdict per record.

Requests and answers as HubSpot documents and sends them; how an answer is read stands in ``answers``. Three of its
habits shape this module. A batch is all-or-nothing unless every input carries its own ``objectWriteTraceId``, and
sometimes even then: a batch refused whole is halved until the poison stands alone. Results come in any order and may be
missing. A contact whose e-mail another CRM record holds is refused; if that record has no key of ours it is taken over,
because a sales person made it before we came.
"""

from collections.abc import Sequence
from functools import partial

from leads_pipeline.config import HubSpotSettings
from leads_pipeline.crm import linking
from leads_pipeline.crm.erasing import erase_all
from leads_pipeline.crm.hubspot import removing
from leads_pipeline.crm.hubspot.answers import refusal_of, response_of
from leads_pipeline.crm.hubspot.linking import HubSpotRecords
from leads_pipeline.crm.hubspot.requests import ContactRequests
from leads_pipeline.crm.hubspot.schema import schema_of
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Traits, Verdict
from leads_pipeline.crm.sending import send
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import TokenStore
from leads_pipeline.outbound.credentials import StaticKey
from leads_pipeline.outbound.transport import Transport

TRAITS = Traits(max_batch=100, partial_updates=True, operations=frozenset(Operation))


class HubSpot:
    """One HubSpot account, as ``CrmClient``."""

    def __init__(self, transport: Transport, *, api_prefix: str, key_property: str) -> None:
        self._transport = transport
        objects = api_prefix.rstrip("/")
        self._requests = ContactRequests(
            contacts=f"{objects}/contacts",
            properties=f"{objects.replace('/objects', '/properties')}/contacts",
            key=key_property,
        )

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``."""
        return TRAITS

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request as it is."""
        return send(self._transport, request, read=response_of)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """See ``CrmClient.describe``."""
        response = courier(self._requests.describe())
        refusal = refusal_of(response)
        schema = schema_of(response.body)
        if refusal is None and schema.fields:
            return schema
        refused = refusal is not None and refusal.verdict is Verdict.AUTH
        raise CrmError(
            f"HubSpot did not tell the properties of its contacts ({refusal.code if refusal else 'EMPTY_ANSWER'}); "
            + (_what_to_do(response) if refused else "ask again later")
        )

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Upsert, archive or erase; see ``CrmClient.deliver``."""
        match records[0].operation:
            case Operation.UPSERT:
                return linking.upsert(records, HubSpotRecords(courier, self._requests))
            case Operation.ARCHIVE:
                return removing.archive(records, courier=courier, requests=self._requests)
            case Operation.ERASE:
                erase = partial(removing.erase, courier=courier, requests=self._requests)
                return erase_all(records, erase)


def _what_to_do(refused: CrmResponse) -> str:
    if refused.status == 401:
        return "the token is none of the account's, or has ended: set a valid one"
    return "give the token the scope crm.schemas.contacts.read"


def build(settings: HubSpotSettings, _tokens: TokenStore | None = None) -> HubSpot:
    """The client of one account, whose token holds until a person changes it; the caller closes it.

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
