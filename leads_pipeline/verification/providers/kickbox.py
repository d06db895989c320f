"""Kickbox: one address at a time, 25 of them at once.

Source: docs.kickbox.com (using the API, single verification, terminology), as of August 2026. A 429 comes either from
the 25 requests in flight, and may be repeated at once, or from 8,000 in a minute of the clock; nothing tells them
apart. 403 is a bad key or an empty account by its ``message`` only. Unknown results are given back. The address in the
answer is a normal form of Kickbox's making, so that it is not compared. Accounts of app.eu.kickbox.com need
``base_url`` https://api.eu.kickbox.com. Not documented: whether a 500 was charged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.config import WindowLimit
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.port import HttpRequest, Outcome, ProviderAnswer, Quirks
from leads_pipeline.verification.providers.reading import (
    UNREADABLE,
    answered_one,
    codes,
    flags_of,
    is_false,
    is_true,
    mapping,
    only,
    refusal,
    text,
)

_RESULTS = {
    "deliverable": Standing.VALID,
    "undeliverable": Standing.INVALID,
    "risky": Standing.RISKY,
    "unknown": Standing.UNKNOWN,
}
_REASONS = {
    "accepted_email": "mailbox_exists",
    "invalid_domain": "domain_not_found",
    "invalid_email": "bad_syntax",
    "invalid_smtp": "mail_server_failed",
    "low_deliverability": "low_quality",
    "low_quality": "low_quality",
    "no_connect": "mail_server_failed",
    "rejected_email": "mailbox_not_found",
    "timeout": "timeout",
    "unavailable_smtp": "mail_server_failed",
    "unexpected_error": "provider_failed",
}


class Kickbox:
    """``Provider`` of Kickbox's single verification."""

    quirks = Quirks(
        vendor="kickbox",
        kind=LookupKind.MAILBOX,
        base_url="https://api.kickbox.com",
        batch_size=1,
        windows=(WindowLimit(requests=8000, seconds=60, by_the_clock=True),),
        key_in="query:apikey",
        in_flight=25,
        block_seconds=1,
    )

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """One verification."""
        return HttpRequest("GET", "/v2/verify", query={"email": only(subjects)})

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """It answers at once, always."""
        raise NotImplementedError

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """The verdict on the one address."""
        body = mapping(answer.body)
        if answer.status in (200, 403) and (failed := _failure(body)) is not None:
            return failed
        if (refused := refusal(answer, self.quirks)) is not None:
            return refused
        if not subjects or not isinstance(body.get("result"), str):
            return UNREADABLE
        return answered_one(subjects[0], _verdict(body), billed=text(body["result"]) != "unknown")


def _failure(body: Mapping[str, Any]) -> ProviderAnswer | None:
    """What ``success: false`` says; about the address it says nothing."""
    if not is_false(body.get("success")):
        return None
    message = text(body.get("message"))
    if "balance" in message:
        return ProviderAnswer(Outcome.OUT_OF_CREDIT, code="BALANCE")
    if "api key" in message:
        return ProviderAnswer(Outcome.REFUSED, code="API_KEY")
    if "rate limit" in message:
        return ProviderAnswer(Outcome.THROTTLED, code="RATE_LIMIT")
    return None


def _verdict(body: Mapping[str, Any]) -> LookupVerdict:
    standing = _RESULTS.get(text(body["result"]), Standing.UNKNOWN)
    marks = {name: is_true(body.get(name)) for name in ("accept_all", "disposable", "role")}
    reasons: tuple[str, ...] = (_REASONS.get(text(body.get("reason")), "other"),)
    if standing is Standing.RISKY and any(marks.values()):
        reasons = flags_of(accepts_all=marks["accept_all"], disposable=marks["disposable"], role=marks["role"])
    return LookupVerdict(
        standing,
        reasons,
        flags_of(
            accepts_all=marks["accept_all"],
            disposable=marks["disposable"],
            free=is_true(body.get("free")),
            role=marks["role"],
            suggestion=bool(text(body.get("did_you_mean"))),
        ),
        codes(status=body.get("result"), sub_status=body.get("reason")),
    )
