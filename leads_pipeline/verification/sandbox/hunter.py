"""Hunter: GET /v2/email-verifier, GET /v2/account.

Ten requests a second, 300 a minute: more is a 403. An empty account is a 429. Some answers are a 202 first: ask again.
Of a person who objected nothing is said (451), nor where the mail server behaves oddly (222). Free mail, disposable and
unknown addresses are not billed.
"""

from typing import Any

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.fates import (
    FREE,
    INVALID,
    UNKNOWN,
    Fate,
    asked_for,
    fate_of,
    parts_of,
    share_of,
)
from leads_pipeline.verification.sandbox.limits import Limit, Refusal, Window
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint, bearer_of

# This many of ten thousand addresses are a 202 first, and those whose local part is this word.
PENDING_SHARE = 500
PENDING = "pending"

_NOT_BILLED = frozenset({"webmail", "disposable", "unknown"})
_OBJECTION = "The person owning this email address asked us to stop the processing of their personal data."


class Hunter:
    """One account."""

    key_needed = True
    batch_size = 1

    def __init__(self, options: ProviderOptions) -> None:
        self.limits = {"verifier": Limit((Window(10, 1), Window(300, 60)))}
        self._pending_seconds = options.pending_seconds
        # When an address was asked for first that is a 202 at first.
        self._first_asked: dict[str, float] = {}
        self.endpoints = (
            Endpoint("email-verifier", ("GET",), "/v2/email-verifier", self.verify, "verifier"),
            Endpoint("account", ("GET",), "/v2/account", self.account),
        )

    def verify(self, call: Call) -> Answer:
        """One address; ask again after a 202."""
        address = call.given("email").strip()
        local, domain = parts_of(address)
        if not address:
            return _failure(400, "wrong_params", "You are missing the email parameter")
        if not local:
            return _failure(400, "invalid_email", "The supplied email is invalid")
        fate = fate_of(address)
        if fate is Fate.OBJECTION:
            return _failure(451, "claimed_email", _OBJECTION)
        if fate is Fate.UNREACHABLE:
            call.account.ledger.look_up(address.lower(), "222", billed=False)
            return _failure(222, "verification_failed", "The mail server returned an unexpected response")
        if self._is_pending(address.lower(), call.tick):
            return Answer(
                202, {"data": {"status": "in_progress", "email": address}, "meta": {"params": {"email": address}}}
            )
        status = _status(fate, domain)
        billed = status not in _NOT_BILLED
        if billed:
            call.account.ledger.demand(1)
        call.account.ledger.look_up(address.lower(), status, billed=billed)
        return Answer(200, {"data": _data(address, fate, status), "meta": {"params": {"email": address}}})

    def account(self, call: Call) -> Answer:
        """What the plan has left."""
        used, left = call.account.ledger.billed.total(), call.account.ledger.credit_left
        available = 1_000_000 if left is None else used + left
        return Answer(200, {"data": {"requests": {"verifications": {"used": used, "available": available}}}})

    def key_of(self, call: Call) -> str:
        return call.given("api_key") or call.headers.get("x-api-key", "") or bearer_of(call)

    def unauthorized(self, call: Call) -> Answer:
        return _failure(401, "authentication_failed", "No user found for the API key supplied")

    def out_of_credit(self, call: Call) -> Answer:
        return _failure(429, "usage_exceeded", "You have reached your usage limit for this billing period")

    def throttled(self, call: Call, refusal: Refusal) -> Answer:
        return _failure(403, "too_many_requests", "You have reached the rate limit of this endpoint")

    def broken(self, status: int) -> Answer:
        return _failure(status, "server_error", "Something went wrong on our side")

    def no_such_address(self, call: Call) -> Answer:
        return _failure(404, "not_found", "The requested resource couldn't be found.")

    def _is_pending(self, address: str, tick: float) -> bool:
        word = asked_for(address.rpartition("@")[0])
        if word != PENDING and share_of(address, PENDING) >= PENDING_SHARE:
            return False
        return tick - self._first_asked.setdefault(address, tick) < self._pending_seconds


def _status(fate: Fate, domain: str) -> str:
    if fate in INVALID or fate is Fate.FULL:
        return "invalid"
    if fate is Fate.DISPOSABLE:
        return "disposable"
    if fate in UNKNOWN:
        return "unknown"
    if domain in FREE:
        return "webmail"
    return "accept_all" if fate is Fate.CATCH_ALL else "valid"


def _data(address: str, fate: Fate, status: str) -> dict[str, Any]:
    _local, domain = parts_of(address)
    has_mail = fate not in (Fate.DOMAIN_NOT_FOUND, Fate.NO_MAIL_SERVER)
    reached = has_mail and fate not in UNKNOWN
    good = status in ("valid", "webmail")
    return {
        "status": status,
        "result": "deliverable" if good else "undeliverable" if status == "invalid" else "risky",
        "_deprecation_notice": "Using result is deprecated, use status instead",
        "score": 97 if good else 0 if status == "invalid" else 50,
        "email": address,
        "regexp": True,
        "gibberish": False,
        "disposable": status == "disposable",
        "webmail": domain in FREE,
        "mx_records": has_mail,
        "smtp_server": reached,
        "smtp_check": reached and status != "invalid",
        "accept_all": status == "accept_all",
        "block": fate is Fate.GREYLISTED,
        "sources": [],
    }


def _failure(status: int, id_: str, details: str) -> Answer:
    return Answer(status, {"errors": [{"id": id_, "code": status, "details": details}]})
