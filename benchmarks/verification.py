"""Verification against a provider's limits: quota used, an urgent lead behind a backlog, look-ups saved, and the cost.

    python benchmarks/verification.py [--quick] [--json PATH]

ZeroBounce is played on this machine: 100 addresses a call, 30 calls in any minute, asked over real HTTP. Its clock and
the worker's are one simulated clock, which only waits move.

``calls_used_ratio``: calls made while work waited, by what 30 a minute allow from the first to the last of them.
``calls_over_limit``: what the sandbox refused, and by how much our own count of any 60 s is above 30.
``slow_provider_used_ratio``: the same on the machine's clock, of two calls a second that take three seconds each.
``critical_p99_ratio``: the wait of leads of the first tier, which come at random, from their arrival to their verdict,
behind a backlog of the second tier by that without one. To the simulated wait is added the real time that the worker
took for the call that they were in, so that a slow claim shows (``critical_call_ms…``).
``lookups_saved_by_triage``, ``…_by_cache``: of what every lead looked up in full would need, what the policy below does
not ask for; of what it asks for, what needs no look-up because the answer is known, on its way, or follows from DNS.
The worker's cost is its thread's CPU time, without PostgreSQL's and the provider's. Its floor is a call with httpx and
the insert of its hundred rows.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import sqlalchemy as sa
from machine import describe_machine, write_results

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane
from leads_pipeline.domain.triage import Triage
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.domain.verification import LookupKind, WantedLookup
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.steps.verifications import verify_leads
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline.storage.schema import validated_leads, verification_requests
from leads_pipeline.storage.verification_requests import enqueue_lookups
from leads_pipeline.synthetic import generate_leads
from leads_pipeline.verification.desk import Desk
from leads_pipeline.verification.intake import take_in
from leads_pipeline.verification.progress import Progress
from leads_pipeline.verification.sandbox.dns import running_dns_sandbox
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
TENANT = "acme"
KEY_VARIABLE, KEY = "LEADS_BENCHMARK_KEY", "benchmark"
BATCH, CALLS_PER_MINUTE = 100, 30
SECONDS_PER_CALL = 60 / CALLS_PER_MINUTE
SECONDS_BETWEEN_ARRIVALS = 2.0
SLOW_ANSWER_MS, SLOW_CALLS_PER_MINUTE = 3_000, 120
LANES = {"website": Lane.REAL_TIME, "webinar": Lane.NEAR_REAL_TIME, "partner": Lane.BATCH}
# As in the example of leads.yaml: what a company leaves with a number on the web is worth a provider's fee.
POLICY: dict[str, Any] = {
    "value": [
        {"points": 40, "when": {"lane": ["real_time"]}},
        {"points": 30, "when": {"present": ["company"]}},
        {"points": 20, "when": {"present": ["phone"]}},
    ],
    "triage": [
        {"tier": "full", "when": {"value_at_least": 70}},
        {"tier": "full", "when": {"value_at_least": 40, "risk_at_least": 40}},
        {"tier": "minimal"},
    ],
}


@dataclass(frozen=True)
class Scale:
    """How much."""

    leads: int
    backlog: int
    minutes: float
    slow_seconds: float
    synthetic: int


FULL = Scale(leads=10_000, backlog=250_000, minutes=20, slow_seconds=30, synthetic=5_000)
QUICK = Scale(leads=1_500, backlog=5_000, minutes=2, slow_seconds=6, synthetic=500)


def settings_for(sandbox: ProviderSandbox, **more: Any) -> VerificationSettings:
    """One ZeroBounce account, two tiers that ask for mailboxes."""
    account = {"vendor": "zerobounce", "base_url": sandbox.base_url, "key": {"env": KEY_VARIABLE}}
    tiers = {"full": {"lookups": ["mailbox"], "patience_seconds": 300}, "minimal": {"lookups": ["mailbox"]}}
    document: dict[str, Any] = {"providers": {"zb": account}, "mailbox": ["zb"], "tiers": tiers}
    return VerificationSettings.model_validate({**document, **more})


def chunk_at(now: datetime) -> Chunk:
    """A chunk of the benchmark's tenant."""
    return Chunk(TENANT, ALL_LANES, 1_000, BatchId(uuid7(now)), "benchmark", now)


def add_leads(engine: sa.Engine, addresses: Iterable[str], *, tier: str, urgency: int, at: datetime) -> None:
    """Validated leads that wait for their mailbox, as validation leaves them."""
    leads, requests = [], []
    for address in addresses:
        lead = validate({"email": address}, country="US", today=at.date())
        if not isinstance(lead, ValidLead) or lead.email is None:
            raise SystemExit(f"the address {address} is not valid")
        raw = RawLead(uuid7(at), 1, "website", Lane.REAL_TIME, at, "{}")
        leads.append((raw, lead, Triage(tier, 0, 0, ())))
        wanted = WantedLookup(raw.lead_id, 1, LookupKind.MAILBOX, Lane.REAL_TIME, tier, urgency, lead.email)
        requests.append((wanted, at + timedelta(minutes=5), False))
    with engine.begin() as connection:
        insert_validated_leads(connection, leads, chunk_at(at))
        enqueue_lookups(connection, requests, chunk_at(at))


def multiply(engine: sa.Engine, count: int) -> None:
    """Make the one lead that waits ``count`` leads, each with an address of its own."""
    copied = {
        "lead_id": "cast(left(cast(lead_id as text), 24) || lpad(to_hex(n), 12, '0') as uuid)",
        "email": "n || email",
        "email_key": "n || email_key",
        "subject_hash": "n",
    }
    with engine.begin() as connection:
        for table in (validated_leads, verification_requests):
            names = [column.name for column in table.columns]
            values = ", ".join(copied.get(name, f'"{name}"') for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            connection.execute(
                sa.text(
                    f"insert into {table.name} ({columns}) select {values} from {table.name}, "
                    "generate_series(1, :count) as n"
                ),
                {"count": count - 1},
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("vacuum analyze"))  # as autovacuum does within a minute


def most_in_any_minute(instants: list[datetime]) -> int:
    """The largest number of ``instants`` (ascending) in any 60 s on end."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instant - instants[first] >= timedelta(seconds=60):
            first += 1
        most = max(most, last - first + 1)
    return most


def calls_of(engine: sa.Engine) -> list[datetime]:
    """When calls were sent, ascending."""
    with engine.connect() as connection:
        return list(connection.execute(sa.text("select sent_at from verification_calls order by sent_at")).scalars())


def quota_and_cost(engine: sa.Engine, scale: Scale) -> dict[str, Any]:
    """Look up ``scale.leads`` addresses as fast as the provider allows."""
    clock = FrozenClock(NOW)
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY), clock=clock) as sandbox:
        settings = settings_for(sandbox)
        for start in range(0, scale.leads, 1_000):
            count = min(1_000, scale.leads - start)
            add_leads(engine, (f"p{start + n}@firm.example" for n in range(count)), tier="full", urgency=0, at=NOW)
        began = time.thread_time()
        report = verify_leads(
            engine,
            settings=settings,
            clock=clock,
            runner_id="benchmark",
            budget_seconds=scale.leads / BATCH * SECONDS_PER_CALL * 2,
            simulated=True,
        )
        cpu = time.thread_time() - began
        seen = sandbox.report()
        if report.lookups != scale.leads or seen["billed_twice"]:
            raise SystemExit(f"{report.lookups} of {scale.leads} were looked up, {seen['billed_twice']} paid twice")
        calls = calls_of(engine)
        allowed = 1 + (calls[-1] - calls[0]).total_seconds() / SECONDS_PER_CALL
        floor = floor_of(engine, calls=min(20, len(calls)))
    return {
        "leads": scale.leads,
        "calls": len(calls),
        "simulated_seconds": (calls[-1] - calls[0]).total_seconds(),
        "calls_used_ratio": len(calls) / allowed,
        "calls_over_limit": seen["calls_over_limit"] + max(0, most_in_any_minute(calls) - CALLS_PER_MINUTE),
        "most_in_a_minute": most_in_any_minute(calls),
        "cpu_ms_per_lookup": cpu * 1000 / scale.leads,
        "cpu_ms_per_lookup_floor": floor,
        "cpu_of_floor": cpu * 1000 / scale.leads / floor,
    }


def floor_of(engine: sa.Engine, *, calls: int) -> float:
    """CPU ms per look-up of who only calls, and inserts what came back."""
    costs = []
    options = ProviderOptions("zerobounce", key=KEY, limited=False)
    insert = sa.text(
        "insert into floor select t.address, t.status from jsonb_to_recordset(cast(:rows as jsonb)) "
        "as t(address text, status text)"
    )
    with (
        running_provider_sandbox(options) as sandbox,
        httpx.Client(base_url=sandbox.base_url, trust_env=False) as client,
    ):
        with engine.begin() as connection:
            connection.execute(sa.text("create table floor (address text, status text)"))
        for call in range(calls):
            batch = [{"email_address": f"f{call}-{n}@firm.example", "ip_address": None} for n in range(BATCH)]
            began = time.thread_time()
            answer = client.post("/v2/validatebatch", json={"api_key": KEY, "email_batch": batch}).json()
            with engine.begin() as connection:
                connection.execute(insert, {"rows": json.dumps(answer["email_batch"])})
            costs.append((time.thread_time() - began) * 1000 / BATCH)
    return median(costs)


def slow_provider(engine: sa.Engine, scale: Scale) -> dict[str, Any]:
    """The same on the machine's clock, of a provider whose answers take longer than its calls are apart."""
    options = ProviderOptions("zerobounce", key=KEY, calls_per_minute=SLOW_CALLS_PER_MINUTE)
    with running_provider_sandbox(options) as sandbox:
        sandbox.set_faults([FaultRule(FaultKind.SLOW, latency_ms=SLOW_ANSWER_MS)])
        account = {
            "vendor": "zerobounce", "base_url": sandbox.base_url, "key": {"env": KEY_VARIABLE},
            "calls_per_minute": SLOW_CALLS_PER_MINUTE, "batch_size": 10,
        }  # fmt: skip
        settings = settings_for(sandbox, providers={"zb": account})
        clock = SystemClock()
        add_leads(engine, ["p@slow.example"], tier="full", urgency=0, at=clock.now())
        multiply(engine, int(scale.slow_seconds * SLOW_CALLS_PER_MINUTE / 60 * 10 * 2))
        verify_leads(engine, settings=settings, clock=clock, runner_id="benchmark", budget_seconds=scale.slow_seconds)
        seen = sandbox.report()
    calls = calls_of(engine)
    allowed = 1 + (calls[-1] - calls[0]).total_seconds() * SLOW_CALLS_PER_MINUTE / 60
    return {
        "slow_provider_used_ratio": len(calls) / allowed,
        "slow_provider_under_way": seen["max_in_flight"],
        "slow_provider_over_limit": seen["calls_over_limit"],
    }


def critical_waits(engine: sa.Engine, scale: Scale, *, backlog: int) -> tuple[list[float], list[float]]:
    """Seconds from arrival to verdict of each lead of the first tier, and the worker's own for each call, ascending."""
    chance = random.Random(4)
    arrivals: list[tuple[float, str]] = []
    at = 0.0
    while at < scale.minutes * 60:
        at += chance.expovariate(1 / SECONDS_BETWEEN_ARRIVALS)
        arrivals.append((at, f"urgent{len(arrivals)}@firm.example"))
    outside = 0.0  # what the arrivals themselves take is no wait

    def arrive(_seconds: float = 0) -> None:
        nonlocal outside
        began = time.perf_counter()
        while arrivals and arrivals[0][0] <= clock.monotonic():
            seconds, address = arrivals.pop(0)
            # The clock counts whole microseconds: nobody arrives after now.
            came = min(NOW + timedelta(seconds=seconds), clock.now())
            add_leads(engine, [address], tier="full", urgency=0, at=came)
        outside += time.perf_counter() - began

    clock = FrozenClock(NOW, on_sleep=arrive)
    waits: list[float] = []
    work: list[float] = []
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY), clock=clock) as sandbox:
        settings = settings_for(sandbox)
        if backlog:
            add_leads(engine, ["p@low.example"], tier="minimal", urgency=1, at=NOW - timedelta(hours=1))
            multiply(engine, backlog)
        progress = Progress(
            clock=clock, cache=settings.cache, runner_id="benchmark", budget_seconds=1e9, random=chance.random
        )
        desk = Desk(engine, settings, clock=clock, progress=progress, simulated=True)
        while arrivals or not backlog:
            outside, began = 0.0, time.perf_counter()
            asked = desk.ask(LookupKind.MAILBOX)
            took = time.perf_counter() - began - outside
            if asked:
                work.append(took)
                waits += [waited + took for waited in verified_at(engine, clock.now())]
            else:
                if not arrivals:
                    break
                clock.sleep(arrivals[0][0] - clock.monotonic() + 1e-6)
        desk.close()
        if sandbox.report()["calls_over_limit"]:
            raise SystemExit("the provider's limit was not kept")
    return sorted(waits), sorted(work)


def verified_at(engine: sa.Engine, now: datetime) -> list[float]:
    """How long the leads of the first tier waited whose verdict came at ``now``."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("select requested_at from verifications where verified_at = :now and tier = 'full'"), {"now": now}
        )
        return [(now - row.requested_at).total_seconds() for row in rows]


def saved(engine: sa.Engine, scale: Scale) -> dict[str, Any]:
    """Look-ups that the demo's leads do not need, by the policy and by what is known."""
    clock = FrozenClock(NOW)
    wanted: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    with (
        running_provider_sandbox(ProviderOptions("zerobounce", key=KEY, limited=False), clock=clock) as mailboxes,
        running_provider_sandbox(ProviderOptions("twilio", key=KEY, account="AC1"), clock=clock) as phones,
        running_dns_sandbox() as dns,
    ):
        key = {"env": KEY_VARIABLE}
        settings = VerificationSettings.model_validate(
            {
                "mx": {"enabled": True, "resolvers": [dns.address], "queries_per_second": 10_000},
                "providers": {
                    "zb": {"vendor": "zerobounce", "base_url": mailboxes.base_url, "key": key},
                    "tw": {"vendor": "twilio", "base_url": phones.base_url, "key": key, "account": "AC1"},
                },
                "mailbox": ["zb"],
                "phone": ["tw"],
                **POLICY,
            }
        )
        leads = list(generate_leads(scale.synthetic, seed=1))
        in_full = 0
        for start in range(0, len(leads), 250):
            valid: list[tuple[RawLead, ValidLead]] = []
            for post in leads[start : start + 250]:
                lead = validate(post.payload, country="US", today=clock.now().date())
                if isinstance(lead, ValidLead):
                    now = clock.now()
                    valid.append((RawLead(uuid7(now), 1, post.source, LANES[post.source], now, "{}"), lead))
                    in_full += 2 * (lead.email is not None) + (lead.phone is not None)
            chunk = chunk_at(clock.now())
            with engine.begin() as connection:
                intake = take_in(connection, chunk, valid, settings=settings, sent=lambda _raw: {})
                weighed = [(raw, lead, item) for (raw, lead), item in zip(valid, intake.triages, strict=True)]
                insert_validated_leads(connection, weighed, chunk)
            wanted.update(intake.counts)
            report = verify_leads(
                engine, settings=settings, clock=clock, runner_id="benchmark", budget_seconds=600, simulated=True
            )
            asked.update(report.counts)
            clock.advance(3600)
        paid = mailboxes.report()["looked_up"] + phones.report()["looked_up"]
    by_policy = wanted["lookups_asked"] + wanted["lookups_known"]
    made = paid + asked["dns_asked"]
    return {
        "synthetic_leads": scale.synthetic,
        "tier_full": wanted["tier_full"],
        "tier_minimal": wanted["tier_minimal"],
        "lookups_in_full": in_full,
        "lookups_by_policy": by_policy,
        "lookups_made": made,
        "lookups_paid": paid,
        "lookups_saved_by_triage": 1 - by_policy / in_full,
        "lookups_saved_by_cache": 1 - made / by_policy,
    }


@contextmanager
def own_database(server: EmbeddedServer, name: str) -> Iterator[sa.Engine]:
    """An engine on a database of one measurement's own."""
    engine = engine_for(server.drop_and_create_database(name), pool_size=20)
    try:
        upgrade(engine, now=NOW)
        yield engine
    finally:
        engine.dispose()


def at_share(ascending: list[float], share: float) -> float:
    """The value below which this share lies."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half a minute instead of four")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    os.environ[KEY_VARIABLE] = KEY
    with tempfile.TemporaryDirectory() as directory:
        # Without fsync: what else writes to the disk would be measured, and nothing here is to survive a crash.
        server = EmbeddedServer(Path(directory), durable=False)
        try:
            server.start()
            with own_database(server, "quota") as engine:
                figures = quota_and_cost(engine, scale)
            with own_database(server, "slow") as engine:
                figures |= slow_provider(engine, scale)
            with own_database(server, "alone") as engine:
                alone, alone_work = critical_waits(engine, scale, backlog=0)
            with own_database(server, "backlog") as engine:
                behind, behind_work = critical_waits(engine, scale, backlog=scale.backlog)
            with own_database(server, "saved") as engine:
                figures |= saved(engine, scale)
        finally:
            server.remove()
    figures |= {
        "critical_leads": len(behind),
        "critical_p50_seconds": at_share(behind, 0.5),
        "critical_p99_seconds": at_share(behind, 0.99),
        "critical_p50_seconds_alone": at_share(alone, 0.5),
        "critical_p99_seconds_alone": at_share(alone, 0.99),
        "critical_call_ms_p50": at_share(behind_work, 0.5) * 1000,
        "critical_call_ms_p99": at_share(behind_work, 0.99) * 1000,
        "critical_call_ms_p50_alone": at_share(alone_work, 0.5) * 1000,
        "critical_call_ms_p99_alone": at_share(alone_work, 0.99) * 1000,
        "critical_p99_ratio": at_share(behind, 0.99) / at_share(alone, 0.99),
        "backlog": scale.backlog,
    }
    print(f"{describe_machine()}\n")
    for name, value in figures.items():
        print(f"{name:<30}{value:>14,.3f}" if isinstance(value, float) else f"{name:<30}{value:>14,}")
    if arguments.json:
        write_results(arguments.json, figures)


if __name__ == "__main__":
    main()
