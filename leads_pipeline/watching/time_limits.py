"""What looks at the pipeline has little time: an engine whose statements end when the time is over."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa


def within_seconds(engine: sa.Engine, left: Callable[[], float]) -> sa.Engine:
    """The engine, each of whose statements ends when ``left`` has become zero. Its connections are the same.

    A statement that would begin later raises ``TimeoutError``.
    """
    limited = engine.execution_options()

    @sa.event.listens_for(limited, "before_cursor_execute")
    def _limit(connection: sa.Connection, *_statement: Any) -> None:
        seconds = left()
        if seconds <= 0:
            raise TimeoutError
        cursor: Any = connection.connection.cursor()
        cursor.execute(f"set local statement_timeout = {max(1, round(1000 * seconds))}")  # 0 would be without end
        cursor.close()

    return limited
