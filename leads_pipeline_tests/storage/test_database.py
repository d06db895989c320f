"""Engines: how long a statement may take."""

import sqlalchemy as sa

from leads_pipeline.storage.database import with_statement_limit


def allowed(connection: sa.Connection) -> str:
    found: str = connection.execute(sa.text("show statement_timeout")).scalar_one()
    return found


def test_each_statement_gets_what_is_left_and_the_next_user_of_the_connection_all_of_it(engine: sa.Engine):
    left = iter((3.0, 2.0, 5.0, 0.5, 3.0))
    with with_statement_limit(engine, lambda: next(left)).connect() as connection:
        found = [allowed(connection) for _ in range(4)]
        connection.rollback()
        found.append(allowed(connection))
    # A longer limit than the transaction has is not worth a round trip.
    assert found == ["3s", "2s", "2s", "500ms", "3s"]
    with engine.connect() as connection:
        assert allowed(connection) == "0"


def test_of_two_limits_the_shorter_counts_and_none_is_without_end(engine: sa.Engine):
    outer = with_statement_limit(engine, lambda: 1.0)
    for inner, counts in ((0.2, "200ms"), (60.0, "1s"), (0.0, "1ms"), (-5.0, "1ms")):
        with with_statement_limit(outer, lambda seconds=inner: seconds).connect() as connection:
            assert allowed(connection) == counts
