"""A provider sandbox as a web application: the vendor's addresses behind the gate, the control side beside them."""

from collections.abc import Callable
from random import Random

from starlette.applications import Starlette
from starlette.routing import Route

from leads_pipeline.clock import Clock
from leads_pipeline.verification.sandbox.account import ProviderAccount
from leads_pipeline.verification.sandbox.control import ProviderControl
from leads_pipeline.verification.sandbox.gate import Gate
from leads_pipeline.verification.sandbox.hunter import Hunter
from leads_pipeline.verification.sandbox.kickbox import Kickbox
from leads_pipeline.verification.sandbox.neverbounce import NeverBounce
from leads_pipeline.verification.sandbox.options import ProviderOptions, VendorName
from leads_pipeline.verification.sandbox.reacher import Reacher
from leads_pipeline.verification.sandbox.twilio import Twilio
from leads_pipeline.verification.sandbox.vendor import Vendor
from leads_pipeline.verification.sandbox.zerobounce import ZeroBounce

_VENDORS: dict[VendorName, Callable[[ProviderOptions], Vendor]] = {
    "zerobounce": ZeroBounce,
    "neverbounce": NeverBounce,
    "kickbox": Kickbox,
    "hunter": Hunter,
    "reacher": Reacher,
    "twilio": Twilio,
}
_NO_ENDPOINT = "unknown"


def create_app(options: ProviderOptions, *, clock: Clock, random: Random) -> Starlette:
    """The application of one account."""
    account = ProviderAccount(options, _VENDORS[options.vendor], clock=clock, random=random)
    gate = Gate(account)
    vendor = [
        Route(endpoint.path, gate.to(endpoint.name), methods=list(endpoint.methods))
        for endpoint in account.vendor.endpoints
    ]
    rest = Route("/{path:path}", gate.to(_NO_ENDPOINT), methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    return Starlette(routes=[*ProviderControl(account).routes(), *vendor, rest])
