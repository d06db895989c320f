"""A launch: signups posted to the capture door, verified minimally, deduped and delivered, all of it at once.

Each signup is a post of its own, from 64 connections. While they still come in, one process moves leads from the buffer
through validation and DNS, one resolves who is who and makes golden contacts, and one delivers (`leads deliver`). The
CRM's sandbox, DNS and PostgreSQL share the two cores with them, and so does whoever posts.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from delivery_place import (
    DESTINATION,
    SOURCE,
    TENANT,
    CpuSampler,
    Deadline,
    Place,
    destination,
    lines_of,
    machine_busy,
    one_tenant,
    place_for,
    say,
)

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.stage import ALL_LANES, Stage
from leads_pipeline.services.stack import free_port
from leads_pipeline.storage.api_keys import create_api_key
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.synthetic.leads import generate_leads
from leads_pipeline.synthetic.population import MAIL_PROVIDERS

WINDOW = (190, 10)
BATCH = 100
CONNECTIONS = 64
# Of a launch's signups so many are people who sign up again, mostly with something written differently.
AGAIN_SHARE = 0.04
# Nine of ten sign up with a private address.
PRIVATE_SHARE = 0.9
CONSENT = [{"granted": True, "purpose": "marketing", "channel": "email", "legal_basis": "consent"}]
SLICE_SECONDS = 10
CHUNK = 5_000
INTAKE = (Stage.RAW_LEADS, Stage.VALIDATED_LEADS)
IDENTITY = (Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS)


@dataclass(frozen=True)
class Scale:
    """How much, and how long it may take at most."""

    signups: int
    limit_seconds: float


FULL = Scale(250_000, 1_800.0)
QUICK = Scale(5_000, 300.0)


def signups(count: int, *, seed: int = 6) -> Iterator[dict[str, Any]]:
    """The posts of ``count`` signups with an e-mail address, the same for the same seed."""
    rng = random.Random(seed)
    again: list[dict[str, Any]] = []
    seen: set[str] = set()
    given = 0
    for lead in generate_leads(round(count * 2.4) + 2_000, seed=seed):
        if given == count:
            return
        email = lead.payload.get("email", "")
        if lead.repost_of is not None or "@" not in email or lead.truth.startswith("nobody"):
            continue
        payload: dict[str, Any] = {**lead.payload, "consent": CONSENT}
        if lead.truth in seen:
            again.append(payload)
            continue
        seen.add(lead.truth)
        if rng.random() < PRIVATE_SHARE:
            payload["email"] = f"{lead.truth}.{email.partition('@')[0]}@{rng.choice(MAIL_PROVIDERS)}"
        yield payload
        given += 1
        if again and given < count and rng.random() < AGAIN_SHARE:
            yield again.pop()
            given += 1
    raise SystemExit(f"only {given} signups were made of {count}")


def document(*, batch_size: int = BATCH) -> dict[str, Any]:
    """The launch's leads.yaml."""
    return {
        "tenants": {TENANT: one_tenant()},
        "destinations": {DESTINATION: destination([WINDOW], batch_size=batch_size)},
        "capture": {
            "port": free_port(),
            "rate": {"requests": 100_000, "seconds": 1, "burst": 100_000},
        },
        # What a launch is told to do: the short tier for everybody, and work in slices.
        "verification": {
            "mx": {"enabled": True, "resolvers": [f"127.0.0.1:{free_port()}"], "queries_per_second": 1_000},
            "triage": [{"tier": "minimal"}],
            "risk": {"max_leads_per_domain": 1_000_000},
        },
        "pipeline": {"chunk_size": CHUNK},
    }


@dataclass(frozen=True)
class Drained:
    """One slice of a stage."""

    stage: str
    taken: int
    seconds: float
    cpu: float
    at: float


def chain(config: str, stages: Sequence[str]) -> None:
    """A process of the launch: the stages' drains in turns, until it is told to end."""
    from leads_pipeline.flows import FlowContext, drain
    from leads_pipeline.storage.open import open_database

    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    settings = load_settings(config)
    engine = open_database(settings, application_name="chain " + stages[0])
    context = FlowContext(engine, settings, SystemClock())
    while True:
        taken = 0
        for name in stages:
            began = time.process_time()
            summary = drain(context, Stage(name), lanes=ALL_LANES, runner_id="launch", seconds=SLICE_SECONDS)
            taken += summary.taken
            if summary.taken:
                spent = time.process_time() - began
                print(json.dumps(asdict(Drained(name, summary.taken, summary.seconds, spent, time.time()))), flush=True)
        if not taken:
            time.sleep(0.1)


# --- who posts -------------------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One kept connection; the next signup goes when the last one is answered."""

    def __init__(self, posts: "_Posts") -> None:
        self._posts = posts
        self._received = b""
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self._post()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._received = b""
        self._posts.answered(head[9:12])
        self._post()

    def _post(self) -> None:
        assert self.transport is not None
        request = self._posts.next()
        if request is not None:
            self.transport.write(request)


class _Posts:
    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self.statuses: dict[str, int] = {}
        self.done = asyncio.Event()

    def next(self) -> bytes | None:
        if self._next == len(self._requests):
            return None
        self._next += 1
        return self._requests[self._next - 1]

    def answered(self, status: bytes) -> None:
        text = status.decode()
        self.statuses[text] = self.statuses.get(text, 0) + 1
        if sum(self.statuses.values()) == len(self._requests):
            self.done.set()


def post(path: str, port: int) -> None:
    """A process of the launch: post every line of a file, and say how long that took."""
    import uvloop

    key = os.environ["LEADS_BENCHMARK_KEY"]
    requests = []
    for number, line in enumerate(Path(path).read_bytes().splitlines()):
        head = (
            f"POST /v1/leads HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nIdempotency-Key: signup-{number}\r\nContent-Length: {len(line)}\r\n\r\n"
        )
        requests.append(head.encode() + line)

    async def send() -> None:
        posts = _Posts(requests)
        loop = asyncio.get_running_loop()
        began = time.time()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: _Connection(posts), "127.0.0.1", port)
        await posts.done.wait()
        print(json.dumps({"began": began, "ended": time.time(), "statuses": posts.statuses}), flush=True)

    uvloop.run(send())


# --- the measurement -------------------------------------------------------------------------------------------------

_LEFT = """
    select (select count(*) from (select from buffer limit 1) b)
        + (select count(*) from (select from pending limit 1) p)
        + (select count(*) from (select from outbox where state in ('waiting', 'in_flight') limit 1) o)
"""
_WAITING = """
    select 'raw_leads' as stage, count(*) from buffer having count(*) > 0
    union all select stage, count(*) from pending group by stage
    union all
    select 'crm_sync_batches', count(*) from outbox where state in ('waiting', 'in_flight') having count(*) > 0
"""


def launch(scale: Scale, *, dagster: bool = False) -> dict[str, Any]:
    """Post, wait until nothing is on its way any more, count."""
    with place_for(document()) as place:
        say(f"making {scale.signups:,} signups")
        path = place.directory / "signups.ndjson"
        with path.open("w", encoding="utf-8") as file:
            for payload in signups(scale.signups):
                file.write(json.dumps(payload, separators=(",", ":")) + "\n")
        with place.engine.begin() as connection:
            key = create_api_key(connection, tenant=TENANT, source=SOURCE, now=SystemClock().now()).text
        place.environment["LEADS_BENCHMARK_KEY"] = key
        place.start_sandbox()
        place.start_dns()
        place.start_door()
        if dagster:
            place.start_daemon()
        else:
            config = str(place.settings.path)
            place.start_worker("intake", "chain", config, *INTAKE)
            place.start_worker("identity", "chain", config, *IDENTITY)
            place.start_leads("deliver", "deliver", "--json")
        # Until all have imported what they need, and the daemon's sensors tick; nothing is measured yet.
        time.sleep(30.0 if dagster else 8.0)
        say("posting")
        busy = machine_busy()
        with CpuSampler(place) as sampler:
            place.start_worker("post", "post", str(path), str(place.settings.capture.port))
            _wait(place, scale)
        busy = machine_busy() - busy
        return _figures(place, scale, sampler, busy=busy)


def _wait(place: Place, scale: Scale) -> None:
    """Until the last contact is delivered."""
    deadline = Deadline(scale.limit_seconds)
    told = time.monotonic()
    while place.is_running("post"):
        deadline.nap(0.2, waiting_for="the signups to be posted")
    say("all signups are captured")
    while place.scalar(_LEFT):
        deadline.nap(0.5, waiting_for="the last contact to be delivered")
        if time.monotonic() - told > 15:
            told = time.monotonic()
            stages = ", ".join(f"{row.count:,} before {row.stage}" for row in _rows(place, _WAITING))
            delivered = place.scalar("select count(*) from outbox where state = 'delivered'")
            say(f"{stages or 'no lead on its way'}; {delivered:,} delivered")


def _figures(place: Place, scale: Scale, sampler: CpuSampler, *, busy: float) -> dict[str, Any]:
    posted = lines_of(place.log_of("post"))[-1]
    if set(posted["statuses"]) != {"202"}:
        raise SystemExit(f"the door answered {posted['statuses']}")
    seen = place.report()
    contacts = place.scalar("select count(*) from golden_contacts")
    with place.engine.connect() as connection:
        (account,) = conservation(connection, destinations={TENANT: [DESTINATION]})
    if not account.conserved or account.captured != scale.signups:
        raise SystemExit(f"not conserved: {account}")
    if seen["contacts"] != contacts or seen["duplicates"]:
        raise SystemExit(f"{contacts} contacts, and the CRM has {seen['contacts']} and {seen['duplicates']} twice")
    began = posted["began"]
    last = place.scalar("select extract(epoch from max(delivered_at))::float8 from outbox")
    cpu = {name: round(used, 1) for name, used in sampler.seconds.items()}
    return {
        "signups": scale.signups,
        "contacts": contacts,
        "states": {str(name): count for name, count in account.states.items() if count},
        "launch_captured_s": posted["ended"] - began,
        "launch_delivered_s": last - began,
        "quota_floor_s": max(0, -(-contacts // BATCH) - WINDOW[0]) / WINDOW[0] * WINDOW[1],
        "requests": seen["requests"],
        "records_written": seen["records_written"],
        "calls_per_record": seen["requests"] / contacts,
        "http_429": seen["http_429"],
        "max_in_any_window": seen["max_accepted_in_any_window"],
        "stages": _stages(place, began=began),
        "cpu_seconds": cpu,
        "cpu_seconds_in_all": round(sum(cpu.values()), 1),
        "cpu_of_the_machine": round(busy, 1),
    }


# When the first and the last of each stage were through, in seconds since the first signup was posted.
_SPANS = """
    select 'capture' as stage, min(committed_at) as first, max(committed_at) as last from capture_batches
    union all select 'raw_leads', min(moved_at), max(moved_at) from raw_leads
    union all select 'validated_leads', min(validated_at), max(validated_at) from validated_leads
    union all select 'verifications', min(verified_at), max(verified_at) from verifications
    union all select 'deduped_leads', min(deduped_at), max(deduped_at) from deduped_leads
    union all select 'golden_contacts', min(updated_at), max(updated_at) from golden_contacts
    union all select 'crm_sync_batches', min(delivered_at), max(delivered_at) from outbox
"""


def _stages(place: Place, *, began: float) -> dict[str, dict[str, float]]:
    """Each stage's first and last, and where workers of ours did it, how long they were at it and their CPU."""
    found = {
        row.stage: {"first_s": row.first.timestamp() - began, "last_s": row.last.timestamp() - began}
        for row in _rows(place, _SPANS)
    }
    worked: dict[str, list[dict[str, Any]]] = {}
    for name in ("intake", "identity"):
        for item in lines_of(_log(place, name)):
            worked.setdefault(item["stage"], []).append(item)
    for stage, items in worked.items():
        found[stage]["busy_s"] = sum(item["seconds"] for item in items)
        found[stage]["process_cpu_s"] = sum(item["cpu"] for item in items)
    return found


def _log(place: Place, name: str) -> list[str]:
    return place.log_of(name) if place.supervisor.log_path(name).exists() else []


def _rows(place: Place, statement: str) -> Sequence[Any]:
    with place.engine.connect() as connection:
        return connection.execute(sa.text(statement)).all()


def show(found: Mapping[str, Any]) -> None:
    """The launch, for people."""
    print(
        f"{found['signups']:,} signups, {found['contacts']:,} contacts: "
        f"captured after {found['launch_captured_s']:.0f} s (launch_captured_s), "
        f"delivered after {found['launch_delivered_s']:.0f} s (launch_delivered_s); "
        f"the quota alone takes {found['quota_floor_s']:.0f} s"
    )
    print(
        f"{found['requests']:,} calls, {found['calls_per_record']:.4f} of one call per record "
        f"({found['calls_per_record'] ** -1:.0f} records a call); {found['http_429']} answers 429, "
        f"at most {found['max_in_any_window']} of {WINDOW[0]} in {WINDOW[1]} s"
    )
    print(f"\n{'stage':<18}{'first after s':>14}{'last after s':>14}{'at work s':>11}{'its CPU s':>11}")
    for name, item in found["stages"].items():
        work = f"{item['busy_s']:>11.0f}{item['process_cpu_s']:>11.0f}" if "busy_s" in item else ""
        print(f"{name:<18}{item['first_s']:>14.1f}{item['last_s']:>14.1f}{work}")
    total = found["cpu_seconds_in_all"]
    print(f"\n{'process':<18}{'CPU s':>8}{'share':>8}")
    for name, used in found["cpu_seconds"].items():
        print(f"{name:<18}{used:>8.1f}{used / total:>8.1%}")
    print(f"{'all':<18}{total:>8.1f}   of {found['cpu_of_the_machine']:.0f} that the machine spent meanwhile")
