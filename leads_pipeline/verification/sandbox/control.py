"""A provider sandbox's own side: that of every sandbox, and what was looked up how often."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leads_pipeline.sandbox.answers import json_response
from leads_pipeline.sandbox.control import MAX_PAGE, Control, numbers_of
from leads_pipeline.verification.sandbox.account import ProviderAccount
from leads_pipeline.verification.sandbox.gate import FAULTS
from leads_pipeline.verification.sandbox.report import report


class ProviderControl(Control):
    """Handlers that look at an account, arm its faults or empty it."""

    def __init__(self, account: ProviderAccount) -> None:
        endpoints = {endpoint.name for endpoint in account.vendor.endpoints}
        super().__init__(account, report=partial(report, account), kinds=FAULTS, endpoints=endpoints)
        self._account = account

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [Route("/_sandbox/lookups", self.lookups, methods=["GET"]), *super().routes()]

    async def lookups(self, request: Request) -> Response:
        """How often each address or number was looked up and billed: ``?at_least=N&after=ADDRESS&limit=N``."""
        numbers = numbers_of(request, at_least=1, limit=MAX_PAGE)
        if numbers is None:
            return json_response(
                {"error": f"at_least and limit are whole numbers, limit from 1 to {MAX_PAGE}"}, status=400
            )
        with self._account.lock:
            found = self._account.ledger.page(
                after=request.query_params.get("after", ""), at_least=numbers["at_least"], limit=numbers["limit"]
            )
        return json_response({"lookups": found, "after": list(found)[-1] if len(found) == numbers["limit"] else None})
