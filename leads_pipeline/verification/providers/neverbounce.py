"""NeverBounce: a list becomes a job, which is created, asked for until it is complete, and read.

Source: developers.neverbounce.com (jobs, error handling, usage guidelines) and its OpenAPI definition 4.2, as of August
2026. The endpoint for single addresses is for people who wait at a form; used for lists it gets the account locked, so
it is not used here. An account may run 50 jobs a day, 10 at once, and many small jobs an hour get it locked as well.
Errors, throttling included, are HTTP 200 with a ``status``; nothing says how long a throttle lasts. Every endpoint
takes POST with JSON, which keeps the key out of addresses. A job's totals count duplicates and bad syntax apart from
what is billable, so these are taken to be free. Not documented: whether unknown results are given back (here they count
as paid), the reasons of a failed job and whether it cost something, and what an empty account says.

``poll_reference`` is the job's number, with ``.results`` behind it once the job is complete.
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
    code_of,
    codes,
    first_reason,
    flags_of,
    mapping,
    objects,
    refusal,
    text,
)

_PAGE = 1000  # most results in one answer; no batch is larger, so that one page is all
_COMPLETE = ".results"

_FAILURES = {
    "auth_failure": Outcome.REFUSED,
    "bad_referrer": Outcome.REFUSED,
    "general_failure": Outcome.REJECTED,
    "temp_unavail": Outcome.BROKEN,
    "throttle_triggered": Outcome.THROTTLED,
}
_UNDER_WAY = frozenset({"uploading", "waiting", "waiting_analyzed", "queued", "parsing", "running", "under_review"})
_RESULTS = {
    "valid": Standing.VALID,
    "invalid": Standing.INVALID,
    "disposable": Standing.RISKY,
    "catchall": Standing.RISKY,
    "unknown": Standing.UNKNOWN,
}


class NeverBounce:
    """``Provider`` of NeverBounce's jobs."""

    quirks = Quirks(
        vendor="neverbounce",
        kind=LookupKind.MAILBOX,
        base_url="https://api.neverbounce.com",
        batch_size=_PAGE,
        windows=(WindowLimit(requests=10, seconds=3600),),
        daily=50,
        key_in="body:key",
        in_flight=10,
        polls_are_limited=False,  # what is limited are jobs
        poll_seconds=15,
        poll_patience_seconds=3600,
    )

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """Create a job that starts by itself."""
        rows = [{"id": str(number), "email": subject} for number, subject in enumerate(subjects)]
        body = {
            "input_location": "supplied",
            "filename": "leads",
            "auto_parse": True,
            "auto_start": True,
            "allow_manual_review": False,
            "input": rows,
        }
        return HttpRequest("POST", "/v4.2/jobs/create", body=body)

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """Ask how far the job is, or for its results."""
        job, complete = int(reference.removesuffix(_COMPLETE)), reference.endswith(_COMPLETE)
        if complete:
            return HttpRequest("POST", "/v4.2/jobs/results", body={"job_id": job, "page": 1, "items_per_page": _PAGE})
        return HttpRequest("POST", "/v4.2/jobs/status", body={"job_id": job})

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """The answer to any of the three requests, known by its keys."""
        if (refused := refusal(answer, self.quirks)) is not None:
            return refused
        body = mapping(answer.body)
        if text(body.get("status")) != "success":
            return _failure(body)
        if isinstance(body.get("results"), list):
            found = Matching(subjects)
            for entry in objects(body["results"]):
                verdict = _verdict(entry)
                found.add(mapping(entry.get("data")).get("email"), verdict, billed=verdict.reasons != ("bad_syntax",))
            return ProviderAnswer(Outcome.ANSWERED, found.verdicts, billed=found.billed)
        if (job := _count(body.get("job_id"))) is not None:
            return ProviderAnswer(Outcome.POLL, poll_reference=str(job))
        return _progress(body)


def _failure(body: Mapping[str, Any]) -> ProviderAnswer:
    status = text(body.get("status"))
    if status == "general_failure" and "credit" in text(body.get("message")):
        return ProviderAnswer(Outcome.OUT_OF_CREDIT, code=status)
    outcome = _FAILURES.get(status)
    return UNREADABLE if outcome is None else ProviderAnswer(outcome, code=status)


def _progress(body: Mapping[str, Any]) -> ProviderAnswer:
    job, state = _count(body.get("id")), text(body.get("job_status"))
    if state == "failed":
        return ProviderAnswer(Outcome.BROKEN, code=code_of(body.get("failure_reason")) or "JOB_FAILED")
    if job is None:
        return UNREADABLE
    if state == "complete":
        return ProviderAnswer(Outcome.POLL, retry_after=0, poll_reference=f"{job}{_COMPLETE}")
    return ProviderAnswer(Outcome.POLL, poll_reference=str(job)) if state in _UNDER_WAY else UNREADABLE


def _verdict(entry: Mapping[str, Any]) -> LookupVerdict:
    verification = mapping(entry.get("verification"))
    result = text(verification.get("result"))
    listed = verification.get("flags")
    seen = {text(flag) for flag in listed} if isinstance(listed, list) else set()
    standing = _RESULTS.get(result, Standing.UNKNOWN)
    trap = standing is Standing.VALID and "spamtrap_network" in seen
    standing = Standing.RISKY if trap else standing
    reasons = first_reason(
        [
            (trap, "spamtrap"),
            (standing is Standing.VALID, "mailbox_exists"),
            (result == "disposable", "disposable"),
            (result == "catchall", "accepts_all"),
            (standing is Standing.INVALID and "bad_syntax" in seen, "bad_syntax"),
            (standing is Standing.INVALID and {"smtp_connectable", "has_dns_mx"} <= seen, "mailbox_not_found"),
            (standing is Standing.UNKNOWN and "temporary_dns_error" in seen, "dns_failure"),
            (standing is Standing.UNKNOWN and "connect_fails" in seen, "mail_server_failed"),
        ]
    )
    return LookupVerdict(
        standing,
        reasons,
        flags_of(
            accepts_all=result == "catchall",
            alias="contains_alias" in seen,
            disposable=result == "disposable" or "disposable_email" in seen,
            free="free_email_host" in seen,
            role="role_account" in seen,
            suggestion="spelling_mistake" in seen or bool(text(verification.get("suggested_correction"))),
        ),
        codes(status=verification.get("result")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
