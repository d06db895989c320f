"""HubSpot, as the sandbox's frame plays it: its doors, its headers and its operations."""

from collections.abc import Callable
from functools import partial

from leads_pipeline.crm.sandbox.hubspot import oauth
from leads_pipeline.crm.sandbox.hubspot.answers import Policy, batch_answer, failure, too_many_requests
from leads_pipeline.crm.sandbox.hubspot.calls import Account, Call, Refused
from leads_pipeline.crm.sandbox.hubspot.endpoints import CONTACTS, ENDPOINTS, NO_SUCH_ADDRESS, SEARCH, Endpoint
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.hubspot.store import ContactStore
from leads_pipeline.crm.sandbox.limits import API, AccountLimits, Admission
from leads_pipeline.crm.sandbox.options import Window
from leads_pipeline.crm.sandbox.vendor import Incoming, PlayedEndpoint, Shared, ShownContact, StoredContact, Tally
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline.sandbox.gate import MAX_BODY_BYTES
from leads_pipeline.telemetry import get_logger

_logger = get_logger(__name__)

FAULTS = (
    FaultKind.SLOW,
    FaultKind.REFUSED_400,
    FaultKind.HTTP_500,
    FaultKind.HTTP_502,
    FaultKind.HTTP_503,
    FaultKind.HTTP_429,
    FaultKind.QUOTA_SPENT,
    FaultKind.AUTH,
    FaultKind.FORBIDDEN_403,
    FaultKind.LOCKED_423,
    FaultKind.TIMEOUT,
    FaultKind.RESET_CONNECTION,
    FaultKind.SILENT_200,
    FaultKind.WRITTEN_THEN_500,
    FaultKind.WRITTEN_THEN_RESET,
    FaultKind.WRITTEN_THEN_TIMEOUT,
    FaultKind.PER_RECORD_ERROR,
    FaultKind.UNREPORTED,
)
# status, message, category
_FAILURES: dict[FaultKind, tuple[int, str, str | None]] = {
    FaultKind.REFUSED_400: (400, "This request was refused by a fault rule of the sandbox", "VALIDATION_ERROR"),
    FaultKind.HTTP_500: (500, "internal error", None),
    FaultKind.HTTP_502: (502, "Bad gateway", None),
    FaultKind.HTTP_503: (503, "Service unavailable", None),
    FaultKind.AUTH: (401, "The token that was used is expired or revoked", "INVALID_AUTHENTICATION"),
    FaultKind.FORBIDDEN_403: (403, "This app lacks a scope that the call needs", "MISSING_SCOPES"),
    FaultKind.LOCKED_423: (423, "The resource is locked", None),
}


class PlayedHubSpot:
    """One HubSpot account, as ``PlayedVendor``."""

    def __init__(self, options: HubSpotOptions) -> None:
        self._options = options
        self._store = ContactStore(
            options.store, key_property=options.key_property, custom_properties=options.custom_properties
        )
        self.faults = FAULTS
        self.endpoints = (*(self._played(endpoint) for endpoint in ENDPOINTS), oauth.ENDPOINT)
        self.elsewhere = self._played(NO_SUCH_ADDRESS)
        self.tally: Callable[[], Tally] = self._store.tally
        self.writes = self._store.writes
        self.clear = self._store.clear
        self.close = self._store.close

    def limits(self) -> AccountLimits:
        """Search has its own limit and stays out of the others."""
        search = Window(self._options.search_per_second, 1.0)
        classes = {API: self._options.windows, SEARCH: (search,)}
        return AccountLimits(classes, daily=self._options.daily, time_zone=self._options.time_zone)

    def token_of(self, incoming: Incoming) -> str | None:
        scheme, _, token = incoming.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    def unauthorized(self, incoming: Incoming) -> Answer:
        message = "Authentication credentials not found or not valid"
        return failure(401, message, category="INVALID_AUTHENTICATION", correlation_id=incoming.request_id)

    def over_limit(self, incoming: Incoming, admission: Admission) -> Answer:
        if admission.day_spent:
            return self._too_many(Policy.DAILY, incoming, admission)
        return self._too_many(
            Policy.SECONDLY if admission.limited_as == SEARCH else Policy.ROLLING, incoming, admission
        )

    def fault(self, kind: FaultKind, incoming: Incoming, admission: Admission) -> Answer:
        if kind is FaultKind.HTTP_429:
            return self._too_many(Policy.ROLLING, incoming, admission)
        if kind is FaultKind.QUOTA_SPENT:
            return self._too_many(Policy.DAILY, incoming, admission)
        if kind is FaultKind.SILENT_200:
            return batch_answer([], [], status=200, started=incoming.now, completed=incoming.now)
        status, message, category = _FAILURES.get(kind, _FAILURES[FaultKind.HTTP_500])
        return failure(status, message, category=category, correlation_id=incoming.request_id)

    def headers(self, incoming: Incoming, admission: Admission | None) -> dict[str, str]:
        """HubSpot has one window and tells it; of several the one with the least left is told."""
        headers = {"X-HubSpot-Correlation-Id": incoming.request_id}
        if admission is None or admission.limited_as == SEARCH:  # search answers tell nothing of the quota
            return headers
        if admission.tightest is not None:
            window = admission.tightest.window
            headers["X-HubSpot-RateLimit-Max"] = str(window.most)
            headers["X-HubSpot-RateLimit-Remaining"] = str(admission.tightest.remaining)
            headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = str(int(window.seconds * 1000))
        if admission.daily_remaining is not None:
            headers["X-HubSpot-RateLimit-Daily"] = str(self._options.daily)
            headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(admission.daily_remaining)
        return headers

    def newest(self, limit: int) -> list[ShownContact]:
        return [
            ShownContact(
                crm_record_id=contact.id,
                name=" ".join(filter(None, (contact.properties.get("firstname"), contact.properties.get("lastname")))),
                email=contact.properties.get("email"),
                phone=contact.properties.get("phone"),
                company=contact.properties.get("company"),
                written_at=contact.updated_at,
                archived=contact.archived_at is not None,
            )
            for contact in self._store.newest(limit)
        ]

    def page(self, *, after: int, limit: int, archived: bool) -> list[StoredContact]:
        found = self._store.page(after=after, limit=limit, archived=archived)
        return [StoredContact(int(contact.id), contact.id, contact.properties) for contact in found]

    def _played(self, endpoint: Endpoint) -> PlayedEndpoint:
        paths = tuple(prefix + endpoint.path for prefix in endpoint.prefixes)
        operation = partial(self._operate, endpoint)
        return PlayedEndpoint(endpoint.name, endpoint.method, paths, operation, endpoint.limited_as)

    def _too_many(self, policy: Policy, incoming: Incoming, admission: Admission) -> Answer:
        seconds = admission.retry_after_seconds if self._options.retry_after else None
        return too_many_requests(policy, correlation_id=incoming.request_id, retry_after=seconds)

    def _operate(self, endpoint: Endpoint, shared: Shared, incoming: Incoming) -> Answer:
        def failed(status: int, message: str, category: str | None = None) -> Answer:
            return failure(status, message, category=category, correlation_id=incoming.request_id)

        if incoming.body is None:
            return failed(413, f"The body is larger than {MAX_BODY_BYTES} bytes", "VALIDATION_ERROR")
        media_type = incoming.headers.get("content-type", "").partition(";")[0].strip().lower()
        if endpoint.method in ("POST", "PATCH") and media_type != "application/json":
            return failed(415, "HTTP 415 Unsupported Media Type")
        object_type = incoming.path.get("object_type")
        if object_type is not None and object_type not in CONTACTS:
            return failed(400, f"Unable to infer object type from: {object_type}")
        call = Call(
            account=Account(self._options, self._store, shared.faults, shared.observations, shared.random),
            endpoint=endpoint.name,
            path=incoming.path,
            query=incoming.query,
            body=incoming.body,
            now=incoming.now,
            correlation_id=incoming.request_id,
        )
        try:
            return endpoint.operation(call)
        except Refused as refused:
            return call.refuse(refused.refusal)
        except Exception:
            _logger.exception("sandbox_operation_failed", endpoint=endpoint.name)
            return failed(500, "internal error")
