"""Hunter's e-mail verifier: one address at a time; what takes long is asked for again.

Source: hunter.io/api-documentation/v2, the help pages on counting and on verifying by API, as of 2026. 202: the same
request later brings the answer and counts once. 222: the mail server behaved unexpectedly, later it may work. 403 is
the rate limit and 429 the plan's quota. 451: the person has asked Hunter not to process their data. Webmail, disposable
and unknown results are not counted. Webmail is often not looked into, so it says something only with an SMTP check.
Not documented: what a 5xx counts, and any time to wait.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.config import WindowLimit
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.port import HttpRequest, Outcome, ProviderAnswer, Quirks
from leads_pipeline.verification.providers.reading import (
    OTHER_SUBJECT,
    UNREADABLE,
    answered_one,
    code_of,
    codes,
    first_reason,
    flags_of,
    is_about,
    is_false,
    is_true,
    mapping,
    objects,
    only,
    refusal,
    text,
)

_AGAIN = "again"  # the same request is the poll

_STATUS = {
    "valid": Standing.VALID,
    "invalid": Standing.INVALID,
    "accept_all": Standing.RISKY,
    "disposable": Standing.RISKY,
    "unknown": Standing.UNKNOWN,
}
_NOT_COUNTED = frozenset({"webmail", "disposable", "unknown"})


class Hunter:
    """``Provider`` of Hunter's e-mail verifier."""

    quirks = Quirks(
        vendor="hunter",
        kind=LookupKind.MAILBOX,
        base_url="https://api.hunter.io",
        batch_size=1,
        windows=(WindowLimit(requests=10, seconds=1), WindowLimit(requests=300, seconds=60)),
        key_in="header:X-API-KEY",
        in_flight=10,
        poll_seconds=5,
        poll_patience_seconds=300,
    )

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """One verification."""
        return HttpRequest("GET", "/v2/email-verifier", query={"email": only(subjects)})

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """The same request again."""
        return self.request(subjects)

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """The verdict on the one address, or that it is still being made."""
        if not subjects:
            return UNREADABLE
        errors = objects(mapping(answer.body).get("errors"))
        code = next(filter(None, (code_of(error.get("id")) for error in errors)), None)
        match answer.status:
            case 202:
                return ProviderAnswer(Outcome.POLL, poll_reference=_AGAIN)
            case 222:
                return answered_one(subjects[0], LookupVerdict(Standing.UNKNOWN, ("mail_server_failed",)), billed=False)
            case 403:
                return ProviderAnswer(Outcome.THROTTLED, code=code or "HTTP_403")
            case 429:
                return ProviderAnswer(Outcome.OUT_OF_CREDIT, code=code or "HTTP_429")
            case 451:
                verdict = LookupVerdict(Standing.UNKNOWN, ("personal_data_objection",))
                return answered_one(subjects[0], verdict, billed=False)
        if (refused := refusal(answer, self.quirks)) is not None:
            return refused
        data = mapping(mapping(answer.body).get("data"))
        if not isinstance(data.get("status"), str):
            return UNREADABLE
        if not is_about(data.get("email"), subjects[0]):
            return OTHER_SUBJECT
        return answered_one(subjects[0], _verdict(data), billed=text(data["status"]) not in _NOT_COUNTED)


def _verdict(data: Mapping[str, Any]) -> LookupVerdict:
    status = text(data["status"])
    standing = _STATUS.get(status, Standing.UNKNOWN)
    if status == "webmail" and is_true(data.get("smtp_check")):
        standing = Standing.VALID
    invalid, unknown = standing is Standing.INVALID, standing is Standing.UNKNOWN
    reasons = first_reason(
        [
            (standing is Standing.VALID, "mailbox_exists"),
            (status == "accept_all", "accepts_all"),
            (status == "disposable", "disposable"),
            (invalid and is_false(data.get("regexp")), "bad_syntax"),
            (invalid and is_false(data.get("mx_records")), "no_mail_server"),
            (invalid and is_false(data.get("smtp_check")), "mailbox_not_found"),
            (unknown and is_true(data.get("block")), "blocked_by_mailbox"),
            (unknown and is_false(data.get("smtp_server")), "mail_server_failed"),
        ]
    )
    return LookupVerdict(
        standing,
        reasons,
        flags_of(
            accepts_all=is_true(data.get("accept_all")),
            disposable=is_true(data.get("disposable")),
            free=is_true(data.get("webmail")),
            gibberish=is_true(data.get("gibberish")),
        ),
        codes(status=data.get("status")),
    )
