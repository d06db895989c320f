"""The way of every request to the vendor: token, limits, fault, operation; and into the log."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.tokens import UNKNOWN
from leads_pipeline.crm.sandbox.vendor import Incoming, PlayedEndpoint
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import UNANSWERED, FaultKind, FaultRule
from leads_pipeline.sandbox.gate import guarded

# The operation runs, and the answer is spoilt afterwards or not at all.
_OPERATION_RUNS = (
    FaultKind.SLOW,
    FaultKind.WRITTEN_THEN_500,
    FaultKind.WRITTEN_THEN_RESET,
    FaultKind.WRITTEN_THEN_TIMEOUT,
)


# What is called when the request is over, in its state.
_UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class _Passed:
    """What became of a request."""

    answer: Answer
    application: int
    accepted: bool = False
    rule: FaultRule | None = None
    ended: Callable[[], None] | None = None  # called when its answer is made, or never will be


class Gate:
    """Turns an endpoint into what the web server calls."""

    def __init__(self, account: PlayedAccount) -> None:
        self._account = account

    def to(self, endpoint: PlayedEndpoint) -> Callable[[Request], Awaitable[Response]]:
        """The handler of requests to ``endpoint``."""
        passage = guarded(self._account, partial(self._arrive, endpoint))

        async def handle(request: Request) -> Response:
            try:
                return await passage(request)
            finally:
                if (under_way := getattr(request.state, _UNDER_WAY, None)) is not None:
                    with self._account.lock:
                        under_way()

        return handle

    def _arrive(
        self, endpoint: PlayedEndpoint, request: Request, body: bytes | None
    ) -> tuple[FaultRule | None, Answer]:
        played = self._account
        played.catch_up()
        incoming = Incoming(
            path=request.path_params,
            # A list comes as one parameter with commas or as several of one name.
            query={name: ",".join(request.query_params.getlist(name)) for name in request.query_params},
            headers=request.headers,
            body=body,
            now=played.clock.now(),
            tick=played.clock.monotonic(),
            request_id=str(uuid.UUID(int=played.random.getrandbits(128), version=4)),
        )
        played.observations.arrived(endpoint.name, tick=incoming.tick)
        passed = self._pass(endpoint, incoming)
        if passed.ended is not None:
            setattr(request.state, _UNDER_WAY, passed.ended)
        played.observations.applications[passed.application] += 1
        unanswered = passed.rule is not None and passed.rule.kind in UNANSWERED
        played.arrivals.add(
            tick=incoming.tick,
            endpoint=endpoint.name,
            application=passed.application,
            status=None if unanswered else passed.answer.status,
            accepted=passed.accepted,
        )
        return passed.rule, passed.answer

    def _pass(self, endpoint: PlayedEndpoint, incoming: Incoming) -> _Passed:
        shared, vendor, seen = self._account.shared, self._account.vendor, self._account.observations
        if endpoint.limited_as is None:
            answer = endpoint.operation(shared, incoming)
            return _Passed(answer.with_headers(vendor.headers(incoming, None)), UNKNOWN)
        application = shared.tokens.application_of(vendor.token_of(incoming), tick=incoming.tick)
        if application == UNKNOWN:
            seen.unauthorized += 1
            answer = vendor.unauthorized(incoming)
            return _Passed(answer.with_headers(vendor.headers(incoming, None)), UNKNOWN)

        charge = endpoint.charge(incoming)
        admission = shared.limits.admit(
            now=incoming.now, tick=incoming.tick, limited_as=endpoint.limited_as, cost=charge.cost, kind=charge.kind
        )
        headers = vendor.headers(incoming, admission)
        if admission.refused:
            return _Passed(vendor.over_limit(incoming, admission).with_headers(headers), application)

        shared.limits.begun(charge.kind, tick=incoming.tick)
        ended = partial(shared.limits.ended, charge.kind, tick=incoming.tick)
        seen.admitted(tick=incoming.tick)
        rule = shared.faults.for_request(endpoint.name, body=incoming.body or b"")
        if rule is not None:
            seen.faults[rule.kind] += 1
        if rule is None or rule.kind in _OPERATION_RUNS:
            answer = endpoint.operation(shared, incoming)
            if rule is not None and rule.kind is FaultKind.WRITTEN_THEN_500:
                answer = vendor.fault(rule.kind, incoming, admission)
        else:
            answer = vendor.fault(rule.kind, incoming, admission)
        return _Passed(answer.with_headers(headers), application, accepted=True, rule=rule, ended=ended)
