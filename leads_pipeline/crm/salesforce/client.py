"""Salesforce leads or contacts: upsert by an external id that holds our contact id, one verdict per record.

Requests and answers as Salesforce documents and sends them; how an answer is read stands in ``answers``. Up to 200
records go in one call of the collections resource, which refuses single records and writes the others
(``allOrNone: false``), in the order in which they were sent. Many at once go as a job of Bulk API 2.0 (``bulk``).
"""

from collections.abc import Sequence
from functools import partial

from leads_pipeline.config import SalesforceSettings
from leads_pipeline.crm import linking, sending
from leads_pipeline.crm.erasing import erase_all
from leads_pipeline.crm.parts import renewing
from leads_pipeline.crm.port import (
    Courier,
    CrmRecord,
    CrmRequest,
    CrmResponse,
    JobState,
    JobTraits,
    RecordVerdict,
    Traits,
    Verdict,
)
from leads_pipeline.crm.salesforce import bulk, removing
from leads_pipeline.crm.salesforce.answers import refusal_of, response_of
from leads_pipeline.crm.salesforce.linking import SalesforceRecords
from leads_pipeline.crm.salesforce.parents import PARENT_FIELD, ParentTurns, parents_of
from leads_pipeline.crm.salesforce.requests import SalesforceRequests
from leads_pipeline.crm.salesforce.schema import schema_of
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import AccessTokens, TokenStore
from leads_pipeline.outbound.jwt_bearer import JwtBearer
from leads_pipeline.outbound.token_grants import ClientCredentials, TokenGrant
from leads_pipeline.outbound.transport import Transport

MAX_BATCH = 200
# What Salesforce demands of a new record.
REQUIRED_FIELDS = {"Lead": ("LastName", "Company"), "Contact": ("LastName",)}
_TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - an address, no password


class Salesforce:
    """One Salesforce org, as ``CrmClient`` and ``JobClient``."""

    def __init__(self, transport: Transport, *, requests: SalesforceRequests, job_traits: JobTraits) -> None:
        self._transport = transport
        self._job_traits = job_traits
        self._requests = requests
        self._turns = ParentTurns()

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``. An upsert may turn out to create the record, which needs the required fields."""
        return Traits(
            max_batch=MAX_BATCH,
            partial_updates=True,
            operations=frozenset(Operation),
            always_sent=frozenset(self._requests.required),
        )

    @property
    def job_traits(self) -> JobTraits:
        """See ``JobClient.job_traits``."""
        return self._job_traits

    def advance(
        self, job: JobState, records: Sequence[CrmRecord], *, courier: Courier, overdue: bool
    ) -> JobState | list[RecordVerdict]:
        """See ``JobClient.advance``."""
        return bulk.advance(job, records, courier=renewing(courier), requests=self._requests, overdue=overdue)

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request as it is."""
        return sending.send(self._transport, request, read=response_of)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """See ``CrmClient.describe``."""
        response = renewing(courier)(self._requests.describe())
        refusal = refusal_of(response)
        schema = schema_of(response.body)
        if refusal is None and schema.fields:
            return schema
        refused = refusal is not None and refusal.verdict is Verdict.AUTH
        raise CrmError(
            f"Salesforce did not tell the fields of {self._requests.object_type} "
            f"({refusal.code if refusal else 'EMPTY_ANSWER'}); "
            + (
                (refusal.explanation if refusal is not None else None) or "let the integration's user see the object"
                if refused
                else "ask again later"
            )
        )

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Upsert, delete or erase; see ``CrmClient.deliver``."""
        match records[0].operation:
            case Operation.UPSERT:
                # Records of one parent side by side: Salesforce writes in chunks, and locks a chunk's parents.
                in_order = sorted(records, key=lambda record: str(record.properties.get(PARENT_FIELD) or ""))
                with self._turns.turn(parents_of(records)):
                    return linking.upsert(in_order, SalesforceRecords(courier, self._requests))
            case Operation.ARCHIVE:
                return removing.archive(records, courier=courier, requests=self._requests)
            case Operation.ERASE:
                erase = partial(removing.erase, courier=courier, requests=self._requests)
                return erase_all(records, erase)


def build(settings: SalesforceSettings, tokens: TokenStore) -> Salesforce:
    """The client of one org; the caller closes it.

    Raises:
        ConfigError: a secret's environment variable is not set, or the private key is none.
    """
    credentials = AccessTokens(
        _grant(settings),
        account=settings.account,
        store=tokens,
        timeout_seconds=settings.timeout_seconds,
        base_url_in="instance_url",
        advice="check the connected app's consumer key, its secret or certificate, and its run-as user",
    )
    transport = Transport(
        settings.base_url,
        credentials=credentials,
        timeout_seconds=settings.timeout_seconds,
        connections=settings.limits.in_flight,
    )
    requests = SalesforceRequests(
        api=f"/services/data/{settings.api_version}",
        object_type=settings.object_type,
        key=settings.key_property,
        required=REQUIRED_FIELDS[settings.object_type],
        placeholders=settings.placeholders,
    )
    jobs = settings.bulk
    job_traits = JobTraits(jobs.above, jobs.most, jobs.poll_seconds, jobs.deadline_seconds)
    return Salesforce(transport, requests=requests, job_traits=job_traits)


def _grant(settings: SalesforceSettings) -> TokenGrant:
    url = settings.base_url.rstrip("/") + _TOKEN_PATH
    if settings.jwt is not None:
        return JwtBearer(
            url, settings.client_id, settings.jwt.user, settings.jwt.audience, settings.jwt.private_key.resolve()
        )
    assert settings.client_secret is not None  # one of the two is given
    return ClientCredentials(url, settings.client_id, settings.client_secret.resolve())
