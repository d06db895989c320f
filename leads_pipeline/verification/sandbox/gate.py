"""The way of every request to a provider: key, limits, fault, operation."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.sandbox.gate import guarded
from leads_pipeline.telemetry import get_logger
from leads_pipeline.verification.sandbox.account import ProviderAccount
from leads_pipeline.verification.sandbox.ledger import OutOfCredit
from leads_pipeline.verification.sandbox.limits import Refusal
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint, OverLimit

_logger = get_logger(__name__)

# What can go wrong here.
FAULTS = (
    FaultKind.SLOW,
    FaultKind.HTTP_500,
    FaultKind.HTTP_502,
    FaultKind.HTTP_503,
    FaultKind.AUTH,
    FaultKind.THROTTLE,
    FaultKind.OUT_OF_CREDIT,
    FaultKind.TIMEOUT,
    FaultKind.RESET_CONNECTION,
    FaultKind.ANSWERED_THEN_LOST,
)
_BROKEN = {FaultKind.HTTP_500: 500, FaultKind.HTTP_502: 502, FaultKind.HTTP_503: 503}


class Gate:
    """Turns an ``Endpoint`` into what the web server calls."""

    def __init__(self, account: ProviderAccount) -> None:
        self._account = account

    def to(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """The handler of requests to the endpoint of that name; an unknown one is no address of the vendor."""
        return guarded(self._account, partial(self._pass, name))

    def _pass(self, name: str, request: Request, body: bytes | None) -> tuple[FaultRule | None, Answer]:
        played = self._account
        seen, vendor = played.observations, played.vendor
        tick, now = played.clock.monotonic(), played.clock.now()
        seen.arrived(name, tick=tick)
        if body is None:
            return None, vendor.broken(413)
        call = Call(
            account=played,
            endpoint=name,
            path=request.path_params,
            query=dict(request.query_params),
            headers=request.headers,
            fields=_fields(request.headers.get("content-type", ""), body),
            now=now,
            tick=tick,
        )
        # Of the vendor that is played now: a reset has made a new one.
        endpoint = next((endpoint for endpoint in vendor.endpoints if endpoint.name == name), None)
        if endpoint is None:
            return None, vendor.no_such_address(call)
        if not self._knows_key(call):
            seen.unauthorized += 1
            return None, vendor.unauthorized(call)
        refusal = played.limits.admit(endpoint.limit, tick=tick, now=now, in_flight=seen.in_flight)
        if refusal is not None:
            return None, self._throttled(call, refusal)
        seen.admitted(tick=tick)
        rule = played.faults.for_request(name, body=body + unquote(str(request.url)).encode())
        if rule is None:
            return None, self._operate(endpoint, call)
        seen.faults[rule.kind] += 1
        return rule, self._under_fault(rule, endpoint, call)

    def _knows_key(self, call: Call) -> bool:
        key, wanted = self._account.vendor.key_of(call), self._account.options.key
        if wanted is None:
            return bool(key) or not self._account.vendor.key_needed
        return key == wanted

    def _under_fault(self, rule: FaultRule, endpoint: Endpoint, call: Call) -> Answer:
        vendor = self._account.vendor
        if rule.kind in (FaultKind.SLOW, FaultKind.ANSWERED_THEN_LOST):
            return self._operate(endpoint, call)
        if rule.kind is FaultKind.AUTH:
            return vendor.unauthorized(call)
        if rule.kind is FaultKind.THROTTLE:
            return self._throttled(call, Refusal(0.0))
        if rule.kind is FaultKind.OUT_OF_CREDIT:
            return vendor.out_of_credit(call)
        return vendor.broken(_BROKEN.get(rule.kind, 500))

    def _operate(self, endpoint: Endpoint, call: Call) -> Answer:
        try:
            return endpoint.operation(call)
        except OutOfCredit:
            return self._account.vendor.out_of_credit(call)
        except OverLimit:
            self._account.limits.refused += 1
            return self._throttled(call, Refusal(0.0))
        except Exception:
            _logger.exception("sandbox_operation_failed", endpoint=endpoint.name)
            return self._account.vendor.broken(500)

    def _throttled(self, call: Call, refusal: Refusal) -> Answer:
        self._account.throttled += 1
        return self._account.vendor.throttled(call, refusal)


def _fields(content_type: str, body: bytes) -> Mapping[str, Any]:
    """The fields of a JSON object or a form; none if the body is neither."""
    try:
        if content_type.startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(body.decode()))
        document = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
