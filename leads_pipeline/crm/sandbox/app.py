"""The sandbox as a web application: the vendor's addresses behind the gate, the control side beside them."""

import contextlib
from collections.abc import AsyncIterator
from random import Random

from starlette.applications import Starlette
from starlette.routing import Route

from leads_pipeline.clock import Clock
from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.control import CrmControl
from leads_pipeline.crm.sandbox.gate import Gate
from leads_pipeline.crm.sandbox.options import SandboxOptions


def create_app(options: SandboxOptions, *, clock: Clock, random: Random) -> Starlette:
    """The application of one account. Its file is closed when the server ends.

    Raises:
        LeadsError: ``options.store`` cannot be opened.
    """
    account = PlayedAccount(options, clock=clock, random=random)
    gate = Gate(account)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            account.close()

    vendor = [
        Route(path, gate.to(endpoint), methods=[endpoint.method])
        for endpoint in account.vendor.endpoints
        for path in endpoint.paths
    ]
    rest = Route("/{path:path}", gate.to(account.vendor.elsewhere), methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    return Starlette(routes=[*CrmControl(account).routes(), *vendor, rest], lifespan=lifespan)
