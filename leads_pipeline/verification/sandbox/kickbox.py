"""Kickbox: GET /v2/verify, GET /v2/balance.

25 requests in flight, 8,000 in each minute of the clock. A key that begins with ``test_`` asks Kickbox's own sandbox:
the local part says what is answered, nothing is billed. What is unknown is not billed either.
"""

from dataclasses import dataclass
from typing import Any

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.fates import FREE, Fate, asked_for, fate_of, parts_of
from leads_pipeline.verification.sandbox.limits import Limit, Refusal, Window, WindowKind
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint, bearer_of

_NEVER_ENDS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Said:
    result: str
    reason: str
    sendex: float
    flags: frozenset[str] = frozenset()


_WORDS: dict[Fate, _Said] = {
    Fate.VALID: _Said("deliverable", "accepted_email", 0.95),
    Fate.OBJECTION: _Said("deliverable", "accepted_email", 0.95),
    Fate.MAILBOX_NOT_FOUND: _Said("undeliverable", "rejected_email", 0.0),
    Fate.DOMAIN_NOT_FOUND: _Said("undeliverable", "invalid_domain", 0.0),
    Fate.NO_MAIL_SERVER: _Said("undeliverable", "invalid_domain", 0.0),
    Fate.BAD_SYNTAX: _Said("undeliverable", "invalid_email", 0.0),
    Fate.FULL: _Said("undeliverable", "rejected_email", 0.0),
    Fate.CATCH_ALL: _Said("risky", "low_deliverability", 0.7, frozenset({"accept_all"})),
    Fate.DISPOSABLE: _Said("risky", "low_quality", 0.0, frozenset({"disposable", "accept_all"})),
    Fate.ROLE: _Said("risky", "low_quality", 0.7, frozenset({"role"})),
    Fate.TOXIC: _Said("risky", "low_quality", 0.3),
    Fate.SPAMTRAP: _Said("risky", "low_quality", 0.1),
    Fate.ABUSE: _Said("risky", "low_quality", 0.1),
    Fate.TIMEOUT: _Said("unknown", "timeout", 0.0),
    Fate.GREYLISTED: _Said("unknown", "unavailable_smtp", 0.0),
    Fate.UNREACHABLE: _Said("unknown", "no_connect", 0.0),
}
# What Kickbox's own sandbox answers to a local part, or to a plus tag; else deliverable.
_OWN_SANDBOX: dict[str, _Said] = {
    "rejected-email": _Said("undeliverable", "rejected_email", 0.0),
    "invalid-domain": _Said("undeliverable", "invalid_domain", 0.0),
    "invalid-email": _Said("undeliverable", "invalid_email", 0.0),
    "invalid-smtp": _Said("undeliverable", "invalid_smtp", 0.0),
    "low-quality": _Said("risky", "low_quality", 0.5, frozenset({"free"})),
    "accept-all": _Said("risky", "low_deliverability", 0.7, frozenset({"accept_all"})),
    "role": _Said("risky", "low_quality", 0.7, frozenset({"role"})),
    "disposable": _Said("risky", "low_quality", 0.0, frozenset({"disposable", "accept_all"})),
    "timeout": _Said("unknown", "timeout", 0.0),
    "unexpected-error": _Said("unknown", "unexpected_error", 0.0),
    "no-connect": _Said("unknown", "no_connect", 0.0),
    "unavailable-smtp": _Said("unknown", "unavailable_smtp", 0.0),
    "did-you-mean": _Said("undeliverable", "rejected_email", 0.0),
}
_DELIVERABLE = _Said("deliverable", "accepted_email", 1.0)


class Kickbox:
    """One account."""

    key_needed = True
    batch_size = 1

    def __init__(self, _options: ProviderOptions) -> None:
        self.limits = {"verify": Limit((Window(8_000, 60, WindowKind.CLOCK),), in_flight=25)}
        self.endpoints = (
            Endpoint("verify", ("GET",), "/v2/verify", self.verify, "verify"),
            Endpoint("balance", ("GET",), "/v2/balance", self.balance),
        )

    def verify(self, call: Call) -> Answer:
        """One address."""
        address = call.given("email")
        if not address:
            return _failure(400, "Missing required parameter: email")
        local, domain = parts_of(address)
        if self.key_of(call).startswith("test_"):
            word = asked_for(local)
            if word == "insufficient-balance":
                return _failure(403, "Insufficient balance")
            said, billed = _OWN_SANDBOX.get(word, _DELIVERABLE), False
        else:
            call.account.ledger.demand(1)
            said = _WORDS[fate_of(address)]
            word, billed = "", said.result != "unknown"
        call.account.ledger.look_up(address.strip().lower(), said.result, billed=billed)
        body: dict[str, Any] = {
            "result": said.result,
            "reason": said.reason,
            "role": "role" in said.flags,
            "free": "free" in said.flags or domain in FREE,
            "disposable": "disposable" in said.flags,
            "accept_all": "accept_all" in said.flags,
            "did_you_mean": f"{local.partition('+')[0]}@gmail.com" if word == "did-you-mean" else None,
            "sendex": said.sendex,
            "email": address.strip().lower(),
            "user": local,
            "domain": domain,
            "success": True,
            "message": None,
        }
        headers = {"X-Kickbox-Balance": str(_balance(call)), "X-Kickbox-Response-Time": "25"}
        return Answer(200, body, headers)

    def balance(self, call: Call) -> Answer:
        """What the account has left."""
        return Answer(200, {"balance": _balance(call), "success": True, "message": None})

    def key_of(self, call: Call) -> str:
        return call.given("apikey") or bearer_of(call)

    def unauthorized(self, call: Call) -> Answer:
        return _failure(403, "Invalid API key")

    def out_of_credit(self, call: Call) -> Answer:
        return _failure(403, "Balance Depleted")

    def throttled(self, call: Call, refusal: Refusal) -> Answer:
        return _failure(429, "Rate Limit Exceeded")

    def broken(self, status: int) -> Answer:
        return _failure(status, "Internal Server Error")

    def no_such_address(self, call: Call) -> Answer:
        return _failure(404, "Not Found")


def _balance(call: Call) -> int:
    left = call.account.ledger.credit_left
    return _NEVER_ENDS if left is None else left


def _failure(status: int, message: str) -> Answer:
    return Answer(status, {"success": False, "message": message})
