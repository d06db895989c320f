"""ZeroBounce: POST /v2/validatebatch, GET /v2/validate, GET /v2/getcredits.

A wrong key and an empty account look the same, inside a 200. An excess shuts the door for ten minutes (a minute for
single look-ups); nothing says for how long. What is unknown is not billed.
"""

from typing import Any

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.domains import KNOWN_HOSTS
from leads_pipeline.verification.sandbox.fates import FREE, Fate, fate_of, parts_of
from leads_pipeline.verification.sandbox.limits import Limit, Refusal, Window
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint

_NO_KEY_OR_CREDIT = "Invalid API Key or your account ran out of credits"

# status and sub_status
_WORDS: dict[Fate, tuple[str, str]] = {
    Fate.VALID: ("valid", ""),
    Fate.OBJECTION: ("valid", ""),
    Fate.MAILBOX_NOT_FOUND: ("invalid", "mailbox_not_found"),
    Fate.DOMAIN_NOT_FOUND: ("invalid", "no_dns_entries"),
    Fate.NO_MAIL_SERVER: ("invalid", "does_not_accept_mail"),
    Fate.BAD_SYNTAX: ("invalid", "failed_syntax_check"),
    Fate.FULL: ("invalid", "mailbox_quota_exceeded"),
    Fate.CATCH_ALL: ("catch-all", ""),
    Fate.DISPOSABLE: ("do_not_mail", "disposable"),
    Fate.ROLE: ("do_not_mail", "role_based"),
    Fate.TOXIC: ("do_not_mail", "toxic"),
    Fate.SPAMTRAP: ("spamtrap", ""),
    Fate.ABUSE: ("abuse", ""),
    Fate.TIMEOUT: ("unknown", "timeout_exceeded"),
    Fate.GREYLISTED: ("unknown", "greylisted"),
    Fate.UNREACHABLE: ("unknown", "mail_server_did_not_respond"),
}


class ZeroBounce:
    """One account."""

    key_needed = True
    batch_size = 100

    def __init__(self, _options: ProviderOptions) -> None:
        self.limits = {
            "batch": Limit((Window(30, 60),), block_seconds=600),
            "single": Limit((Window(80_000, 10),), block_seconds=60),
        }
        self.endpoints = (
            Endpoint("validatebatch", ("POST",), "/v2/validatebatch", self.validate_batch, "batch"),
            Endpoint("validate", ("GET",), "/v2/validate", self.validate, "single"),
            Endpoint("getcredits", ("GET",), "/v2/getcredits", self.credits),
        )

    def validate_batch(self, call: Call) -> Answer:
        """Up to a hundred addresses at once."""
        batch = call.fields.get("email_batch")
        addresses = [
            entry["email_address"]
            for entry in (batch if isinstance(batch, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("email_address"), str)
        ]
        if not addresses or not isinstance(batch, list) or len(addresses) < len(batch):
            return Answer(400, {"error": "Missing parameter: email_batch"})
        if len(addresses) > call.account.batch_size:
            return _refused("Batch is too large")
        call.account.ledger.demand(len(addresses))
        return Answer(200, {"email_batch": [_looked_up(call, address) for address in addresses], "errors": []})

    def validate(self, call: Call) -> Answer:
        """One address."""
        address = call.given("email")
        if not address:
            return Answer(400, {"error": "Missing parameter: email"})
        call.account.ledger.demand(1)
        return Answer(200, _looked_up(call, address))

    def credits(self, call: Call) -> Answer:
        """What the account has left; more than anybody needs if it never ends."""
        left = call.account.ledger.credit_left
        return Answer(200, {"Credits": str(1_000_000 if left is None else left)})

    def key_of(self, call: Call) -> str:
        return call.given("api_key")

    def unauthorized(self, call: Call) -> Answer:
        if call.endpoint == "getcredits":
            return Answer(200, {"Credits": "-1"})
        return self.out_of_credit(call)

    def out_of_credit(self, call: Call) -> Answer:
        if call.endpoint == "validatebatch":
            return _refused(_NO_KEY_OR_CREDIT)
        return Answer(200, {"error": _NO_KEY_OR_CREDIT})

    def throttled(self, call: Call, refusal: Refusal) -> Answer:
        return Answer(429, {"error": "Too many requests"})

    def broken(self, status: int) -> Answer:
        return Answer(status, {"error": "An unexpected error occurred"})

    def no_such_address(self, call: Call) -> Answer:
        return Answer(404, {"error": "Not found"})


def _refused(why: str) -> Answer:
    """A batch of which nothing was looked up: a 200 all the same."""
    return Answer(200, {"email_batch": [], "errors": [{"error": why, "email_address": "all"}]})


def _looked_up(call: Call, address: str) -> dict[str, Any]:
    fate = fate_of(address)
    status, sub_status = _WORDS[fate]
    call.account.ledger.look_up(address.strip().lower(), status, billed=status != "unknown")
    local, domain = parts_of(address)
    has_mail = fate not in (Fate.DOMAIN_NOT_FOUND, Fate.NO_MAIL_SERVER, Fate.BAD_SYNTAX)
    return {
        "address": address,
        "status": status,
        "sub_status": sub_status,
        "free_email": domain in FREE,
        "did_you_mean": None,
        "account": local or None,
        "domain": domain or None,
        "domain_age_days": "9692" if has_mail else None,
        "smtp_provider": "g-suite" if domain in KNOWN_HOSTS and "google" in KNOWN_HOSTS[domain][0][1] else "",
        "mx_found": "true" if has_mail else "false",
        "mx_record": KNOWN_HOSTS.get(domain, ((10, f"mx1.{domain}"),))[0][1] if has_mail else "",
        "catchall_domain": fate is Fate.CATCH_ALL if has_mail else None,
        "firstname": None,
        "lastname": None,
        "gender": None,
        "country": None,
        "region": None,
        "city": None,
        "zipcode": None,
        "processed_at": call.now.strftime("%Y-%m-%d %H:%M:%S.") + f"{call.now.microsecond // 1000:03d}",
    }
