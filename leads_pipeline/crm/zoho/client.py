"""Records of a module of Zoho CRM: batch upsert by our own unique field, one verdict per record.

Zoho answers for each record in the order in which they were sent, so nothing has to be correlated; and a batch that
holds a bad record is written but for that one. ``trigger: []`` keeps Zoho's workflows from running for each of our
writes. Only our key is compared (``duplicate_check_fields``): by an address, which people share, one contact would
become another. Where the module's Email is unique, a record that people made is taken over; else there will be two.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import ZohoSettings
from leads_pipeline.crm import linking, sending
from leads_pipeline.crm.erasing import erase_all
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Traits, Verdict
from leads_pipeline.crm.zoho import removing
from leads_pipeline.crm.zoho.answers import reason, refusal_of, response_of, token_ended
from leads_pipeline.crm.zoho.linking import ZohoRecords
from leads_pipeline.crm.zoho.requests import LAST_NAME, RecordRequests
from leads_pipeline.crm.zoho.schema import schema_of
from leads_pipeline.crm.zoho.throttling import Backoff
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import AccessTokens, TokenStore
from leads_pipeline.outbound.retry_after import retry_after_seconds
from leads_pipeline.outbound.token_grants import RefreshToken
from leads_pipeline.outbound.transport import HttpAnswer, Transport

TRAITS = Traits(
    max_batch=100,
    partial_updates=True,
    operations=frozenset(Operation),
    always_sent=frozenset({LAST_NAME}),  # the upsert may have to make the record anew
)
# What a person does who reads that Zoho gives no token.
_ADVICE = (
    "check data_centre and client_id, and make a new refresh token of the self client in Zoho's API console, with the "
    "scopes that docs/destinations.md names"
)


class Zoho:
    """One module of one organisation, as ``CrmClient``."""

    def __init__(self, transport: Transport, *, requests: RecordRequests, clock: Clock | None = None) -> None:
        self._transport = transport
        self._clock = clock or SystemClock()
        self._requests = requests
        self._backoff = Backoff()

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``."""
        return replace(TRAITS, always_sent=TRAITS.always_sent | self._requests.if_unknown.keys())

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request as it is."""
        return sending.send(self._transport, request, read=self._read)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """See ``CrmClient.describe``."""
        response = courier(self._requests.describe())
        refusal = refusal_of(response)
        schema = schema_of(response.body)
        if refusal is None and schema.fields:
            return self._without_what_is_put_in(schema)
        refused = refusal is not None and refusal.verdict is Verdict.AUTH
        raise CrmError(
            f"Zoho did not tell the fields of {self._requests.module} ({reason(response)}); "
            + (
                (refusal.explanation if refusal is not None else None)
                or "make a refresh token with the scope ZohoCRM.settings.fields.READ"
                if refused
                else "ask again later"
            )
        )

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Upsert, archive or erase; see ``CrmClient.deliver``."""
        match records[0].operation:
            case Operation.UPSERT:
                return linking.upsert(records, ZohoRecords(courier, self._requests))
            case Operation.ARCHIVE:
                return removing.archive(records, courier=courier, requests=self._requests)
            case Operation.ERASE:
                erase = partial(removing.erase, courier=courier, requests=self._requests)
                return erase_all(records, erase)

    def _without_what_is_put_in(self, schema: DestinationSchema) -> DestinationSchema:
        """Where leads.yaml says what to put in its place, a mandatory field need not be mapped."""
        put_in = self._requests.if_unknown
        return DestinationSchema(
            {name: replace(item, required=item.required and name not in put_in) for name, item in schema.fields.items()}
        )

    def _read(self, answer: HttpAnswer) -> CrmResponse:
        if answer.status != 429:
            self._backoff.passed()
        asked = retry_after_seconds(answer.headers.get("retry-after"), now=self._clock.now())
        return response_of(answer, pause_after_429=self._backoff.refused, asked_pause=asked)


def build(settings: ZohoSettings, tokens: TokenStore) -> Zoho:
    """The client of one organisation; the caller closes it. Its first request fetches an access token.

    Raises:
        ConfigError: a secret's environment variable is not set.
    """
    grant = RefreshToken(
        settings.token_url(), settings.client_id, settings.client_secret.resolve(), settings.refresh_token.resolve()
    )
    credentials = AccessTokens(
        grant,
        account=settings.account,
        store=tokens,
        timeout_seconds=settings.timeout_seconds,
        scheme="Zoho-oauthtoken",
        base_url_in="api_domain" if settings.base_url is None else None,
        ended=token_ended,
        advice=_ADVICE,
    )
    transport = Transport(
        settings.api_url(),
        credentials=credentials,
        timeout_seconds=settings.timeout_seconds,
        connections=settings.limits.in_flight,
    )
    requests = RecordRequests(
        f"/crm/{settings.api_version}", settings.module, settings.key_property, settings.if_unknown
    )
    return Zoho(transport, requests=requests)
