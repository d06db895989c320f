"""How often a DNS server may be asked, for all processes that write to this database.

A server's row in ``rate_limits`` says until when its questions are given out: ``paused_until`` is the time of the next
one. Questions are taken in blocks, because a statement for each would cost as much as the question.
"""

import sqlalchemy as sa

ENDPOINT_CLASS = "mx"

# The database's clock decides, read when the row is locked: processes' clocks differ.
_RESERVE = sa.text(
    """
    insert into rate_limits as r (account, endpoint_class, grants, daily, paused_until, updated_at)
    values (
        :account, :endpoint_class, '{}', '{}', clock_timestamp() + make_interval(secs => :seconds), clock_timestamp()
    )
    on conflict (account, endpoint_class) do update set
        paused_until = greatest(r.paused_until, clock_timestamp()) + make_interval(secs => :seconds),
        updated_at = clock_timestamp()
    returning greatest(0, extract(epoch from r.paused_until - clock_timestamp()) - :seconds) as wait
    """
)


def reserve_questions(engine: sa.Engine, server: str, *, seconds: float) -> float:
    """Take the server's next ``seconds`` for oneself. Returns how many seconds from now they begin. Commits at once."""
    with engine.begin() as connection:
        row = connection.execute(
            _RESERVE, {"account": f"dns {server}", "endpoint_class": ENDPOINT_CLASS, "seconds": seconds}
        ).one()
    return float(row.wait)
