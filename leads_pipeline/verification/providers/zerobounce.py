"""ZeroBounce: up to 100 addresses in one request, answered in up to 70 seconds.

Source: zerobounce.net/docs (v2 batch validate, status codes, rate limits, error codes), the vendor's Postman collection
and the models of its Python SDK, as of August 2026. More than 30 calls a minute block the account's batches for ten
minutes; nothing announces the end. 403 is a passing protection, not a bad key. Results of status unknown are free.
A bad key and an empty account are told apart by nothing: both are ``KEY_OR_CREDIT``. Not documented: the body of a 4xx,
and whether a 500 was charged; 520 and 524 come from a proxy in front, so that what it hides may have been.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.config import WindowLimit
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.port import HttpRequest, Outcome, ProviderAnswer, Quirks
from leads_pipeline.verification.providers.reading import (
    UNREADABLE,
    Matching,
    codes,
    flags_of,
    is_true,
    mapping,
    objects,
    refusal,
    text,
)

# Then what is not done becomes unknown: an answer that we no longer wait for would be charged all the same.
_VENDOR_TIMEOUT_SECONDS = 60

# By status: what it means where the sub-status says nothing more.
_STATUS = {
    "valid": (Standing.VALID, "mailbox_exists"),
    "invalid": (Standing.INVALID, "other"),
    "catch-all": (Standing.RISKY, "accepts_all"),
    "spamtrap": (Standing.INVALID, "spamtrap"),
    "abuse": (Standing.RISKY, "complainer"),
    "do_not_mail": (Standing.RISKY, "do_not_mail"),
    "unknown": (Standing.UNKNOWN, "other"),
}
_SUB_STATUS = {
    "antispam_system": ("blocked_by_mailbox",),
    "blocked": ("suppressed",),
    "disposable": ("disposable",),
    "does_not_accept_mail": ("no_mail_server",),
    "exception_occurred": ("provider_failed",),
    "failed_smtp_connection": ("mail_server_failed",),
    "failed_syntax_check": ("bad_syntax",),
    "forcible_disconnect": ("mail_server_failed",),
    "global_suppression": ("suppressed",),
    "greylisted": ("greylisted",),
    "mail_server_did_not_respond": ("timeout",),
    "mail_server_temporary_error": ("mail_server_failed",),
    "mailbox_not_found": ("mailbox_not_found",),
    "mailbox_quota_exceeded": ("full_mailbox",),
    "mx_forward": ("forwarded",),
    "no_dns_entries": ("domain_not_found",),
    "possible_trap": ("spamtrap",),
    "possible_typo": ("possible_typo",),
    "role_based": ("role",),
    "role_based_catch_all": ("role", "accepts_all"),
    "timeout_exceeded": ("timeout",),
    "toxic": ("toxic",),
    "unroutable_ip_address": ("no_mail_server",),
}


class ZeroBounce:
    """``Provider`` of ZeroBounce's batch endpoint."""

    quirks = Quirks(
        vendor="zerobounce",
        kind=LookupKind.MAILBOX,
        base_url="https://api.zerobounce.net",
        batch_size=100,
        windows=(WindowLimit(requests=30, seconds=60),),
        key_in="body:api_key",
        in_flight=35,  # 30 a minute, of which each takes up to 70 seconds
        spread=True,
        block_seconds=600,
    )

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """One call of validatebatch."""
        batch = [{"email_address": subject, "ip_address": None} for subject in subjects]
        return HttpRequest("POST", "/v2/validatebatch", body={"email_batch": batch, "timeout": _VENDOR_TIMEOUT_SECONDS})

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """It answers at once, always."""
        raise NotImplementedError

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """A verdict for each entry of email_batch; an address that it could not process is unknown."""
        if answer.status == 403:
            return ProviderAnswer(Outcome.THROTTLED, code="HTTP_403")
        if (refused := refusal(answer, self.quirks)) is not None:
            return refused
        body = mapping(answer.body)
        errors = objects(body.get("errors"))
        if (whole := _whole_error(body, errors)) is not None:
            return whole
        if not isinstance(body.get("email_batch"), list):
            return UNREADABLE
        found = Matching(subjects)
        for entry in objects(body["email_batch"]):
            found.add(entry.get("address"), _verdict(entry), billed=text(entry.get("status")) != "unknown")
        for error in errors:
            verdict = LookupVerdict(Standing.UNKNOWN, ("provider_failed",))
            found.add(error.get("email_address"), verdict, billed=False)
        return ProviderAnswer(Outcome.ANSWERED, found.verdicts, billed=found.billed)


def _whole_error(body: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> ProviderAnswer | None:
    """What is said about the request as a whole: an ``error`` on top, or one about ``all``."""
    messages = [text(body.get("error"))]
    messages += [text(error.get("error")) or "?" for error in errors if text(error.get("email_address")) == "all"]
    message = next(filter(None, messages), None)
    if message is None:
        return None
    if "api key" in message or "credit" in message:
        return ProviderAnswer(Outcome.REFUSED, code="KEY_OR_CREDIT")
    return ProviderAnswer(Outcome.REJECTED, code="BATCH_ERROR")


def _verdict(entry: Mapping[str, Any]) -> LookupVerdict:
    status, sub_status = text(entry.get("status")), text(entry.get("sub_status"))
    standing, reason = _STATUS.get(status, (Standing.UNKNOWN, "other"))
    reasons = (reason,) if standing is Standing.VALID else _SUB_STATUS.get(sub_status, (reason,))
    if standing is Standing.INVALID and reasons == ("full_mailbox",):
        standing = Standing.RISKY  # it exists, and may be emptied
    return LookupVerdict(
        standing,
        reasons,
        flags_of(
            accepts_all=status == "catch-all" or sub_status.endswith(("accept_all", "catch_all")),
            alias=sub_status == "alias_address",
            automated=sub_status == "ai_agent_mailbox",
            disposable=sub_status == "disposable",
            free=is_true(entry.get("free_email")),
            role=sub_status.startswith("role_based"),
            suggestion=bool(text(entry.get("did_you_mean"))),
        ),
        codes(status=entry.get("status"), sub_status=entry.get("sub_status"), mail_provider=entry.get("smtp_provider")),
    )
