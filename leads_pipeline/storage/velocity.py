"""How many leads came lately from one address of the network, or with one domain of e-mail.

Counted in buckets of a sixth of the window, by a hash of what is counted; one statement reads, one writes, whatever the
chunk's size.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import sqlalchemy as sa

_BUCKETS = 6


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something counted (``ip`` or ``domain``), and when it was seen."""

    kind: str
    subject_hash: int
    at: datetime


_READ = sa.text(
    """
    select v.kind, v.subject_hash, v.bucket, v.leads
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(kind text, subject_hash bigint)
    join velocity_counts v on v.tenant = :tenant and v.kind = t.kind and v.subject_hash = t.subject_hash
    where v.bucket between :first and :last
    """
)

# In one order, so that two chunks cannot wait for each other.
_ADD = sa.text(
    """
    insert into velocity_counts as v (tenant, kind, subject_hash, bucket, leads)
    select :tenant, t.kind, t.subject_hash, t.bucket, t.leads
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        kind text, subject_hash bigint, bucket timestamptz, leads integer
    )
    order by t.kind, t.subject_hash, t.bucket
    on conflict (tenant, kind, subject_hash, bucket) do update set leads = v.leads + excluded.leads
    """
)


def sighting(tenant: str, kind: str, subject: str, at: datetime) -> Sighting:
    """A sighting of ``subject``, which is kept as a hash only."""
    digest = blake2b(f"{tenant}\x1f{kind}\x1f{subject}".encode(), digest_size=8).digest()
    return Sighting(kind, int.from_bytes(digest, "big", signed=True), at)


def count_sightings(
    connection: sa.Connection, tenant: str, sightings: Sequence[Sighting], *, window: timedelta
) -> list[int]:
    """Count these, in their order: for each, how many of its subject there were within the window, itself included."""
    if not sightings:
        return []
    width = window / _BUCKETS
    subjects = {(item.kind, item.subject_hash) for item in sightings}
    first, last = min(item.at for item in sightings), max(item.at for item in sightings)
    rows = json.dumps([{"kind": kind, "subject_hash": hashed} for kind, hashed in subjects])
    values = {"rows": rows, "tenant": tenant, "first": _bucket(first - window, width), "last": last}
    known: dict[tuple[str, int], Counter[datetime]] = {}
    for row in connection.execute(_READ, values):
        known.setdefault((row.kind, row.subject_hash), Counter())[row.bucket] += row.leads
    added: Counter[tuple[str, int, datetime]] = Counter()
    counts: list[int] = []
    for item in sightings:
        bucket = _bucket(item.at, width)
        buckets = known.setdefault((item.kind, item.subject_hash), Counter())
        buckets[bucket] += 1
        added[item.kind, item.subject_hash, bucket] += 1
        counts.append(sum(leads for at, leads in buckets.items() if item.at - window < at + width and at <= item.at))
    new = [
        {"kind": kind, "subject_hash": hashed, "bucket": bucket.isoformat(), "leads": leads}
        for (kind, hashed, bucket), leads in added.items()
    ]
    connection.execute(_ADD, {"rows": json.dumps(new), "tenant": tenant})
    return counts


def prune_velocity(connection: sa.Connection, *, before: datetime) -> int:
    """Forget buckets that began before an instant; says how many."""
    return connection.execute(
        sa.text("delete from velocity_counts where bucket < :before"), {"before": before}
    ).rowcount


def _bucket(at: datetime, width: timedelta) -> datetime:
    seconds = width.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, tz=UTC)
