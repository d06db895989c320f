"""Eight processes of `leads deliver` against a sandbox in another one, which holds 100 requests / 2 s and 300 / 10 s.

Judged by the sandbox's log of arrivals while contacts wait. ``quota_used``: what it took of us in whole windows on end,
by what a perfect limiter would have sent in the same time; the mean of ten such stretches, half a second apart. The
first seconds are left out, because a perfect limiter sends 300 requests in the first four, and so it does not matter
how far a burst has come when the time is over.

``windows_over``: arrivals of ours at which a window held more than its limit, that arrival and whatever else the
sandbox had taken from anybody. Alone that is every request too many; beside another application also one that nobody
could have known of.

``http_429`` counts those of our refused requests that were *avoidable*: our own requests alone filled the window; or an
answer that had reached us at least a round trip before had said that there was no room, and by what we knew none had
come free since. (What we know of is our own: each of our requests that left the window made room, each that came took
it.) A request is refused unavoidably only where another application was quicker than any answer could tell.
"""

import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delivery_place import DESTINATION, CpuSampler, Deadline, destination, one_tenant, place_for, say
from delivery_rows import write_due
from limiter import ideal_grants
from limiter_beside import allowed_beside

from leads_pipeline.config import WindowLimit

PROCESSES = 8
OURS, OTHERS = 1, 255
OTHER_SHARE = 0.3
_WARM_UP_SECONDS = 12.0
_STRETCHES = 10


@dataclass(frozen=True)
class Scale:
    """Against which windows, for how long, and records in a request."""

    windows: tuple[tuple[int, int], ...]
    seconds: float
    batch_size: int
    processes: int


FULL = Scale(((100, 2), (300, 10)), 41.0, 100, PROCESSES)
QUICK = Scale(((50, 1), (100, 3)), 12.5, 10, PROCESSES)


@dataclass(frozen=True)
class Arrival:
    """One request at the sandbox. Seconds of its log."""

    at: float
    application: int
    accepted: bool


def avoidable(arrivals: Sequence[Arrival], windows: Sequence[tuple[int, int]], *, round_trip: float) -> tuple[int, int]:
    """How many of our requests were refused, and how many of these refusals could have been avoided; see above."""
    taken = [item.at for item in arrivals if item.accepted]
    ours = [item.at for item in arrivals if item.accepted and item.application == OURS]
    answered = [item.at for item in arrivals if item.application == OURS]
    refused = [item.at for item in arrivals if item.application == OURS and not item.accepted]

    def held(instants: Sequence[float], at: float, seconds: float) -> int:
        return bisect_right(instants, at) - bisect_right(instants, at - seconds)

    def known_full(at: float, most: int, seconds: float) -> bool:
        if held(ours, at, seconds) >= most:
            return True
        last = bisect_right(answered, at - round_trip) - 1
        if last < 0:
            return False
        told_at = answered[last]
        left = most - held(taken, told_at, seconds)
        came = bisect_left(ours, at) - bisect_right(ours, told_at)
        went = bisect_right(ours, at - seconds) - bisect_right(ours, told_at - seconds)
        return left - came + went <= 0

    could = sum(any(known_full(at, most, seconds) for most, seconds in windows) for at in refused)
    return len(refused), could


def over_limit(arrivals: Sequence[Arrival], windows: Sequence[tuple[int, int]]) -> tuple[int, dict[str, int]]:
    """Arrivals of ours at which a window held more than its limit, and the fullest window of each length."""
    over, fullest = 0, {str(seconds): 0 for _most, seconds in windows}
    taken: list[float] = []
    for item in arrivals:
        counts = {s: len(taken) - bisect_right(taken, item.at - s) + 1 for _most, s in windows}
        if item.application == OURS:
            over += any(counts[seconds] > most for most, seconds in windows)
        if item.application == OURS or item.accepted:
            for seconds, count in counts.items():
                fullest[str(seconds)] = max(fullest[str(seconds)], count)
        if item.accepted:
            taken.append(item.at)
    return over, fullest


def quota(scale: Scale, *, beside: bool) -> dict[str, Any]:
    """Run, and judge by the log; ``beside``: another application asks evenly for its share from the start on."""
    per_second = max(most / seconds for most, seconds in scale.windows[-1:])
    settings = {
        "tenants": {"t0000": one_tenant()},
        "destinations": {DESTINATION: destination(scale.windows, batch_size=scale.batch_size, in_flight=1)},
    }
    with place_for(settings) as place:
        others = ["--others-per-second", str(OTHER_SHARE * per_second)] if beside else []
        place.start_sandbox(*others)
        most = int((scale.seconds + 10) * per_second) + sum(most for most, _seconds in scale.windows)
        for number in range(scale.processes):
            place.start_leads(f"deliver-{number}", "deliver", "--json")
        time.sleep(_WARM_UP_SECONDS)  # until all have imported what they need and look for work
        say(f"{scale.processes} processes, {most * scale.batch_size:,} contacts, {scale.seconds:.0f} s")
        before = len(place.arrivals())
        with CpuSampler(place) as sampler:
            write_due(place.engine, first=1, count=most * scale.batch_size, destination=DESTINATION)
            committed = time.time()
            deadline = Deadline(scale.seconds + 60)
            while time.time() < committed + scale.seconds + 1:
                deadline.nap(0.2, waiting_for="the time to be over")
        clock = place.clock_of_the_log()
        began = committed - clock
        log = [Arrival(item["seconds"], item["application"], item["accepted"]) for item in place.arrivals()]
        round_trips = place.scalar(
            "select array_agg(extract(epoch from answered_at - sent_at)::float8) from crm_sync_batches "
            "where answered_at is not null"
        )
        waiting = place.scalar("select count(*) from outbox where state = 'waiting'")
        records = place.scalar("select count(*) from outbox where state = 'delivered'")
    if waiting == 0:
        raise SystemExit("no contact waited any more at the end: nothing can be said of the quota")
    during = [item for item in log if item.at < began + scale.seconds]
    ours = [item.at for item in during if item.application == OURS and item.accepted and item.at >= began]
    theirs = [item.at for item in log if item.application == OTHERS and item.accepted]
    windows = tuple(WindowLimit(requests=most, seconds=seconds) for most, seconds in scale.windows)
    longest = max(seconds for _most, seconds in scale.windows)
    stretch = longest * max(1, int(scale.seconds / longest) - 1)

    def allowed(seconds: float) -> int:
        if beside:
            return allowed_beside(theirs, windows, begin=began, end=began + seconds)
        return ideal_grants(windows, seconds=seconds)

    taken = could_take = 0
    for number in range(_STRETCHES):
        end = scale.seconds - number / 2
        taken += bisect_left(ours, began + end) - bisect_left(ours, began + end - stretch)
        could_take += allowed(end) - allowed(end - stretch)
    round_trip = statistics.median(round_trips)
    refused, could = avoidable(during, scale.windows, round_trip=round_trip)
    over, fullest = over_limit(during, scale.windows)
    return {
        "processes": scale.processes,
        "windows": {str(seconds): most for most, seconds in scale.windows},
        "seconds": scale.seconds,
        "requests_before": before,
        "stretch_seconds": stretch,
        "allowed": round(could_take / _STRETCHES),
        "accepted": round(taken / _STRETCHES),
        "quota_used": taken / could_take,
        "windows_over": over,
        "fullest": fullest,
        "http_429": could,
        "http_429_unavoidable": refused - could,
        "round_trip_ms": round_trip * 1000,
        "round_trip_p99_ms": sorted(round_trips)[int(len(round_trips) * 0.99)] * 1000,
        "records": records,
        "other_accepted": sum(item.application == OTHERS and item.accepted and item.at >= began for item in during),
        "other_refused": sum(item.application == OTHERS and not item.accepted and item.at >= began for item in during),
        "cpu": {name: round(used, 1) for name, used in sampler.seconds.items()},
    }


def show(found: Mapping[str, Any]) -> None:
    """The figures, for people."""
    windows = ", ".join(f"{most} / {seconds} s" for seconds, most in found["windows"].items())
    fullest = ", ".join(f"{most} in {seconds} s" for seconds, most in found["fullest"].items())
    print(
        f"{found['processes']} processes, {windows}, {found['accepted']:,} requests of {found['allowed']:,} "
        f"that were allowed in {found['stretch_seconds']} s, quota_used {found['quota_used']:.3f}"
    )
    print(f"windows_over {found['windows_over']} (fullest: {fullest}); http_429 {found['http_429']} avoidable, "
          f"{found['http_429_unavoidable']} unavoidable")  # fmt: skip
    if found["other_accepted"] or found["other_refused"]:
        print(f"the other application: {found['other_accepted']} taken, {found['other_refused']} refused")
    print(
        f"{found['records']:,} contacts; a round trip {found['round_trip_ms']:.0f} ms, "
        f"p99 {found['round_trip_p99_ms']:.0f} ms; CPU {sum(found['cpu'].values()):.0f} s of all processes"
    )
