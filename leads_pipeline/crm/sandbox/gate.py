"""The way of every request to HubSpot: token, limits, fault, operation."""

import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.hubspot.answers import batch_answer, failure, too_many_requests
from leads_pipeline.crm.sandbox.hubspot.calls import Call, Refused
from leads_pipeline.crm.sandbox.hubspot.endpoints import CONTACTS, Endpoint
from leads_pipeline.crm.sandbox.limits import AccountLimits, Admission, Policy
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.sandbox.gate import MAX_BODY_BYTES, guarded
from leads_pipeline.telemetry import get_logger

_logger = get_logger(__name__)

# What can go wrong here.
FAULTS = (
    FaultKind.SLOW,
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
# The operation runs, and the answer is spoilt afterwards or not at all.
_OPERATION_RUNS = (
    FaultKind.SLOW,
    FaultKind.WRITTEN_THEN_500,
    FaultKind.WRITTEN_THEN_RESET,
    FaultKind.WRITTEN_THEN_TIMEOUT,
)
# status, message, category
_FAILURES: dict[FaultKind, tuple[int, str, str | None]] = {
    FaultKind.HTTP_500: (500, "internal error", None),
    FaultKind.HTTP_502: (502, "Bad gateway", None),
    FaultKind.HTTP_503: (503, "Service unavailable", None),
    FaultKind.AUTH: (401, "The token that was used is expired or revoked", "INVALID_AUTHENTICATION"),
    FaultKind.FORBIDDEN_403: (403, "This app lacks a scope that the call needs", "MISSING_SCOPES"),
    FaultKind.LOCKED_423: (423, "The resource is locked", None),
}


class Gate:
    """Turns an ``Endpoint`` into what the web server calls."""

    def __init__(self, account: PlayedAccount) -> None:
        self._account = account

    def to(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """The handler of requests to ``endpoint``."""
        return guarded(self._account, partial(self._pass, endpoint))

    def _pass(self, endpoint: Endpoint, request: Request, body: bytes | None) -> tuple[FaultRule | None, Answer]:
        played = self._account
        seen, tick, now = played.observations, played.clock.monotonic(), played.clock.now()
        correlation_id = str(uuid.UUID(int=played.random.getrandbits(128), version=4))
        headers = {"X-HubSpot-Correlation-Id": correlation_id}
        seen.arrived(endpoint.name, tick=tick)
        if not self._knows_token(request.headers.get("authorization", "")):
            seen.unauthorized += 1
            message = "Authentication credentials not found or not valid"
            answer = failure(401, message, category="INVALID_AUTHENTICATION", correlation_id=correlation_id)
            return None, answer.with_headers(headers)

        search = endpoint.name == "search"
        admission = played.limits.admit(now=now, tick=tick, search=search)
        if not search:  # search answers tell nothing of the quota
            headers |= _limit_headers(admission, played.limits)
        if admission.refused_by is not None:
            return None, self._too_many(admission.refused_by, admission, correlation_id).with_headers(headers)

        seen.admitted(tick=tick)
        rule = played.faults.for_request(endpoint.name, body=body or b"")
        if rule is not None:
            seen.faults[rule.kind] += 1
            if rule.kind not in _OPERATION_RUNS:
                return rule, self._fault(rule, admission, correlation_id).with_headers(headers)
        answer = self._operate(endpoint, request, body, correlation_id)
        if rule is not None and rule.kind is FaultKind.WRITTEN_THEN_500:
            answer = self._fault(rule, admission, correlation_id)
        return rule, answer.with_headers(headers)

    def _operate(self, endpoint: Endpoint, request: Request, body: bytes | None, correlation_id: str) -> Answer:
        def failed(status: int, message: str, category: str | None = None) -> Answer:
            return failure(status, message, category=category, correlation_id=correlation_id)

        if body is None:
            return failed(413, f"The body is larger than {MAX_BODY_BYTES} bytes", "VALIDATION_ERROR")
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if endpoint.method in ("POST", "PATCH") and media_type != "application/json":
            return failed(415, "HTTP 415 Unsupported Media Type")
        object_type = request.path_params.get("object_type")
        if object_type is not None and object_type not in CONTACTS:
            return failed(400, f"Unable to infer object type from: {object_type}")
        call = Call(
            account=self._account.shared,
            endpoint=endpoint.name,
            path=request.path_params,
            # A list comes as one parameter with commas or as several of one name.
            query={name: ",".join(request.query_params.getlist(name)) for name in request.query_params},
            body=body,
            now=self._account.clock.now(),
            correlation_id=correlation_id,
        )
        try:
            return endpoint.operation(call)
        except Refused as refused:
            return call.refuse(refused.refusal)
        except Exception:
            _logger.exception("sandbox_operation_failed", endpoint=endpoint.name)
            return failed(500, "internal error")

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return False
        return self._account.options.token in (None, token.strip())

    def _too_many(self, policy: Policy, admission: Admission, correlation_id: str) -> Answer:
        seconds = admission.retry_after_seconds if self._account.options.retry_after else None
        return too_many_requests(policy, correlation_id=correlation_id, retry_after=seconds)

    def _fault(self, rule: FaultRule, admission: Admission, correlation_id: str) -> Answer:
        if rule.kind is FaultKind.HTTP_429:
            return self._too_many(Policy.ROLLING, admission, correlation_id)
        if rule.kind is FaultKind.QUOTA_SPENT:
            return self._too_many(Policy.DAILY, admission, correlation_id)
        if rule.kind is FaultKind.SILENT_200:
            now = self._account.clock.now()
            return batch_answer([], [], status=200, started=now, completed=now)
        status, message, category = _FAILURES.get(rule.kind, _FAILURES[FaultKind.HTTP_500])
        return failure(status, message, category=category, correlation_id=correlation_id)


def _limit_headers(admission: Admission, limits: AccountLimits) -> dict[str, str]:
    headers: dict[str, str] = {}
    if limits.requests is not None:
        headers["X-HubSpot-RateLimit-Max"] = str(limits.requests)
        headers["X-HubSpot-RateLimit-Remaining"] = str(admission.remaining)
        headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = str(int(limits.window.seconds * 1000))
    if limits.daily is not None:
        headers["X-HubSpot-RateLimit-Daily"] = str(limits.daily)
        headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(admission.daily_remaining)
    return headers
