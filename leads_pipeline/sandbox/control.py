"""A sandbox's own side, under ``/_sandbox``. None of it counts as a request to the vendor."""

from collections.abc import Callable, Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leads_pipeline.sandbox.answers import json_response
from leads_pipeline.sandbox.faults import FaultKind, FaultRuleInvalid, parse_rules
from leads_pipeline.sandbox.gate import Played

MAX_PAGE = 10_000


class Control:
    """Handlers that look at an account, arm its faults or empty it.

    ``kinds`` and ``endpoints`` are what a fault rule may name; ``report`` is called under the account's lock.
    """

    def __init__(
        self,
        played: Played,
        *,
        report: Callable[[], dict[str, Any]],
        kinds: Collection[FaultKind],
        endpoints: Collection[str],
    ) -> None:
        self._played = played
        self._report = report
        self._kinds = kinds
        self._endpoints = endpoints

    def routes(self) -> list[Route]:
        """Where they answer."""
        return [
            Route("/_sandbox/report", self.report, methods=["GET"]),
            Route("/_sandbox/faults", self.faults, methods=["GET", "PUT", "DELETE"]),
            Route("/_sandbox/reset", self.reset, methods=["POST"]),
        ]

    async def report(self, _request: Request) -> Response:
        """The numbers, for programs."""
        with self._played.lock:
            return json_response(self._report())

    async def faults(self, request: Request) -> Response:
        """Show, replace (a JSON list) or drop the rules."""
        rules = None
        if request.method == "PUT":
            try:
                rules = parse_rules(await request.body(), kinds=self._kinds, endpoints=self._endpoints)
            except FaultRuleInvalid as error:
                return json_response({"error": str(error)}, status=400)
        with self._played.lock:
            if request.method in ("PUT", "DELETE"):
                self._played.faults.arm(rules or [])
            return json_response(self._played.faults.shown())

    async def reset(self, _request: Request) -> Response:
        """Begin anew."""
        self._played.reset()
        return Response(status_code=204)


def numbers_of(request: Request, **defaults: int) -> dict[str, int] | None:
    """Whole numbers of the query, ``limit`` among them; ``None`` if one is none or out of range."""
    try:
        numbers = {name: int(request.query_params.get(name, default)) for name, default in defaults.items()}
    except ValueError:
        return None
    in_range = all(0 <= number < 2**63 for number in numbers.values())  # SQLite's whole numbers
    return numbers if in_range and 1 <= numbers["limit"] <= MAX_PAGE else None
