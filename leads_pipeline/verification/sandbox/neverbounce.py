"""NeverBounce: jobs under /v4 and /v4.2, and /single/check.

Every refusal is a 200 with a word in ``status``: a wrong key, a throttle, a mistake. A job is made and parsed, then it
runs for a while; ten run at once, fifty are made in a day. What is billed is what runs: duplicates and what is no
address cost nothing.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.fates import FREE, INVALID, UNKNOWN, Fate, fate_of, parts_of
from leads_pipeline.verification.sandbox.limits import Limit, Refusal, Window
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint, OverLimit

JOBS_AT_ONCE = 10
JOBS_A_DAY = 50
# Parsing takes this part of a job's time.
_PARSING = 0.1
_RESULTS = ("valid", "invalid", "catchall", "disposable", "unknown")


@dataclass(slots=True)
class _Job:
    id: int
    rows: list[dict[str, Any]]
    filename: str
    made_at: datetime
    started_at: datetime | None = None  # None: it waits to be started
    started_tick: float = 0.0

    def status(self, tick: float, seconds: float) -> str:
        if self.started_at is None:
            return "waiting"
        age = tick - self.started_tick
        if age >= seconds:
            return "complete"
        return "parsing" if age < seconds * _PARSING else "running"


class NeverBounce:
    """One account."""

    key_needed = True
    batch_size = 1_000  # of ours: theirs is 25 MB of data

    def __init__(self, options: ProviderOptions) -> None:
        self.limits = {"api": Limit(), "create": Limit((Window(JOBS_A_DAY, 86_400),))}
        self._seconds = options.job_seconds
        self._limited = options.limited
        self._jobs: dict[int, _Job] = {}
        self.endpoints = (
            Endpoint("jobs/create", ("POST",), "/{version}/jobs/create", self.create, "create"),
            Endpoint("jobs/start", ("POST",), "/{version}/jobs/start", self.start, "api"),
            Endpoint("jobs/status", ("GET", "POST"), "/{version}/jobs/status", self.status, "api"),
            Endpoint("jobs/results", ("GET", "POST"), "/{version}/jobs/results", self.results, "api"),
            Endpoint("single/check", ("GET", "POST"), "/{version}/single/check", self.check, "api"),
            Endpoint("account/info", ("GET", "POST"), "/{version}/account/info", self.account_info, "api"),
        )

    def create(self, call: Call) -> Answer:
        """Take a list; with ``auto_start`` it runs at once."""
        if call.given("input_location") != "supplied":
            return _failure("general_failure", "The sandbox takes only supplied input")
        rows = _rows(call.fields.get("input"))
        if not rows:
            return _failure("general_failure", "Missing required parameter 'input'")
        if len(rows) > call.account.batch_size:
            return _failure("general_failure", f"The input has more than {call.account.batch_size} rows")
        job = _Job(
            id=150_970 + len(self._jobs),
            rows=rows,
            filename=call.given("filename") or "Created from Array.csv",
            made_at=call.now,
        )
        if _is_true(call.given("auto_start")):
            self._run(job, call)
        self._jobs[job.id] = job
        return _success({"job_id": job.id})

    def start(self, call: Call) -> Answer:
        """Run a job that was made without ``auto_start``."""
        job = self._job(call)
        if job is None or job.started_at is not None:
            return _failure("general_failure", "Invalid job ID")
        self._run(job, call)
        return _success({"queue_id": f"NB-PQ-{job.id}"})

    def status(self, call: Call) -> Answer:
        """How far a job is."""
        job = self._job(call)
        if job is None:
            return _failure("general_failure", "Invalid job ID")
        status = job.status(call.tick, self._seconds)
        done = status == "complete"
        finished_at = job.started_at + timedelta(seconds=self._seconds) if done and job.started_at else None
        return _success(
            {
                "id": job.id,
                "job_status": status,
                "filename": job.filename,
                "created_at": _stamp(job.made_at),
                "started_at": _stamp(job.started_at) if job.started_at else None,
                "finished_at": _stamp(finished_at) if finished_at else None,
                "failure_reason": None,
                "total": _totals(job, done=done),
                "bounce_estimate": 0,
                "percent_complete": 100 if done else 0 if status == "waiting" else 50,
            }
        )

    def results(self, call: Call) -> Answer:
        """A page of what was found, once the job is complete."""
        job = self._job(call)
        if job is None:
            return _failure("general_failure", "Invalid job ID")
        if job.status(call.tick, self._seconds) != "complete":
            return _failure("general_failure", "Results are not currently available for this job")
        page, size = _number(call.given("page"), 1), _number(call.given("items_per_page"), 10)
        if not (1 <= size <= 1_000) or page < 1:
            return _failure("general_failure", "items_per_page is between 1 and 1000")
        rows = job.rows[(page - 1) * size : page * size]
        return _success(
            {
                "total_results": len(job.rows),
                "total_pages": -(-len(job.rows) // size),
                "query": {
                    "job_id": job.id,
                    **{f"{name}s": 1 for name in _RESULTS},
                    "page": page,
                    "items_per_page": size,
                },
                "results": [{"data": row, "verification": _verification(row["email"])} for row in rows],
            }
        )

    def check(self, call: Call) -> Answer:
        """One address. For people who wait, not for lists: see how often in the report."""
        address = call.given("email")
        if not address:
            return _failure("general_failure", "Missing required parameter 'email'")
        call.account.ledger.demand(1)
        result = _result(fate_of(address))
        call.account.ledger.look_up(address.strip().lower(), result, billed=True)
        return _success(_verification(address))

    def account_info(self, call: Call) -> Answer:
        """Credit and jobs."""
        left = call.account.ledger.credit_left
        counts = Counter(job.status(call.tick, self._seconds) for job in self._jobs.values())
        return _success(
            {
                "credits_info": {
                    "paid_credits_used": call.account.ledger.billed.total(),
                    "free_credits_used": 0,
                    "paid_credits_remaining": 1_000_000 if left is None else left,
                    "free_credits_remaining": 0,
                },
                "job_counts": {
                    "completed": counts["complete"],
                    "under_review": 0,
                    "queued": counts["waiting"],
                    "processing": counts["parsing"] + counts["running"],
                },
            }
        )

    def key_of(self, call: Call) -> str:
        return call.given("key")

    def unauthorized(self, call: Call) -> Answer:
        return _failure("auth_failure", "We were unable to authenticate your request")

    def out_of_credit(self, call: Call) -> Answer:
        return _failure("general_failure", "Insufficient credits to run this job")

    def throttled(self, call: Call, refusal: Refusal) -> Answer:
        return _failure("throttle_triggered", "Too many requests in a short amount of time")

    def broken(self, status: int) -> Answer:
        return Answer(status)

    def no_such_address(self, call: Call) -> Answer:
        return Answer(404)

    def _run(self, job: _Job, call: Call) -> None:
        running = sum(other.status(call.tick, self._seconds) in ("parsing", "running") for other in self._jobs.values())
        if self._limited and running >= JOBS_AT_ONCE:
            raise OverLimit
        addresses = {row["email"].strip().lower(): fate_of(row["email"]) for row in job.rows}
        payable = {address: fate for address, fate in addresses.items() if fate is not Fate.BAD_SYNTAX}
        call.account.ledger.demand(len(payable))
        for address, fate in addresses.items():
            call.account.ledger.look_up(address, _result(fate), billed=address in payable)
        job.started_at, job.started_tick = call.now, call.tick

    def _job(self, call: Call) -> _Job | None:
        return self._jobs.get(_number(call.given("job_id"), 0))


def _rows(given: Any) -> list[dict[str, Any]]:
    """Rows as objects with an ``email``, or as lists that begin with one; nothing if one of them is neither."""
    rows: list[dict[str, Any]] = []
    for row in given if isinstance(given, list) else []:
        if isinstance(row, dict) and isinstance(row.get("email"), str):
            rows.append(row)
        elif isinstance(row, list) and row and isinstance(row[0], str):
            rows.append({"email": row[0], **{f"column_{place}": cell for place, cell in enumerate(row[1:], 2)}})
        else:
            return []
    return rows


def _result(fate: Fate) -> str:
    if fate in INVALID or fate is Fate.FULL:
        return "invalid"
    if fate in UNKNOWN:
        return "unknown"
    return {Fate.CATCH_ALL: "catchall", Fate.DISPOSABLE: "disposable"}.get(fate, "valid")


def _verification(address: str) -> dict[str, Any]:
    fate = fate_of(address)
    local, domain = parts_of(address)
    flags = []
    if fate not in (Fate.BAD_SYNTAX, Fate.DOMAIN_NOT_FOUND):
        flags += ["has_dns"] if fate is Fate.NO_MAIL_SERVER else ["has_dns", "has_dns_mx"]
    if fate not in INVALID | UNKNOWN or fate is Fate.MAILBOX_NOT_FOUND:
        flags.append("smtp_connectable")
    flags += [
        flag
        for flag, holds in (
            ("connect_fails", fate in (Fate.TIMEOUT, Fate.UNREACHABLE)),
            ("contains_alias", "+" in local),
            ("role_account", fate is Fate.ROLE),
            ("free_email_host", domain in FREE),
            ("disposable_email", fate is Fate.DISPOSABLE),
            ("accepts_all", fate is Fate.CATCH_ALL),
            ("spamtrap_network", fate is Fate.SPAMTRAP),
            ("bad_syntax", fate is Fate.BAD_SYNTAX),
        )
        if holds
    ]
    name, _, top_level = domain.rpartition(".")
    return {
        "result": _result(fate),
        "flags": flags,
        "suggested_correction": "",
        "address_info": {
            "original_email": address,
            "normalized_email": address.strip().lower() if local else "",
            "addr": local,
            "alias": local.partition("+")[2],
            "host": domain,
            "fqdn": domain,
            "domain": name,
            "subdomain": "",
            "tld": top_level,
        },
    }


def _totals(job: _Job, *, done: bool) -> dict[str, int]:
    fates = {row["email"].strip().lower(): fate_of(row["email"]) for row in job.rows}
    results = Counter(_result(fate) for fate in fates.values() if fate is not Fate.BAD_SYNTAX)
    bad = sum(fate is Fate.BAD_SYNTAX for fate in fates.values())
    return {
        "records": len(job.rows),
        "billable": len(fates) - bad,
        "processed": len(job.rows) if done else 0,
        **{name: results[name] if done else 0 for name in _RESULTS},
        "duplicates": len(job.rows) - len(fates),
        "bad_syntax": bad,
    }


def _success(body: dict[str, Any]) -> Answer:
    return Answer(200, {"status": "success", **body, "execution_time": 25})


def _failure(status: str, message: str) -> Answer:
    return Answer(200, {"status": status, "message": message, "execution_time": 5})


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() else default


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true")


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
