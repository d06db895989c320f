"""The validated leads that a check examines before they are matched, and how complete each source's leads were before.

The rows hold personal data: they are looked at in memory and must not be stored, logged or shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

EXAMINED_COLUMNS = (
    "lead_id", "revision", "tenant", "source", "sync_lane", "received_at", "validated_at", "rule_version",
    "email", "email_key", "phone", "phone_key", "first_name", "last_name", "full_name", "company", "date_of_birth",
    "address", "city", "postcode", "country",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Completeness:
    """How many of one source's leads had a field. ``present`` counts by field."""

    tenant: str
    source: str
    rows: int
    present: Mapping[str, int]

    def share(self, field: str) -> float:
        return self.present[field] / self.rows if self.rows else 0.0


_WAITING = sa.text(
    """
    select lead_id::text, revision, tenant, source, sync_lane, received_at, validated_at, rule_version,
        email, email_key, phone, phone_key, first_name, last_name, full_name, company, date_of_birth,
        address, city, postcode, country
    from (
        select v.*, row_number() over (partition by v.tenant, v.source order by v.lead_id desc) as nth
        from pending p
        join validated_leads v on v.lead_id = p.subject_id and v.revision = p.revision and v.tenant = p.tenant
        where p.stage = 'deduped_leads' and (p.lane = 'batch' or v.runner_id = :runner_id)
    ) as waiting
    where nth <= :limit
    """
)

_LATEST = sa.text(
    """
    select distinct on (lead_id) lead_id::text, revision, tenant, source, sync_lane, received_at, validated_at,
        rule_version, email, email_key, phone, phone_key, first_name, last_name, full_name, company, date_of_birth,
        address, city, postcode, country
    from (
        select * from validated_leads where capture_lane = 'batch' order by validated_at desc limit :limit
    ) as latest
    order by lead_id, revision desc
    """
)

# What has passed this door; what waits at it is what the baseline will judge.
_COMPLETENESS = sa.text(
    """
    select v.tenant, v.source, count(*) as leads, count(v.email) as email, count(v.phone) as phone,
        count(v.last_name) as last_name, count(v.company) as company
    from validated_leads v
    where v.validated_at >= :since
        and not exists (select from pending p where p.stage = 'deduped_leads' and p.subject_id = v.lead_id)
    group by v.tenant, v.source
    """
)


def rows_to_examine(connection: sa.Connection, *, runner_id: str, limit_per_source: int) -> list[dict[str, Any]]:
    """What ``runner_id`` validated and what the batch lane holds at the door of deduped_leads; else its latest rows."""
    parameters = {"runner_id": runner_id, "limit": limit_per_source}
    rows = connection.execute(_WAITING, parameters).mappings().all()
    if not rows:
        rows = connection.execute(_LATEST, {"limit": limit_per_source}).mappings().all()
    return [dict(row) for row in rows]


def completeness_since(connection: sa.Connection, since: datetime) -> list[Completeness]:
    """How complete each source's leads were that were validated since an instant and have passed on."""
    return [
        Completeness(
            tenant=row.tenant,
            source=row.source,
            rows=row.leads,
            present={"email": row.email, "phone": row.phone, "last_name": row.last_name, "company": row.company},
        )
        for row in connection.execute(_COMPLETENESS, {"since": since})
    ]
