"""The sandbox CRM's own side: that of every sandbox, and its page, its contacts, its writes and its log of arrivals."""

from dataclasses import asdict
from functools import partial

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.page import render_page
from leads_pipeline.crm.sandbox.report import report
from leads_pipeline.sandbox.answers import json_response
from leads_pipeline.sandbox.control import MAX_PAGE, Control, numbers_of

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_MAX_WINDOWS = 10


class CrmControl(Control):
    """Handlers that look at an account, arm its faults or empty it."""

    def __init__(self, account: PlayedAccount) -> None:
        vendor = account.vendor
        endpoints = {endpoint.name for endpoint in vendor.endpoints if endpoint.limited_as is not None}
        super().__init__(account, report=partial(report, account), kinds=vendor.faults, endpoints=endpoints)
        self._account = account

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/_sandbox/contacts", self.contacts, methods=["GET"]),
            Route("/_sandbox/writes", self.writes, methods=["GET"]),
            Route("/_sandbox/arrivals", self.arrivals, methods=["GET"]),
            Route("/_sandbox/windows", self.windows, methods=["GET"]),
            Route("/_sandbox/tokens/expire", self.expire_tokens, methods=["POST"]),
            *super().routes(),
        ]

    async def page(self, _request: Request) -> Response:
        """The numbers, for people."""
        played = self._account
        with played.lock:
            html = render_page(
                report(played),
                contacts=played.vendor.newest(12),
                history=played.observations.per_second(tick=played.clock.monotonic()),
                faults=played.faults.shown(),
                now=played.clock.now(),
            )
        return HTMLResponse(html, headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"})

    async def contacts(self, request: Request) -> Response:
        """A page of contacts: ``?after=PLACE&limit=N&archived=true``."""
        numbers = numbers_of(request, after=0, limit=100)
        if numbers is None:
            return _no_numbers("after")
        archived = request.query_params.get("archived") == "true"
        with self._account.lock:
            found = self._account.vendor.page(after=numbers["after"], limit=numbers["limit"] + 1, archived=archived)
        shown = [
            {"id": contact.crm_record_id, "properties": contact.properties, "archived": archived}
            for contact in found[: numbers["limit"]]
        ]
        more = str(found[len(shown) - 1].place) if len(found) > len(shown) else None
        return json_response({"contacts": shown, "after": more})

    async def writes(self, request: Request) -> Response:
        """How often each lead key was written: ``?at_least=N&after=KEY&limit=N``."""
        numbers = numbers_of(request, at_least=1, limit=MAX_PAGE)
        if numbers is None:
            return _no_numbers("at_least")
        with self._account.lock:
            writes = self._account.vendor.writes(
                at_least=numbers["at_least"], after=request.query_params.get("after", ""), limit=numbers["limit"]
            )
        return json_response({"writes": writes, "after": list(writes)[-1] if len(writes) == numbers["limit"] else None})

    async def arrivals(self, request: Request) -> Response:
        """A page of the log of requests: ``?after=NUMBER&limit=N``."""
        numbers = numbers_of(request, after=0, limit=MAX_PAGE)
        if numbers is None:
            return _no_numbers("after")
        with self._account.lock:
            self._account.catch_up()
            log = self._account.arrivals
            found = log.page(after=numbers["after"], limit=numbers["limit"])
            last = log.dropped + len(log)
        more = bool(found) and found[-1].number < last
        return json_response(
            {
                "arrivals": [asdict(arrival) for arrival in found],
                "after": found[-1].number if more else None,
                "dropped": log.dropped,
            }
        )

    async def windows(self, request: Request) -> Response:
        """The fullest windows, from the log: ``?seconds=2,10&application=N&endpoint=NAME``."""
        try:
            lengths = [float(part) for part in request.query_params["seconds"].split(",")]
            application = int(number) if (number := request.query_params.get("application")) else None
        except (KeyError, ValueError):
            lengths, application = [], None
        if not 0 < len(lengths) <= _MAX_WINDOWS or not all(0 < length < float("inf") for length in lengths):
            return json_response(
                {"error": "seconds is a list of one to ten lengths, as in ?seconds=2,10, application a number"},
                status=400,
            )
        with self._account.lock:
            self._account.catch_up()
            log = self._account.arrivals
            endpoint = request.query_params.get("endpoint")
            found = [log.fullest(length, application=application, endpoint=endpoint) for length in lengths]
        return json_response({"windows": [asdict(item) for item in found], "logged": len(log), "dropped": log.dropped})

    async def expire_tokens(self, _request: Request) -> Response:
        """End every token that was given out."""
        with self._account.lock:
            return json_response({"expired": self._account.shared.tokens.expire()})


def _no_numbers(name: str) -> Response:
    return json_response({"error": f"{name} and limit are whole numbers, limit from 1 to {MAX_PAGE}"}, status=400)
