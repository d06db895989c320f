"""Reacher, hosted by oneself: POST /v1/check_email.

60 requests in a minute and 10,000 in a day, each counted from the first request after the last such time ended. It
bills nothing, so what the report calls billed is what was looked up. A key is optional; a wrong one is a 400.
"""

from typing import Any

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.domains import KNOWN_HOSTS
from leads_pipeline.verification.sandbox.fates import INVALID, UNKNOWN, Fate, fate_of, parts_of
from leads_pipeline.verification.sandbox.limits import Limit, Refusal, Window, WindowKind
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint, bearer_of

_UNITS = {60: "per minute", 86_400: "per day"}


class Reacher:
    """One server."""

    key_needed = False
    batch_size = 1

    def __init__(self, _options: ProviderOptions) -> None:
        fixed = WindowKind.FIXED
        self.limits = {"check": Limit((Window(60, 60, fixed), Window(10_000, 86_400, fixed)))}
        self.endpoints = (Endpoint("check_email", ("POST",), "/v1/check_email", self.check, "check"),)

    def check(self, call: Call) -> Answer:
        """One address."""
        address = call.given("to_email")
        if not address:
            return Answer(400, {"error": "to_email field is required."})
        call.account.ledger.demand(1)
        fate = fate_of(address)
        reachable = _reachable(fate)
        call.account.ledger.look_up(address.strip().lower(), reachable, billed=True)
        return Answer(200, _output(address, fate, reachable))

    def key_of(self, call: Call) -> str:
        return call.headers.get("x-reacher-secret", "") or bearer_of(call)

    def unauthorized(self, call: Call) -> Answer:
        return Answer(400)

    def out_of_credit(self, call: Call) -> Answer:
        return Answer(429, {"error": "Rate limit per day exceeded, please wait 3600s"})

    def throttled(self, call: Call, refusal: Refusal) -> Answer:
        unit = _UNITS.get(refusal.window.seconds, "per second") if refusal.window else "per minute"
        return Answer(429, {"error": f"Rate limit {unit} exceeded, please wait {refusal.seconds:.3f}s"})

    def broken(self, status: int) -> Answer:
        return Answer(status, {"error": "Failed to get a reply from the worker."})

    def no_such_address(self, call: Call) -> Answer:
        return Answer(404)


def _reachable(fate: Fate) -> str:
    if fate in INVALID:
        return "invalid"
    if fate in UNKNOWN:
        return "unknown"
    return "risky" if fate in (Fate.CATCH_ALL, Fate.DISPOSABLE, Fate.ROLE, Fate.FULL) else "safe"


def _output(address: str, fate: Fate, reachable: str) -> dict[str, Any]:
    local, domain = parts_of(address)
    has_mail = fate not in (Fate.DOMAIN_NOT_FOUND, Fate.NO_MAIL_SERVER, Fate.BAD_SYNTAX)
    hosts = [f"{host}." for _priority, host in KNOWN_HOSTS.get(domain, ((10, f"mx1.{domain}"),))] if has_mail else []
    smtp: dict[str, Any] = {
        "can_connect_smtp": has_mail,
        "has_full_inbox": fate is Fate.FULL,
        "is_catch_all": fate is Fate.CATCH_ALL,
        "is_deliverable": has_mail and fate not in (Fate.MAILBOX_NOT_FOUND, Fate.FULL),
        "is_disabled": False,
    }
    if fate in UNKNOWN:
        said = "4.2.1 Greylisted, try again later" if fate is Fate.GREYLISTED else "future timed out"
        smtp = {"error": {"type": "SmtpError", "message": said}}
    return {
        "input": address,
        "is_reachable": reachable,
        "misc": {
            "is_disposable": fate is Fate.DISPOSABLE,
            "is_role_account": fate is Fate.ROLE,
            "gravatar_url": None,
            "haveibeenpwned": None,
        },
        "mx": {"accepts_mail": has_mail, "records": hosts},
        "smtp": smtp,
        "syntax": {
            "address": address if local else None,
            "domain": domain,
            "is_valid_syntax": bool(local),
            "username": local,
            "normalized_email": address.strip().lower() if local else None,
            "suggestion": None,
        },
    }
