"""What came of the last look at each thing that is watched, and since when it fails: ``watch_looks``.

A few dozen rows, written once a look, so that whoever looks can tell what keeps failing, also after a restart. Keep
out: what is looked at (``flows.watching``), and from when on a failure is told (``watching.alert_sources``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

# A part, rule, measure or promise that nobody looks at any more is forgotten.
KEPT = timedelta(days=1)


class Watched(StrEnum):
    """Kinds of things that are looked at."""

    PART = "part"
    RULE = "rule"
    MEASURE = "measure"  # that a rule asks for
    PROMISE = "promise"
    SOURCE = "source"  # of alerts


# By kind and name why the look failed; ``None``: it came to something.
Outcomes = Mapping[tuple[Watched, str], str | None]


@dataclass(frozen=True, slots=True)
class Look:
    """The last look at one thing. ``failing_since``: no look since then came to anything."""

    kind: Watched
    name: str
    looked_at: datetime
    failing_since: datetime | None
    failure: str | None


_READ = sa.text("select kind, name, looked_at, failing_since, failure from watch_looks order by kind, name")
# In one order, so that two who look at once do not wait for each other in a circle.
_WRITE = sa.text(
    """
    insert into watch_looks as l (kind, name, looked_at, failing_since, failure)
    select kind, name, :now, case when failure is not null then cast(:now as timestamptz) end, failure
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(kind text, name text, failure text)
    order by kind, name
    on conflict (kind, name) do update set
        looked_at = excluded.looked_at, failure = excluded.failure,
        failing_since = case when excluded.failure is not null then coalesce(l.failing_since, excluded.looked_at) end
    """
)
_FORGET = sa.text("delete from watch_looks where looked_at < :before")


def read_looks(connection: sa.Connection) -> list[Look]:
    """The last look at everything, by kind and name."""
    return [Look(**{**row, "kind": Watched(row["kind"])}) for row in connection.execute(_READ).mappings()]


def note_looks(connection: sa.Connection, outcomes: Outcomes, *, now: datetime) -> None:
    """Note what came of a look; of what it does not name the look before stands."""
    rows = [{"kind": kind, "name": name, "failure": failure} for (kind, name), failure in outcomes.items()]
    connection.execute(_WRITE, {"rows": json.dumps(rows), "now": now})
    connection.execute(_FORGET, {"before": now - KEPT})
