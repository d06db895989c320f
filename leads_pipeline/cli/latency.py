"""``leads latency``: how long leads took from their capture to every station."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli._spans import span_option
from leads_pipeline.cli.status import plain_table, span
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.latency import Station, bounds, quantile
from leads_pipeline.domain.stage import Lane

if TYPE_CHECKING:
    from leads_pipeline.storage.latency import Latency

_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# The bars of the small histogram end here; the last one holds all that took longer.
_BARS = (1, 5, 10, 30, 60, 300, 900, 3_600, 86_400)
_HEIGHTS = "▁▂▃▄▅▆▇█"


@click.command()
@click.option("--tenant", metavar="NAME", help="Only this one's leads.")
@click.option("--lane", type=click.Choice([str(lane) for lane in Lane]), help="Only the leads of this lane.")
@click.option("--stage", type=click.Choice([str(station) for station in Station]), help="Only the way to this station.")
@click.option(
    "--since", "lasting", default="1h", show_default=True, callback=span_option, metavar="SPAN",
    help="How far to look back: 30m, 6h, 7d.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_obj
def latency(
    config_file: str | None, *, tenant: str | None, lane: str | None, stage: str | None, lasting: timedelta,
    as_json: bool,
) -> None:  # fmt: skip
    """Show how long leads took from their capture to every station, and how many came there.

    Each lead counts where it comes for the first time. Times are counted in buckets: a percentile is at most 10 % off.

    \b
    leads latency --lane real_time --stage delivered --since 24h
    """
    from leads_pipeline.storage.latency import read_latencies
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    now = SystemClock().now()
    try:
        with engine.connect() as connection:
            found = read_latencies(
                connection,
                since=now - lasting,
                until=now + timedelta(minutes=1),
                tenant=tenant,
                lane=lane,
                station=Station(stage) if stage else None,
            )
    finally:
        engine.dispose()
    found = sorted(found, key=_place)
    if as_json:
        shown = {"since": now - lasting, "until": now, "latencies": [_as_json(item, lasting) for item in found]}
        click.echo(json.dumps(shown, indent=2, default=str))
    elif not found:
        click.echo("Nothing came through in this time. `leads status` shows what waits.")
    else:
        _print(found, lasting)


def _place(item: "Latency") -> tuple[object, ...]:
    return item.tenant, list(Lane).index(Lane(item.lane)), list(Station).index(item.station), item.destination


def _as_json(item: "Latency", lasting: timedelta) -> dict[str, Any]:
    return {
        "tenant": item.tenant,
        "lane": item.lane,
        "stage": item.station,
        "destination": item.destination or None,
        "leads": item.leads,
        "per_minute": round(_per_minute(item, lasting), 3),
        **{f"{name}_seconds": quantile(item.counts, share) for name, share in _SHARES.items()},
        "buckets": [
            {"up_to_seconds": edge if (edge := bounds(bucket)[1]) != inf else None, "leads": item.counts[bucket]}
            for bucket in sorted(item.counts)
        ],
    }


def _per_minute(item: "Latency", lasting: timedelta) -> float:
    return item.leads / (lasting / timedelta(minutes=1))


def _print(found: "Sequence[Latency]", lasting: timedelta) -> None:
    from rich.console import Console

    numbers = ("Leads", "A minute", *(name.upper() for name in _SHARES))
    table = plain_table("From capture", "Station", *numbers, "Spread", numbers=numbers)
    before: tuple[str, str] | None = None
    for item in found:
        of = item.tenant, item.lane
        if of != before:
            table.add_row(f"[bold]{item.tenant}, {item.lane}[/]")
        station = f" {item.station} {item.destination}".rstrip()
        took = (span(quantile(item.counts, share) or 0.0) for share in _SHARES.values())
        table.add_row(
            station, f"{item.leads:,}", f"{_per_minute(item, lasting):,.1f}",
            *took, _bars(item.counts),
        )  # fmt: skip
        before = of
    console = Console()
    console.print(table)
    console.print(f"Bars: leads within {', '.join(span(edge) for edge in _BARS)}, and later.")


def _bars(counts: Mapping[int, int]) -> str:
    sums = [0] * (len(_BARS) + 1)
    for bucket, leads in counts.items():
        edge = bounds(bucket)[1]
        sums[next((n for n, bar in enumerate(_BARS) if edge <= bar), len(_BARS))] += leads
    most = max(sums)
    return "".join(_HEIGHTS[-(-leads * len(_HEIGHTS) // most) - 1] if leads else "·" for leads in sums)
