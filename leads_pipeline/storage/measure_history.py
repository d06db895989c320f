"""What was measured, once a minute: so that rules can be tried on what was. Keep out: measuring (``watching``)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.domain.policy_targets import Sample

KEPT = timedelta(days=2)
EVERY = timedelta(minutes=1)

# By name of a measure its samples; a measure that could not be taken is not in it.
Taken = Mapping[str, Sequence[Sample]]


def is_due(connection: sa.Connection, *, now: datetime) -> bool:
    """Whether nothing has been kept for a minute."""
    newest: datetime | None = connection.execute(sa.text("select max(measured_at) from measure_history")).scalar_one()
    return newest is None or now - newest >= EVERY or newest > now


def keep(connection: sa.Connection, taken: Taken, *, now: datetime) -> None:
    """Keep what was measured at ``now``, and forget what is older than two days."""
    rows = [
        {
            "measure": name,
            "measured_at": now,
            "series": json.dumps([[dict(sample.labels), sample.value] for sample in samples], allow_nan=False),
        }
        for name, samples in taken.items()
    ]
    connection.execute(sa.text("delete from measure_history where measured_at < :before"), {"before": now - KEPT})
    if rows:
        connection.execute(
            sa.text(
                "insert into measure_history (measure, measured_at, series) "
                "values (:measure, :measured_at, cast(:series as jsonb)) on conflict do nothing"
            ),
            rows,
        )


def kept_of(connection: sa.Connection, measure: str, *, since: datetime) -> list[Sequence[Sample]]:
    """What was measured of one measure since an instant, minute by minute, the oldest first."""
    rows = connection.execute(
        sa.text(
            "select series from measure_history where measure = :measure and measured_at >= :since order by measured_at"
        ),
        {"measure": measure, "since": since},
    )
    return [[Sample(labels, value) for labels, value in row.series] for row in rows]


def kept_between(connection: sa.Connection, *, since: datetime, until: datetime) -> Iterator[tuple[datetime, Taken]]:
    """What was measured, minute by minute, the oldest first."""
    rows = connection.execute(
        sa.text(
            "select measured_at, jsonb_object_agg(measure, series) as measures from measure_history "
            "where measured_at >= :since and measured_at <= :until group by measured_at order by measured_at"
        ),
        {"since": since, "until": until},
    )
    for row in rows:
        yield (
            row.measured_at,
            {name: [Sample(labels, value) for labels, value in series] for name, series in row.measures.items()},
        )
