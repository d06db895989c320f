"""Reacher (check-if-email-exists), hosted by yourself: one address at a time, free of charge.

Source: the project's openapi.json, backend_config.toml and its handlers in Rust, version 0.10 to 0.11. Only
/v1/check_email obeys the server's own throttle; 60 a minute and 10,000 a day are its recommendation, because mail
providers block an address that asks more. A throttled server answers 429 and says in its message how long. The secret
is optional (``header_secret``); a wrong or missing one is a 400 without JSON. Each of misc, mx and smtp may be
``{"error": {"type", "message"}}`` instead of what it says else. Nothing is paid, so that nothing can be paid twice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from leads_pipeline.config import WindowLimit
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.port import HttpRequest, Outcome, ProviderAnswer, Quirks
from leads_pipeline.verification.providers.reading import (
    OTHER_SUBJECT,
    UNREADABLE,
    answered_one,
    codes,
    first_reason,
    flags_of,
    is_about,
    is_false,
    is_true,
    mapping,
    only,
    refusal,
    seconds,
    text,
)

_WAIT = re.compile(r"please wait ([0-9.]{1,20})(ns|\u00b5s|ms|s)\b")
_REACHABLE = {
    "safe": Standing.VALID,
    "invalid": Standing.INVALID,
    "risky": Standing.RISKY,
    "unknown": Standing.UNKNOWN,
}


class Reacher:
    """``Provider`` of a Reacher backend."""

    quirks = Quirks(
        vendor="reacher",
        kind=LookupKind.MAILBOX,
        base_url="http://127.0.0.1:8080",
        batch_size=1,
        windows=(WindowLimit(requests=60, seconds=60),),
        daily=10_000,
        key_in="header:x-reacher-secret",
        in_flight=5,  # as many as its worker takes at once by default
        spread=True,
        maybe_paid=frozenset(),
    )

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """One check."""
        return HttpRequest("POST", "/v1/check_email", body={"to_email": only(subjects)})

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """It answers at once, always."""
        raise NotImplementedError

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """The verdict on the one address."""
        body = mapping(answer.body)
        if answer.status == 400 and "error" not in body:
            return ProviderAnswer(Outcome.REFUSED, code="SECRET")
        if (refused := refusal(answer, self.quirks)) is not None:
            if refused.outcome is Outcome.THROTTLED and refused.retry_after is None:
                return replace(refused, retry_after=_wait(text(body.get("error"))))
            return refused
        if not subjects or not isinstance(body.get("is_reachable"), str):
            return UNREADABLE
        if not is_about(body.get("input"), subjects[0]):
            return OTHER_SUBJECT
        return answered_one(subjects[0], _verdict(body))


def _verdict(body: Mapping[str, Any]) -> LookupVerdict:
    standing = _REACHABLE.get(text(body["is_reachable"]), Standing.UNKNOWN)
    syntax, mx, misc, smtp = (mapping(body.get(name)) for name in ("syntax", "mx", "misc", "smtp"))
    catch_all, full = is_true(smtp.get("is_catch_all")), is_true(smtp.get("has_full_inbox"))
    disposable, role = is_true(misc.get("is_disposable")), is_true(misc.get("is_role_account"))
    error = mapping(smtp.get("error")).get("type")
    said = f"{text(error)} {text(mapping(smtp.get('error')).get('message'))}"
    reasons: tuple[str, ...] = ("other",)
    match standing:
        case Standing.VALID:
            reasons = ("mailbox_exists",)
        case Standing.RISKY:
            reasons = flags_of(accepts_all=catch_all, disposable=disposable, full_mailbox=full, role=role) or reasons
        case Standing.INVALID:
            reasons = first_reason(
                [
                    (is_false(syntax.get("is_valid_syntax")), "bad_syntax"),
                    (is_false(mx.get("accepts_mail")), "no_mail_server"),
                    (is_true(smtp.get("is_disabled")), "mailbox_disabled"),
                    (is_false(smtp.get("can_connect_smtp")), "mail_server_failed"),
                    (is_false(smtp.get("is_deliverable")), "mailbox_not_found"),
                ]
            )
        case Standing.UNKNOWN:
            reasons = first_reason(
                [
                    ("error" in mx, "dns_failure"),
                    ("timeout" in said or "timed out" in said, "timeout"),
                    ("greylist" in said, "greylisted"),
                    ("error" in smtp, "mail_server_failed"),
                ]
            )
    return LookupVerdict(
        standing,
        reasons,
        flags_of(accepts_all=catch_all, disposable=disposable, role=role),
        codes(status=body.get("is_reachable"), sub_status=error),
    )


def _wait(message: str) -> float | None:
    """The seconds of "… please wait 12.5s", which is how Rust prints a duration; a shorter one comes in ms."""
    found = _WAIT.search(message)
    return None if found is None else seconds(found[1] if found[2] == "s" else "1")
