"""Contacts that are due at a destination, written straight into their tables: as many as a measurement needs."""

import sqlalchemy as sa

# Each contact has its golden row and its outbox row, as `golden_contacts` leaves them. The tenant takes turns.
_GOLDEN = """
    insert into golden_contacts (
        contact_id, tenant, version, email, email_key, first_name, last_name, company, city, attribution, consent,
        provenance, lead_count, first_source, last_source, first_seen_at, last_seen_at, batch_id, runner_id, updated_at
    )
    select cast(lpad(to_hex(n), 32, '0') as uuid), 't' || lpad((n % :tenants)::text, 4, '0'), 1,
        'person' || n || '@example.com', 'person' || n || '@example.com', 'Ada', 'Lovelace ' || n,
        'Analytical Engines', 'London', '{}', '{}', '{}', 1, 'signup', 'signup', now(), now(),
        cast(lpad(to_hex(n), 32, '0') as uuid), 'benchmark', now()
    from generate_series(cast(:first as bigint), cast(:last as bigint)) as n
"""
_OUTBOX = """
    insert into outbox (
        tenant, contact_id, destination, operation, state, lane, wanted_version, delivered_version, waiting_since,
        due_at, delivered_at, updated_at
    )
    select 't' || lpad((n % :tenants)::text, 4, '0'), cast(lpad(to_hex(n), 32, '0') as uuid), :destination, 'upsert',
        :state, :lane, 1, case when :state = 'delivered' then 1 end,
        clock_timestamp() - make_interval(secs => :age), clock_timestamp() - make_interval(secs => :age),
        case when :state = 'delivered' then clock_timestamp() end, clock_timestamp()
    from generate_series(cast(:first as bigint), cast(:last as bigint)) as n
"""


def tenant_names(count: int) -> list[str]:
    """The tenants that ``write_due`` shares its contacts among."""
    return [f"t{number:04d}" for number in range(count)]


def write_due(engine: sa.Engine, *, first: int, count: int, destination: str, tenants: int = 1) -> None:
    """``count`` contacts that were never sent and are due now; they come all at once."""
    with engine.begin() as connection:
        values = {"first": first, "last": first + count - 1, "tenants": tenants}
        connection.execute(sa.text(_GOLDEN), values)
        _write(connection, first=first, count=count, destination=destination, tenants=tenants, age=0.0)


def write_waiting(
    engine: sa.Engine, *, first: int, count: int, destination: str, tenants: int, age: float, at_once: int = 250_000
) -> None:
    """``count`` rows of the outbox alone that have waited for ``age`` seconds, to find the next of them."""
    for start in range(first, first + count, at_once):
        with engine.begin() as connection:
            some = min(at_once, first + count - start)
            _write(connection, first=start, count=some, destination=destination, tenants=tenants, age=age)


def settle_down(engine: sa.Engine, *tables: str) -> None:
    """Statistics and a visibility map as autovacuum would leave them."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in tables:
            connection.execute(sa.text(f"vacuum (analyze) {table}"))


def _write(connection: sa.Connection, *, first: int, count: int, destination: str, tenants: int, age: float) -> None:
    values = {"first": first, "last": first + count - 1, "tenants": tenants, "destination": destination, "age": age}
    connection.execute(sa.text(_OUTBOX), {**values, "state": "waiting", "lane": "real_time"})
