"""The sandbox's own side, under ``/_sandbox``, and its page. None of it counts as a request to the vendor."""

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.faults import FaultRuleInvalid, parse_rules
from leads_pipeline.crm.sandbox.hubspot.endpoints import ENDPOINTS
from leads_pipeline.crm.sandbox.page import render_page
from leads_pipeline.crm.sandbox.report import report

MAX_PAGE = 10_000
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Control:
    """Handlers that look at an account, arm its faults or empty it."""

    def __init__(self, account: PlayedAccount) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/_sandbox/report", self.report, methods=["GET"]),
            Route("/_sandbox/contacts", self.contacts, methods=["GET"]),
            Route("/_sandbox/writes", self.writes, methods=["GET"]),
            Route("/_sandbox/faults", self.faults, methods=["GET", "PUT", "DELETE"]),
            Route("/_sandbox/reset", self.reset, methods=["POST"]),
        ]

    async def page(self, _request: Request) -> Response:
        """The numbers, for people."""
        played = self._account
        with played.lock:
            now = played.clock.now()
            html = render_page(
                report(played, now=now),
                contacts=played.shared.store.newest(12),
                history=played.shared.observations.per_second(tick=played.clock.monotonic()),
                faults=played.shared.faults.shown(),
                now=now,
            )
        return HTMLResponse(html, headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"})

    async def report(self, _request: Request) -> Response:
        """The numbers, for programs."""
        with self._account.lock:
            return _json(report(self._account, now=self._account.clock.now()))

    async def contacts(self, request: Request) -> Response:
        """A page of contacts: ``?after=ID&limit=N&archived=true``."""
        numbers = _numbers(request, after=0, limit=100)
        if numbers is None:
            return _json({"error": f"after and limit are whole numbers, limit from 1 to {MAX_PAGE}"}, status=400)
        archived = request.query_params.get("archived") == "true"
        with self._account.lock:
            found = self._account.shared.store.page(
                after=numbers["after"], limit=numbers["limit"] + 1, archived=archived
            )
        shown = [
            {"id": contact.id, "properties": contact.properties, "archived": archived}
            for contact in found[: numbers["limit"]]
        ]
        return _json({"contacts": shown, "after": shown[-1]["id"] if len(found) > len(shown) else None})

    async def writes(self, request: Request) -> Response:
        """How often each lead key was written: ``?at_least=N&after=KEY&limit=N``."""
        numbers = _numbers(request, at_least=1, limit=MAX_PAGE)
        if numbers is None:
            return _json({"error": f"at_least and limit are whole numbers, limit from 1 to {MAX_PAGE}"}, status=400)
        with self._account.lock:
            writes = self._account.shared.store.writes(
                at_least=numbers["at_least"], after=request.query_params.get("after", ""), limit=numbers["limit"]
            )
        return _json({"writes": writes, "after": list(writes)[-1] if len(writes) == numbers["limit"] else None})

    async def faults(self, request: Request) -> Response:
        """Show, replace (a JSON list) or drop the rules."""
        rules = None
        if request.method == "PUT":
            try:
                rules = parse_rules(await request.body(), endpoints={endpoint.name for endpoint in ENDPOINTS})
            except FaultRuleInvalid as error:
                return _json({"error": str(error)}, status=400)
        with self._account.lock:
            if request.method in ("PUT", "DELETE"):
                self._account.shared.faults.arm(rules or [])
            return _json(self._account.shared.faults.shown())

    async def reset(self, _request: Request) -> Response:
        """Begin anew."""
        self._account.reset()
        return Response(status_code=204)


def _json(document: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _numbers(request: Request, **defaults: int) -> dict[str, int] | None:
    try:
        numbers = {name: int(request.query_params.get(name, default)) for name, default in defaults.items()}
    except ValueError:
        return None
    in_range = all(0 <= number < 2**63 for number in numbers.values())  # SQLite's whole numbers
    return numbers if in_range and 1 <= numbers["limit"] <= MAX_PAGE else None
