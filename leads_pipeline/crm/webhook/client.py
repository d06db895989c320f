"""A receiver of signed events: an address that contacts are posted to, one event a request unless it takes more.

Events and answers as docs/destinations.md describes them to whoever writes the receiver; the signature, its time and
its id are those of standardwebhooks.com. Receivers tell no fields and hold no records that we could ask for.
"""

from collections.abc import Sequence
from dataclasses import replace

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import WebhookSettings
from leads_pipeline.crm import sending
from leads_pipeline.crm.parts import in_parts
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Traits
from leads_pipeline.crm.webhook.answers import read_results, refusal_of, response_of
from leads_pipeline.crm.webhook.events import request_about_nobody, request_of
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import TokenStore
from leads_pipeline.outbound.signing import StandardSigning, header_value, signing_key
from leads_pipeline.outbound.transport import Transport


class Webhook:
    """One receiver, as ``CrmClient``."""

    def __init__(self, transport: Transport, *, url: str, batch_size: int, clock: Clock) -> None:
        self._transport = transport
        self._url = url
        self._batches = batch_size > 1
        self._clock = clock
        self._traits = Traits(
            max_batch=batch_size, partial_updates=False, operations=frozenset(Operation), withdrawals=True
        )

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``."""
        return self._traits

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request, signed now. The books have a word in the address's stead."""
        return sending.send(
            self._transport,
            replace(request, path=self._url),
            read=lambda answer: response_of(answer, now=self._clock.now()),
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """A receiver takes whatever is mapped; whether it takes what we sign is tried with a request about nobody."""
        response = courier(request_about_nobody(self._clock.now(), batches=self._batches))
        refusal = refusal_of(response)
        if refusal is not None:
            advice = refusal.explanation or "ask again later"
            raise CrmError(f"the receiver did not take a test ({refusal.code}): {advice}")
        return DestinationSchema({}, is_open=True)

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Post an event for each record; see ``CrmClient.deliver``."""
        return in_parts(
            records,
            courier=courier,
            build=lambda part: request_of(part, batches=self._batches),
            read=lambda part, response: read_results(part, response, batches=self._batches),
            refusal_of=refusal_of,
            largest=self._traits.max_batch,
        )


def build(settings: WebhookSettings, _tokens: TokenStore, *, clock: Clock | None = None) -> Webhook:
    """The client of one receiver; the caller closes it.

    Raises:
        ConfigError: a secret's environment variable is not set, or what it holds is none or cannot be sent.
    """
    clock = clock or SystemClock()
    references = [settings.secret, *([settings.previous_secret] if settings.previous_secret else [])]
    keys = [signing_key(reference.resolve(), variable=reference.env) for reference in references]
    headers = {name: header_value(item.resolve(), variable=item.env) for name, item in settings.headers.items()}
    transport = Transport(
        settings.url,
        credentials=StandardSigning(keys, headers=headers, clock=clock),
        timeout_seconds=settings.timeout_seconds,
        connections=settings.limits.in_flight,
    )
    return Webhook(transport, url=settings.url, batch_size=settings.batch_size, clock=clock)
