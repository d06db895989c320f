"""Validated leads counted by the rules of ``domain.expectations``: in SQL, and without anybody's values.

Each statement is one pass over what an index yields. ``leads_waiting`` and ``days_before`` are asked by the batch lane,
``latest`` by every micro-batch: what it reads is bounded by numbers of rows, whatever the table holds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from leads_pipeline.domain.expectations import FILLED_COLUMNS, FLAG_COLUMNS, Group, Kind, Rule, Tally
from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.storage.schema import metadata

# What rules ask about and the table does not hold as a column of its own; `v` is a row of validated_leads.
DERIVED = {
    "day": "(v.received_at at time zone 'UTC')::date",
    "usable": (
        "(v.email is not null or v.phone is not null or"
        " coalesce(v.first_name, v.last_name, v.full_name) is not null and"
        " coalesce(cast(v.date_of_birth as text), v.company, v.address, v.postcode) is not null or"
        " v.first_name is not null and v.last_name is not null and v.city is not null)"
    ),
    "email_and_key": "((v.email is null) = (v.email_key is null))",
    "phone_and_key": "((v.phone is null) = (v.phone_key is null))",
    "birth_year": "cast(extract(year from v.date_of_birth) as integer)",
    "age_seconds": "cast(extract(epoch from cast(:now as timestamptz) - v.received_at) as double precision)",
    **{name: f"(v.flags @> '[\"{flag}\"]')" for name, flag in FLAG_COLUMNS.items()},
}

# The columns that rules and derived columns are about.
READ_COLUMNS = (
    "tenant", "source", "capture_lane", "sync_lane", "received_at", "validated_at", "rule_version", "email",
    "email_key", "phone", "phone_key", "phone_region", "first_name", "last_name", "full_name", "company",
    "date_of_birth", "address", "city", "postcode", "country", "flags", "tier", "value_score", "risk_score",
)  # fmt: skip

# What the batch lane holds at the door of deduped_leads.
WAITING = """
    pending p join validated_leads v on v.lead_id = p.subject_id and v.revision = p.revision and v.tenant = p.tenant
    where p.stage = 'deduped_leads' and p.lane = 'batch'
"""

# What has passed that door; what waits at it is what these days are to judge.
_PASSED = """
    validated_leads v
    join jsonb_to_recordset(cast(:sources as jsonb)) as s(tenant text, source text)
        on s.tenant = v.tenant and s.source = v.source
    where v.received_at >= :since and v.received_at < :until and v.lead_id >= :first_id
        and not exists (select from pending p where p.stage = 'deduped_leads' and p.subject_id = v.lead_id)
"""

# Part 0 is what came last; parts 1 to `days` are as many rows from before this hour of each earlier day.
_LATEST = f"""
    (
        select 0 as part, r.*
        from (
            select {", ".join(READ_COLUMNS)} from validated_leads
            where validated_at >= :since and validated_at <= :now
            order by validated_at desc limit :limit
        ) r
        union all
        select day.part, e.*
        from generate_series(1, :days) as day(part)
        cross join lateral (
            select {", ".join(READ_COLUMNS)} from validated_leads
            where validated_at < cast(:now as timestamptz) - day.part * interval '1 day'
                and validated_at >= cast(:now as timestamptz) - (day.part + 1) * interval '1 day'
            order by validated_at desc limit :per_day
        ) e
    ) v
    where v.capture_lane <> 'batch'
"""  # noqa: S608 - names of columns

EARLIER_DAYS = 7
_COLUMNS = sa.text(
    """
    select attname || ' ' || format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end
    from pg_attribute
    where attrelid = to_regclass('validated_leads') and attnum > 0 and not attisdropped
    order by attnum
    """
)


def column_sql(name: str) -> str:
    """The expression of a column of the table, or of a derived one, over a row ``v``."""
    return DERIVED.get(name, f"v.{name}")


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """The first instant of a day in UTC and the first of the next."""
    start = datetime.combine(day, time(), tzinfo=UTC)
    return start, start + timedelta(days=1)


def columns_expected() -> list[str]:
    """The columns of ``validated_leads`` as this version of the product has them: name, type, whether never null."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return [
        f"{column.name} {column.type.compile(dialect).lower()}{'' if column.nullable else ' not null'}"
        for column in metadata.tables["validated_leads"].columns
    ]


def columns_found(connection: sa.Connection) -> list[str]:
    """The columns of ``validated_leads`` as the database has them, in the words of ``columns_expected``."""
    return list(connection.execute(_COLUMNS).scalars())


def tally(
    connection: sa.Connection,
    rows: str,
    rules: Sequence[Rule],
    *,
    parameters: Mapping[str, object],
    part: str = "0",
    group_by_day: bool = True,
) -> dict[tuple[int, Group], Tally]:
    """Count ``rows``, the end of a statement from its ``from`` on with rows named ``v``, by part, source and day.

    Rules about drift need no condition: what they compare is always counted. Only part 0 is held against the rules.
    ``parameters`` must name ``now``. Without ``group_by_day`` every group has the day of ``now``.
    """
    conditions, bound = _conditions(rule for rule in rules if not rule.is_drift)
    day = DERIVED["day"] if group_by_day else "(cast(:now as timestamptz) at time zone 'UTC')::date"
    counted = [
        f"count(*) filter (where {part} = 0 and {condition}) as broken_{at}"
        for at, condition in enumerate(conditions.values())
    ]
    counted += [f"count(v.{name}) as present_{name}" for name in FILLED_COLUMNS]
    counted += [f"count(*) filter (where {DERIVED[name]}) as present_{name}" for name in FLAG_COLUMNS]
    statement = sa.text(
        f"select {part} as part, v.tenant, v.source, {day} as day, v.country, count(*) as rows, {', '.join(counted)} "  # noqa: S608 - expressions from this module
        f"from {rows} group by 1, 2, 3, 4, 5"
    )
    found: dict[tuple[int, Group], Tally] = {}
    for row in connection.execute(statement, {**parameters, **bound}).mappings():
        counts = Tally(
            rows=row["rows"],
            broken={name: row[f"broken_{at}"] for at, name in enumerate(conditions) if row[f"broken_{at}"]},
            present={name: row[f"present_{name}"] for name in (*FILLED_COLUMNS, *FLAG_COLUMNS)},
            countries={row["country"]: row["rows"]},
        )
        found.setdefault((row["part"], Group(row["tenant"], row["source"], row["day"])), Tally()).add(counts)
    return found


def leads_waiting(connection: sa.Connection, group: Group, rules: Sequence[Rule], *, now: datetime) -> Tally:
    """What of one group the batch lane holds at the door of deduped_leads."""
    start, end = day_bounds(group.day)
    rows = (
        f"{WAITING} and p.tenant = :tenant and v.source = :source and v.received_at >= :start and v.received_at < :end"
    )
    parameters = {"tenant": group.tenant, "source": group.source, "start": start, "end": end, "now": now}
    return tally(connection, rows, rules, parameters=parameters).get((0, group), Tally())


def days_before(
    connection: sa.Connection, groups: Collection[Group], *, days: int, now: datetime
) -> dict[Group, list[Tally]]:
    """For each group, its source's ``days`` days before it, as far as they have rows that have passed."""
    if not groups:
        return {}
    since, _ = day_bounds(min(group.day for group in groups) - timedelta(days=days))
    until, _ = day_bounds(max(group.day for group in groups))
    sources = sorted({(group.tenant, group.source) for group in groups})
    found = tally(
        connection,
        _PASSED,
        (),
        parameters={
            "sources": msgspec.json.encode([{"tenant": t, "source": s} for t, s in sources]).decode(),
            "since": since,
            "until": until,
            "first_id": first_uuid7_at(since),  # ids follow the time of receipt: other months' partitions stay unread
            "now": now,
        },
    )
    return {
        group: [
            counts
            for (_part, earlier), counts in sorted(found.items())
            if (earlier.tenant, earlier.source) == (group.tenant, group.source)
            and timedelta() < group.day - earlier.day <= timedelta(days=days)
        ]
        for group in groups
    }


def latest(
    connection: sa.Connection, rules: Sequence[Rule], *, now: datetime, window: timedelta, limit: int, per_day: int
) -> dict[Group, tuple[Tally, list[Tally]]]:
    """By source, what the hot lanes validated last, and what they had validated before this hour on earlier days.

    Of the last ``window`` at most the newest ``limit`` rows are read, and at most ``per_day`` for each earlier day.
    """
    counted = tally(
        connection,
        _LATEST,
        rules,
        parameters={
            "since": now - window, "now": now, "limit": limit, "days": EARLIER_DAYS, "per_day": per_day,
        },
        part="v.part",
        group_by_day=False,
    )  # fmt: skip
    return {
        group: (counts, [days for (part, other), days in sorted(counted.items()) if part > 0 and other == group])
        for (this, group), counts in sorted(counted.items())
        if this == 0
    }


def _conditions(rules: Iterable[Rule]) -> tuple[dict[str, str], dict[str, Any]]:
    """For each rule, by name, what is true of a row that breaks it (never null where it is broken), and its values."""
    conditions: dict[str, str] = {}
    bound: dict[str, Any] = {}
    for at, rule in enumerate(rules):
        column, low, high = column_sql(rule.column), f"low_{at}", f"high_{at}"
        match rule.kind:
            case Kind.PRESENT:
                broken = f"{column} is null"
            case Kind.HOLDS:
                broken = f"not {column}"
            case Kind.MATCHES:
                broken, bound[low] = f"{column} !~ :{low}", rule.pattern
            case Kind.AT_MOST:
                broken, bound[high] = f"char_length({column}) > :{high}", rule.high
            case Kind.BETWEEN:
                bounds = [(low, "<", rule.low), (high, ">", rule.high)]
                bound |= {name: value for name, _sign, value in bounds if value is not None}
                broken = " or ".join(f"{column} {sign} :{name}" for name, sign, value in bounds if value is not None)
            case Kind.ONE_OF:
                broken, bound[low] = f"{column} <> all(:{low})", list(rule.allowed)
            case Kind.FILLED | Kind.SHARE:
                raise ValueError(f"{rule.name} is about many rows, not about one")
        conditions[rule.name] = f"({broken})"
    return conditions, bound
