"""Salesforce, as the sandbox's frame plays it: its doors, its headers and its operations."""

from collections.abc import Callable
from functools import partial

from leads_pipeline.crm.sandbox.limits import API, AccountLimits, Admission
from leads_pipeline.crm.sandbox.options import Window
from leads_pipeline.crm.sandbox.salesforce import oauth
from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault, WholeRefused, refused
from leads_pipeline.crm.sandbox.salesforce.calls import Call, Kept, Org
from leads_pipeline.crm.sandbox.salesforce.endpoints import ENDPOINTS, NO_SUCH_ADDRESS, Endpoint
from leads_pipeline.crm.sandbox.salesforce.options import LONG_SECONDS, SalesforceOptions
from leads_pipeline.crm.sandbox.salesforce.store import RecordStore
from leads_pipeline.crm.sandbox.vendor import Incoming, PlayedEndpoint, Shared, ShownContact, StoredContact, Tally
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline.telemetry import get_logger

_logger = get_logger(__name__)

_LIMIT = "REQUEST_LIMIT_EXCEEDED"
# status, code, message. The messages of limits are as many have seen them; others are from memory.
_REFUSALS: dict[FaultKind, tuple[int, str, str]] = {
    FaultKind.REFUSED_400: (400, "INVALID_INPUT", "This request was refused by a fault rule of the sandbox"),
    FaultKind.HTTP_429: (403, _LIMIT, "ConcurrentPerOrgLongTxn Limit exceeded."),
    FaultKind.QUOTA_SPENT: (403, _LIMIT, "TotalRequests Limit exceeded."),
    FaultKind.AUTH: (401, "INVALID_SESSION_ID", "Session expired or invalid"),
    FaultKind.FORBIDDEN_403: (403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."),
    FaultKind.LOCKED_423: (
        400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record or 1 records",
    ),
    FaultKind.HTTP_500: (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."),
    FaultKind.HTTP_502: (502, "UNKNOWN_EXCEPTION", "Bad gateway"),
    FaultKind.HTTP_503: (503, "SERVER_UNAVAILABLE", "Server too busy"),
}  # fmt: skip
FAULTS = (
    FaultKind.SLOW,
    *_REFUSALS,
    FaultKind.TIMEOUT,
    FaultKind.RESET_CONNECTION,
    FaultKind.SILENT_200,
    FaultKind.WRITTEN_THEN_500,
    FaultKind.WRITTEN_THEN_RESET,
    FaultKind.WRITTEN_THEN_TIMEOUT,
    FaultKind.PER_RECORD_ERROR,
    FaultKind.UNREPORTED,
)


class PlayedSalesforce:
    """One org, as ``PlayedVendor``."""

    def __init__(self, options: SalesforceOptions) -> None:
        self._options = options
        self._store = RecordStore(options.store, key_property=options.key_property)
        self._kept = Kept()
        self.faults = FAULTS
        self.endpoints = (*(self._played(endpoint) for endpoint in ENDPOINTS), oauth.ENDPOINT)
        self.elsewhere = self._played(NO_SUCH_ADDRESS)
        self.tally: Callable[[], Tally] = self._store.tally
        self.writes = self._store.writes
        self.close = self._store.close

    def clear(self) -> None:
        self._store.clear()
        self._kept = Kept()

    def limits(self) -> AccountLimits:
        return AccountLimits(
            {API: self._options.windows},
            daily=self._options.daily,
            time_zone=self._options.time_zone,
            long_calls=Window(self._options.long_calls, LONG_SECONDS),
        )

    def token_of(self, incoming: Incoming) -> str | None:
        """A secret of a connected app opens nothing by itself."""
        scheme, _, token = incoming.headers.get("authorization", "").partition(" ")
        secrets = (self._options.token, *self._options.other_tokens)
        return token.strip() if scheme.lower() in ("bearer", "oauth") and token.strip() not in secrets else None

    def unauthorized(self, _incoming: Incoming) -> Answer:
        return refused(*_REFUSALS[FaultKind.AUTH])

    def over_limit(self, _incoming: Incoming, admission: Admission) -> Answer:
        """A 403 whose code says what it is; no answer says how long to wait."""
        kind = FaultKind.HTTP_429 if admission.too_many_at_once else FaultKind.QUOTA_SPENT
        return refused(*_REFUSALS[kind])

    def fault(self, kind: FaultKind, _incoming: Incoming, _admission: Admission) -> Answer:
        if kind is FaultKind.SILENT_200:
            return Answer(200, [])
        return refused(*_REFUSALS.get(kind, _REFUSALS[FaultKind.HTTP_500]))

    def headers(self, _incoming: Incoming, admission: Admission | None) -> dict[str, str]:
        """What is used of the limit, on every answer behind the token; refused ones too (uncertain)."""
        if admission is None or admission.tightest is None:
            return {}
        most = admission.tightest.window.most
        assert most is not None  # what is tight has a limit
        return {"Sforce-Limit-Info": f"api-usage={most - admission.tightest.remaining}/{most}"}

    def newest(self, limit: int) -> list[ShownContact]:
        return [
            ShownContact(
                crm_record_id=item.id,
                name=str(item.shown()["Name"]),
                email=_text(item.values.get("Email")),
                phone=_text(item.values.get("Phone")),
                company=_text(item.values.get("Company")),
                written_at=item.updated_at,
                archived=item.deleted_at is not None,
            )
            for item in self._store.newest(limit)
        ]

    def page(self, *, after: int, limit: int, archived: bool) -> list[StoredContact]:
        found = self._store.page(after=after, limit=limit, archived=archived)
        return [
            StoredContact(item.number, item.id, {name: str(value) for name, value in item.values.items()})
            for item in found
        ]

    def _played(self, endpoint: Endpoint) -> PlayedEndpoint:
        paths = tuple(endpoint.prefix + path for path in endpoint.paths)
        operation = partial(self._operate, endpoint)
        limited_as = API if endpoint.is_limited else None
        return PlayedEndpoint(endpoint.name, endpoint.method, paths, operation, limited_as)

    def _operate(self, endpoint: Endpoint, shared: Shared, incoming: Incoming) -> Answer:
        if incoming.body is None:
            return refused(413, "REQUEST_TOO_LARGE", "The body is larger than the sandbox takes")
        org = Org(
            self._options, self._store, shared.limits, shared.faults, shared.observations, shared.random, self._kept
        )
        try:
            return endpoint.operation(Call(org, endpoint.name, incoming, incoming.body))
        except WholeRefused as whole:
            return whole.answer
        except RecordFault as fault:
            return fault.answer()
        except Exception:
            _logger.exception("sandbox_operation_failed", endpoint=endpoint.name)
            return refused(*_REFUSALS[FaultKind.HTTP_500])


def _text(value: object) -> str | None:
    return None if value is None else str(value)
