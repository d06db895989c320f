"""Golden contacts and what they are made of: a chunk of contacts is read and written with one statement each.

Callers hold ``storage.identity.lock_identity``, so that no lead changes its contact meanwhile.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.consent_folding import ConsentEvent
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS, VERIFIED_FIELDS, GoldenRecord, Member
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing, email_standing
from leads_pipeline.storage.news import MEASURED_LANE, ON_INCLUSION


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A lead of a contact. ``included`` is whether a golden version has taken it in, ``value`` its value score.

    ``arriving_in``: the lane in which it is measured as having come now; ``None`` if it is not.
    """

    contact_id: UUID
    sync_lane: Lane
    included: bool
    member: Member
    value: int | None = None
    arriving_in: str | None = None


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A golden contact as it is to be stored. One that does not hold the address that it wants awaits it."""

    contact_id: UUID
    version: int
    record: GoldenRecord
    consent: Mapping[str, object]
    holds_email: bool = True

    def content(self) -> dict[str, object]:
        """Everything but the version, as JSON has it: two rows with equal content say the same."""
        record = self.record
        return {
            **{name: _as_json(value) for name, value in record.values.items()},
            "email_key": record.values["email_key"] if self.holds_email else None,
            "awaited_email_key": None if self.holds_email else record.values["email_key"],
            "attribution": record.attribution,
            "consent": self.consent,
            "provenance": record.provenance,
            "lead_count": record.lead_count,
            "first_source": record.first_source,
            "last_source": record.last_source,
            "first_seen_at": record.first_seen_at.isoformat(),
            "last_seen_at": record.last_seen_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class StoredGolden:
    """A golden contact as it stands: its version, and its content as ``GoldenRow.content`` has it."""

    version: int
    content: Mapping[str, object]


_LIVING = sa.text(
    """
    select coalesce(merged_into, contact_id) as contact_id from contacts
    where tenant = :tenant and contact_id = any(cast(:ids as uuid[]))
    """
)

_LIVING_PAGE = sa.text(
    """
    select contact_id from contacts
    where tenant = :tenant and contact_id > :after and merged_into is null
    order by contact_id limit :limit
    """
)

_MERGED_AWAY = sa.text(
    """
    select contact_id, merged_into from contacts
    where tenant = :tenant and merged_into = any(cast(:ids as uuid[]))
    """
)

_MEMBERS = sa.text(
    f"""
    select d.contact_id, d.lead_id, d.revision, d.sync_lane, d.golden_version is not null as included,
        case when d.first_golden_version is null then {MEASURED_LANE} end as arriving_in,
        v.received_at, v.source, v.risk_score, v.value_score,
        cast(v.flags as text) as flags, cast(v.attribution as text) as attribution, verified.kinds,
        {", ".join(f"v.{name}" for name in GOLDEN_FIELDS)}
    from deduped_leads d
    join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    left join lateral (  -- of each kind the latest verdict that tells anything
        select jsonb_object_agg(latest.kind, jsonb_build_array(latest.verdict, latest.details)) as kinds
        from (
            select distinct on (x.kind) x.kind, x.verdict, x.details from verifications x
            where x.lead_id = d.lead_id and x.revision = d.revision and x.provider <> 'skipped'
            order by x.kind, x.verdict = 'unknown', x.verified_at desc
        ) latest
    ) verified on true
    where d.tenant = :tenant and d.contact_id = any(cast(:ids as uuid[]))
    """  # noqa: S608 - names of columns
)

_CONSENT = sa.text(
    """
    select d.contact_id, e.lead_id, e.position, e.granted, e.purpose, e.channel, e.occurred_at
    from deduped_leads d
    join consent_events e on e.lead_id = d.lead_id
    where d.tenant = :tenant and d.contact_id = any(cast(:ids as uuid[]))
    """
)

_JSON_COLUMNS = frozenset({"attribution", "consent", "provenance"})
_CONTENT_TYPES = {
    **dict.fromkeys((*GOLDEN_FIELDS, "awaited_email_key", *VERIFIED_FIELDS), "text"),
    "date_of_birth": "date",
    "risk_score": "integer",
    **dict.fromkeys(sorted(_JSON_COLUMNS), "jsonb"),
    "lead_count": "integer",
    "first_source": "text",
    "last_source": "text",
    "first_seen_at": "timestamptz",
    "last_seen_at": "timestamptz",
}
_CONTENT = tuple(_CONTENT_TYPES)
# As text: the driver's JSON took a quarter of this step's time.
_STORED_CONTENT = [
    f"cast({name} as text) as {name}" if kind == "jsonb" else name for name, kind in _CONTENT_TYPES.items()
]

_STORED = sa.text(
    f"""
    select contact_id, version, {", ".join(_STORED_CONTENT)} from golden_contacts
    where tenant = :tenant and contact_id = any(cast(:ids as uuid[]))
    """  # noqa: S608 - names of columns
)

_DELETE = sa.text(
    "delete from golden_contacts where tenant = :tenant and contact_id = any(cast(:ids as uuid[])) returning contact_id"
)

_UPSERT = sa.text(
    f"""
    insert into golden_contacts (
        contact_id, tenant, version, {", ".join(_CONTENT)}, batch_id, runner_id, updated_at
    )
    select t.contact_id, :tenant, t.version, {", ".join(f"t.{name}" for name in _CONTENT)}, :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        contact_id uuid, version integer, {", ".join(f"{name} {kind}" for name, kind in _CONTENT_TYPES.items())}
    )
    on conflict (contact_id) do update set
        version = excluded.version, {", ".join(f"{name} = excluded.{name}" for name in _CONTENT)},
        batch_id = excluded.batch_id, runner_id = excluded.runner_id, updated_at = excluded.updated_at
    """  # noqa: S608 - names of columns
)

_INCLUDE = sa.text(
    f"""
    update deduped_leads d set
        golden_version = t.version,
        first_golden_version = {ON_INCLUSION}
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, version integer)
    where d.tenant = :tenant and d.contact_id = t.contact_id and d.golden_version is null
    """  # noqa: S608 - text of ours
)


def living_contacts(connection: sa.Connection, *, tenant: str, contact_ids: Iterable[UUID]) -> list[UUID]:
    """The contacts that these ids stand for today, each once, in order: who was merged away stands for its survivor."""
    rows = connection.execute(_LIVING, {"tenant": tenant, "ids": uuid_array(contact_ids)})
    return sorted({row.contact_id for row in rows})


def living_page(connection: sa.Connection, *, tenant: str, after: UUID | None, limit: int) -> list[UUID]:
    """The living contacts that come after one, in the order of their ids; from the first one if there is none."""
    return list(
        connection.execute(_LIVING_PAGE, {"tenant": tenant, "after": after or UUID(int=0), "limit": limit}).scalars()
    )


def merged_away(connection: sa.Connection, *, tenant: str, survivors: Sequence[UUID]) -> dict[UUID, UUID]:
    """The contacts that were merged into ``survivors``, each with its survivor."""
    rows = connection.execute(_MERGED_AWAY, {"tenant": tenant, "ids": uuid_array(survivors)})
    return {row.contact_id: row.merged_into for row in rows}


def read_members(
    connection: sa.Connection, *, tenant: str, contact_ids: Sequence[UUID], priorities: Mapping[str, int], default: int
) -> dict[UUID, list[MemberRow]]:
    """The leads of each contact. ``priorities`` are the sources'; ``default`` is for a source no longer known."""
    found: dict[UUID, list[MemberRow]] = {}
    for row in connection.execute(_MEMBERS, {"tenant": tenant, "ids": uuid_array(contact_ids)}).mappings():
        member = Member(
            lead_id=row["lead_id"],
            revision=row["revision"],
            received_at=row["received_at"],
            source=row["source"],
            priority=priorities.get(row["source"], default),
            values={name: row[name] for name in GOLDEN_FIELDS},
            flags=frozenset(_decode(row["flags"])),
            attribution=_decode(row["attribution"]),
            risk_score=row["risk_score"],
            **_verdicts(row["kinds"]),
        )
        found.setdefault(row["contact_id"], []).append(
            MemberRow(
                row["contact_id"],
                Lane(row["sync_lane"]),
                row["included"],
                member,
                row["value_score"],
                row["arriving_in"],
            )
        )
    return found


def _verdicts(kinds: Mapping[str, Any] | None) -> dict[str, Any]:
    """What verification says of a lead, by the names of ``Member``."""
    if not kinds:
        return {}
    found = {kind: LookupVerdict(Standing(verdict), details=details) for kind, (verdict, details) in kinds.items()}
    phone = found.get(LookupKind.PHONE)
    return {
        "email_verdict": email_standing(found.get(LookupKind.MX), found.get(LookupKind.MAILBOX)),
        "phone_verdict": phone.standing if phone else None,
        "phone_line_type": phone.details.get("line_type") if phone else None,
    }


def read_consent(
    connection: sa.Connection, *, tenant: str, contact_ids: Sequence[UUID]
) -> dict[UUID, list[ConsentEvent]]:
    """The consent statements of each contact's leads."""
    found: dict[UUID, list[ConsentEvent]] = {}
    for row in connection.execute(_CONSENT, {"tenant": tenant, "ids": uuid_array(contact_ids)}):
        found.setdefault(row.contact_id, []).append(
            ConsentEvent(row.lead_id, row.position, row.granted, row.purpose, row.channel, row.occurred_at)
        )
    return found


def read_golden(connection: sa.Connection, *, tenant: str, contact_ids: Sequence[UUID]) -> dict[UUID, StoredGolden]:
    """The golden rows that stand now."""
    rows = connection.execute(_STORED, {"tenant": tenant, "ids": uuid_array(contact_ids)}).mappings()
    return {
        row["contact_id"]: StoredGolden(
            row["version"],
            {
                name: _decode(value) if name in _JSON_COLUMNS else _as_json(value)
                for name in _CONTENT
                for value in (row[name],)
            },
        )
        for row in rows
    }


def delete_golden(connection: sa.Connection, *, tenant: str, contact_ids: Sequence[UUID]) -> int:
    """Remove golden rows; says how many there were."""
    return len(connection.execute(_DELETE, {"tenant": tenant, "ids": uuid_array(contact_ids)}).all())


def upsert_golden(connection: sa.Connection, rows: Sequence[GoldenRow], chunk: Chunk) -> None:
    """Store the rows and mark the leads that they are the first to include.

    An address that one of them takes from another contact must have been let go (``storage.address_holders``).
    """
    if not rows:
        return
    contents = [{"contact_id": str(row.contact_id), "version": row.version, **row.content()} for row in rows]
    rows_json = msgspec.json.encode(contents).decode()
    connection.execute(
        _UPSERT,
        {
            "rows": rows_json,
            "tenant": chunk.tenant,
            "batch_id": chunk.batch_id,
            "runner_id": chunk.runner_id,
            "now": chunk.now,
        },
    )
    versions = json.dumps([{"contact_id": str(row.contact_id), "version": row.version} for row in rows])
    connection.execute(_INCLUDE, {"rows": versions, "tenant": chunk.tenant})


def uuid_array(ids: Iterable[UUID]) -> str:
    """Ids as the text of a PostgreSQL array: far cheaper to send than a list."""
    return "{" + ",".join(str(item) for item in ids) + "}"


_decode = msgspec.json.decode


def _as_json(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value
