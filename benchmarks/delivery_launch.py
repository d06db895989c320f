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
CHUNK = 2_000
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
        "pipeline": {"chunk_size": CHUNK, "run_seconds": SLICE_SECONDS},
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
            summary = drain(context, Stage(name), lanes=ALL_LANES, runner_id="launch")
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
            place.start_leads("dagster", "run", "--job", "near_real_time", "--limit", str(scale.limit_seconds))
        else:
            config = str(place.settings.path)
            place.start_worker("intake", "chain", config, *INTAKE)
            place.start_worker("identity", "chain", config, *IDENTITY)
            place.start_leads("deliver", "deliver", "--json")
        time.sleep(5.0)  # until the workers have imported what they need; nothing is measured yet
        say("posting")
        busy = machine_busy()
        began = time.time()
        with CpuSampler(place) as sampler:
            place.start_worker("post", "post", str(path), str(place.settings.capture.port))
            _wait(place, scale)
        busy = machine_busy() - busy
        return _figures(place, scale, sampler, began=began, busy=busy)


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


def _figures(place: Place, scale: Scale, sampler: CpuSampler, *, began: float, busy: float) -> dict[str, Any]:
    posted = lines_of(place.log_of("post"))[-1]
    if set(posted["statuses"]) != {"202"}:
        raise SystemExit(f"the door answered {posted['statuses']}")
    began = posted["began"]
    seen = place.report()
    contacts = place.scalar("select count(*) from golden_contacts")
    last = place.scalar("select extract(epoch from max(delivered_at)) from outbox")
    states = {str(row.state): row.count for row in _rows(place, "select state, count(*) from outbox group by state")}
    with place.engine.connect() as connection:
        (account,) = conservation(connection, destinations={TENANT: [DESTINATION]})
    if not account.conserved or account.captured != scale.signups:
        raise SystemExit(f"not conserved: {account}")
    drained = [item for name in ("intake", "identity") for item in lines_of(_log(place, name)) if "stage" in item]
    stages: dict[str, dict[str, float]] = {}
    for item in drained:
        entry = stages.setdefault(item["stage"], {"seconds": 0.0, "cpu": 0.0, "taken": 0.0, "first": item["at"]})
        entry["seconds"] += item["seconds"]
        entry["cpu"] += item["cpu"]
        entry["taken"] += item["taken"]
        entry["last"] = item["at"] - began
    requests = seen["requests"]
    return {
        "signups": scale.signups,
        "contacts": contacts,
        "states": {str(name): count for name, count in account.states.items()},
        "outbox": states,
        "launch_captured_s": posted["ended"] - began,
        "launch_delivered_s": float(last) - began,
        "quota_floor_s": max(0, -(-contacts // BATCH) - WINDOW[0]) / WINDOW[0] * WINDOW[1],
        "requests": requests,
        "calls_per_record": requests / contacts,
        "http_429": seen["http_429"],
        "max_in_any_window": seen["max_accepted_in_any_window"],
        "crm_contacts": seen["contacts"],
        "crm_duplicates": seen["duplicates"],
        "cpu": {name: round(used, 1) for name, used in sampler.seconds.items()},
        "cpu_of_the_machine": busy,
        "stages": stages,
    }


def _log(place: Place, name: str) -> list[str]:
    return place.log_of(name) if place.supervisor.log_path(name).exists() else []


def _rows(place: Place, statement: str) -> Sequence[Any]:
    with place.engine.connect() as connection:
        return connection.execute(sa.text(statement)).all()


def show(found: Mapping[str, Any]) -> None:
    """The launch, for people."""
    for name, value in found.items():
        print(f"{name:<24} {value}")
