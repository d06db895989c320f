"""The sandbox CRM's own side: that of every sandbox, and its page, its contacts and its writes."""

from functools import partial

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.gate import FAULTS
from leads_pipeline.crm.sandbox.hubspot.endpoints import ENDPOINTS
from leads_pipeline.crm.sandbox.page import render_page
from leads_pipeline.crm.sandbox.report import report
from leads_pipeline.sandbox.answers import json_response
from leads_pipeline.sandbox.control import MAX_PAGE, Control, numbers_of

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class CrmControl(Control):
    """Handlers that look at an account, arm its faults or empty it."""

    def __init__(self, account: PlayedAccount) -> None:
        endpoints = {endpoint.name for endpoint in ENDPOINTS}
        super().__init__(account, report=partial(report, account), kinds=FAULTS, endpoints=endpoints)
        self._account = account

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/_sandbox/contacts", self.contacts, methods=["GET"]),
            Route("/_sandbox/writes", self.writes, methods=["GET"]),
            *super().routes(),
        ]

    async def page(self, _request: Request) -> Response:
        """The numbers, for people."""
        played = self._account
        with played.lock:
            html = render_page(
                report(played),
                contacts=played.shared.store.newest(12),
                history=played.observations.per_second(tick=played.clock.monotonic()),
                faults=played.faults.shown(),
                now=played.clock.now(),
            )
        return HTMLResponse(html, headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"})

    async def contacts(self, request: Request) -> Response:
        """A page of contacts: ``?after=ID&limit=N&archived=true``."""
        numbers = numbers_of(request, after=0, limit=100)
        if numbers is None:
            return _no_numbers("after")
        archived = request.query_params.get("archived") == "true"
        with self._account.lock:
            found = self._account.shared.store.page(
                after=numbers["after"], limit=numbers["limit"] + 1, archived=archived
            )
        shown = [
            {"id": contact.id, "properties": contact.properties, "archived": archived}
            for contact in found[: numbers["limit"]]
        ]
        return json_response({"contacts": shown, "after": shown[-1]["id"] if len(found) > len(shown) else None})

    async def writes(self, request: Request) -> Response:
        """How often each lead key was written: ``?at_least=N&after=KEY&limit=N``."""
        numbers = numbers_of(request, at_least=1, limit=MAX_PAGE)
        if numbers is None:
            return _no_numbers("at_least")
        with self._account.lock:
            writes = self._account.shared.store.writes(
                at_least=numbers["at_least"], after=request.query_params.get("after", ""), limit=numbers["limit"]
            )
        return json_response({"writes": writes, "after": list(writes)[-1] if len(writes) == numbers["limit"] else None})


def _no_numbers(name: str) -> Response:
    return json_response({"error": f"{name} and limit are whole numbers, limit from 1 to {MAX_PAGE}"}, status=400)
