"""What many tenants and a large outbox cost a delivery.

``tenants_1000_over_10``: the same number of contacts, of 10 and of 1,000 tenants that share an account without limits,
delivered by one process in turns; CPU of the process, PostgreSQL and the sandbox, medians of rounds. ``outbox``: what
one claim of a batch costs (looking, picking, locking, writing), with so many rows waiting; half a backlog's claims
take the newest.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import yaml
from delivery_place import DESTINATION, CpuSampler, Deadline, Place, destination, lines_of, one_tenant, place_for, say
from delivery_rows import settle_down, tenant_names, write_due, write_waiting

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import ALL_LANES

# More than any machine sends.
NO_LIMIT = [(1_000_000, 1)]
BATCH = 100
FEW, MANY = 10, 1_000


@dataclass(frozen=True)
class Scale:
    """How many contacts each round of ``tenants`` delivers, how often, and how many rows wait in ``outbox``."""

    contacts: int
    rounds: int
    waiting: tuple[int, ...]
    claims: int


FULL = Scale(20_000, 3, (10_000, 1_000_000, 10_000_000), 300)
QUICK = Scale(4_000, 1, (2_000, 20_000), 20)


def deliver_once(config: str) -> None:
    """A process of the measurement: deliver all that is due, whenever a line comes in; say what it took."""
    from leads_pipeline import flows
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config)
    engine = open_database(settings)
    context = flows.FlowContext(engine, settings, SystemClock())
    print("ready", flush=True)
    began, cpu = time.perf_counter(), time.process_time()
    while (plan := flows.plan_sync(context, lanes=ALL_LANES)).by_destination:
        report = flows.deliver(context, plan, runner_id="benchmark")
        if report.retried or report.dead:
            sys.exit(f"{report.retried} were refused, {report.dead} for good")
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}), flush=True)


def tenants(scale: Scale) -> dict[str, Any]:
    """The same load of few and of many tenants."""
    base = {"destinations": {DESTINATION: destination(NO_LIMIT, batch_size=BATCH)}, "pipeline": {"run_seconds": 300}}
    with place_for({**base, "tenants": {name: one_tenant() for name in tenant_names(MANY)}}) as place:
        place.start_sandbox()
        configs = {count: place.directory / f"{count}.yaml" for count in (FEW, MANY)}
        for count, path in configs.items():
            text = {"version": 1, **base, "tenants": {name: one_tenant() for name in tenant_names(count)}}
            path.write_text(yaml.safe_dump(text), encoding="utf-8")
        found: dict[int, list[dict[str, float]]] = {FEW: [], MANY: []}
        first = 1
        for turn in range(scale.rounds + 1):
            for count, path in configs.items():
                write_due(place.engine, first=first, count=scale.contacts, destination=DESTINATION, tenants=count)
                settle_down(place.engine, "golden_contacts", "outbox")
                first += scale.contacts
                one = _round(place, f"deliver-{count}-{turn}", str(path))
                say(f"{count} tenants: {scale.contacts / one['seconds']:,.0f} contacts/s")
                if turn:  # the first of each finds everything cold
                    found[count].append(one)
    ratios = {
        figure: statistics.median(many[figure] / few[figure] for few, many in zip(found[FEW], found[MANY], strict=True))
        for figure in ("seconds", "cpu")
    }
    return {
        "contacts": scale.contacts,
        "rounds": {str(count): rounds for count, rounds in found.items()},
        "tenants_1000_over_10": ratios["seconds"],
        "tenants_1000_over_10_cpu": ratios["cpu"],
    }


def _round(place: Place, name: str, config: str) -> dict[str, float]:
    before = place.report()["requests"]
    with CpuSampler(place, every=0.2) as sampler:
        place.start_worker(name, "deliver-once", config)
        deadline = Deadline(600)
        while place.is_running(name):
            deadline.nap(0.05, waiting_for="the contacts to be delivered")
    said = lines_of(place.log_of(name))
    if not said:
        raise SystemExit("\n".join(place.log_of(name)))
    around = sampler.seconds["database"] + sampler.seconds["sandbox"]
    requests = place.report()["requests"] - before
    return {"seconds": said[0]["seconds"], "cpu": said[0]["cpu"] + around, "requests": requests}


def outbox(scale: Scale) -> dict[str, Any]:
    """What a claim costs with ever more rows waiting."""
    from leads_pipeline.crm.claiming import Claims
    from leads_pipeline.storage.outbox import claim

    settings = {
        "tenants": {name: one_tenant() for name in tenant_names(FEW)},
        "destinations": {DESTINATION: destination(NO_LIMIT, batch_size=BATCH)},
    }
    found: dict[str, Any] = {}
    with place_for(settings) as place:
        clock, there = SystemClock(), 0
        for wanted in scale.waiting:
            say(f"an outbox of {wanted:,} rows")
            count = wanted - there
            write_waiting(place.engine, first=there + 1, count=count, destination=DESTINATION, tenants=FEW, age=3_600.0)
            there = wanted
            settle_down(place.engine, "outbox")
            claims = Claims(
                place.engine,
                DESTINATION,
                lanes=ALL_LANES,
                tenants=tenant_names(FEW),
                size=BATCH,
                settings=place.settings.delivery,
                clock=clock,
            )
            times: list[float] = []
            looks: list[float] = []
            for number in range(min(scale.claims, wanted // (2 * BATCH))):
                if number % 20 == 0:
                    fresh = Claims(
                        place.engine,
                        DESTINATION,
                        lanes=ALL_LANES,
                        tenants=tenant_names(FEW),
                        size=BATCH,
                        settings=place.settings.delivery,
                        clock=clock,
                    )
                    began = time.perf_counter()
                    fresh.next()
                    looks.append(time.perf_counter() - began)
                began = time.perf_counter()
                turn = claims.next()
                assert turn is not None
                now = clock.now()
                with place.engine.begin() as connection:
                    ids = claims.pick(connection, turn, now=now)
                    token = f"benchmark/{uuid7(now)}"
                    rows = claim(connection, ids, token=token, until=now + timedelta(minutes=30), now=now)
                times.append(time.perf_counter() - began)
                assert len(rows) == BATCH
            times.sort()
            found[str(wanted)] = {
                "claim_p50_ms": statistics.median(times) * 1000,
                "claim_p99_ms": times[int(len(times) * 0.99)] * 1000,
                "look_p50_ms": statistics.median(looks) * 1000,
                "plan_ms": _plan_ms(place),
            }
            with place.engine.begin() as connection:
                connection.execute(
                    sa.text(
                        "update outbox set state = 'waiting', claimed_by = null, claimed_until = null "
                        "where state = 'in_flight'"
                    )
                )
    sizes = list(found)
    return {
        "rows": found,
        "claim_largest_over_smallest": found[sizes[-1]]["claim_p50_ms"] / found[sizes[0]]["claim_p50_ms"],
    }


def _plan_ms(place: Place) -> float:
    from leads_pipeline import flows

    context = flows.FlowContext(place.engine, place.settings, SystemClock())
    times = []
    for _time in range(5):
        began = time.perf_counter()
        flows.plan_sync(context, lanes=ALL_LANES)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def show_tenants(found: Mapping[str, Any]) -> None:
    """The figures, for people."""
    for count, rounds in found["rounds"].items():
        seconds = statistics.median(item["seconds"] for item in rounds)
        cpu = statistics.median(item["cpu"] for item in rounds)
        requests = statistics.median(item["requests"] for item in rounds)
        print(
            f"{count:>6} tenants: {found['contacts']:,} contacts in {seconds:.1f} s, {cpu:.1f} s of CPU, "
            f"{requests:.0f} requests"
        )
    print(
        f"tenants_1000_over_10 {found['tenants_1000_over_10']:.2f} of the time, "
        f"{found['tenants_1000_over_10_cpu']:.2f} of the CPU"
    )


def show_outbox(found: Mapping[str, Any]) -> None:
    """The figures, for people."""
    print(f"{'rows that wait':>16}{'claim p50 ms':>14}{'p99 ms':>10}{'look p50 ms':>13}{'plan ms':>10}")
    for rows, item in found["rows"].items():
        print(
            f"{int(rows):>16,}{item['claim_p50_ms']:>14.1f}{item['claim_p99_ms']:>10.1f}"
            f"{item['look_p50_ms']:>13.1f}{item['plan_ms']:>10.1f}"
        )
    print(f"a claim of the largest over the smallest: {found['claim_largest_over_smallest']:.2f}")
