"""The validated leads that Great Expectations examines before they are matched.

The rows hold personal data: they are looked at in memory and must not be stored, logged or shown. Ids are left out.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.domain.expectations import COUNTED_COLUMNS
from leads_pipeline.storage.quality import WAITING, column_sql

# What the rules are about, and what tells the groups apart.
EXAMINED_COLUMNS = (
    "tenant", "source", "day", "country", "received_at", "validated_at", "sync_lane", "rule_version", "tier",
    "value_score", "risk_score", "phone_region", "birth_year", "age_seconds", "usable", "email_and_key",
    "phone_and_key", *COUNTED_COLUMNS,
)  # fmt: skip

_NEWEST = sa.text(
    f"""
    select {", ".join(f"{column_sql(name)} as {name}" for name in EXAMINED_COLUMNS)}
    from (
        select v.*, row_number() over (
            partition by v.tenant, v.source, {column_sql("day")} order by v.lead_id desc
        ) as nth
        from {WAITING}
    ) as v
    where v.nth <= :limit
    """  # noqa: S608 - names of columns
)


def rows_to_examine(connection: sa.Connection, *, limit_per_group: int, now: datetime) -> list[dict[str, Any]]:
    """What the batch lane holds at the door of deduped_leads: of each source and day of receipt the newest rows."""
    rows = connection.execute(_NEWEST, {"limit": limit_per_group, "now": now}).mappings()
    return [dict(row) for row in rows]
