"""Least-privilege roles. They cannot log in: a DBA grants them to the logins of services and people.

``leads_capture``   what the HTTP door needs and nothing else: a stolen password of the door reads no lead
``leads_lookup``    what the door's look-ups answer with, column by column; writes nothing
``leads_pipeline``  reads and writes rows of every table; no change of the schema
``leads_analyst``   reads the marts that dbt builds, with personal data masked; no raw table

Each also reads the version of the schema, which a service checks when it starts. Creating or attaching partitions and
upgrading stay with the owner of the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.storage.schema import SCHEMA

MARTS_SCHEMA = "marts"
CAPTURE_ROLE = "leads_capture"
LOOKUP_ROLE = "leads_lookup"
PIPELINE_ROLE = "leads_pipeline"
ANALYST_ROLE = "leads_analyst"
ROLES = (CAPTURE_ROLE, LOOKUP_ROLE, PIPELINE_ROLE, ANALYST_ROLE)

# Roles belong to the whole server, an advisory lock to one database: two databases that are upgraded at once may both
# try, and the second is content.
_CREATE = """
do $$ begin
    create role {role} nologin;
exception when duplicate_object or unique_violation then null;
end $$
"""

# Of golden contacts: what a look-up goes by, and what it answers with.
_LOOKED_UP = (
    "contact_id", "tenant", "email_key", "awaited_email_key", "phone", "first_name", "last_name", "company",
    "job_title", "email_verdict", "phone_verdict", "phone_line_type", "consent", "last_seen_at",
)  # fmt: skip

_REFUSALS = ("action_id", "policy", "action", "tenant", "parameters", "ends_at", "ended_at")

_GRANTS: dict[str, tuple[str, ...]] = {
    CAPTURE_ROLE: (
        "grant usage on schema {schema} to {role}",
        "grant insert on {schema}.buffer, {schema}.ingest_keys, {schema}.capture_batches to {role}",
        "grant insert on {schema}.redis_incarnations to {role}",
        # Which of the outcomes that it was sent are new, and nothing else of any.
        "grant insert, select (outcome_id) on {schema}.outcomes to {role}",
        # How much waits, and since when; of a lead itself nothing.
        "grant select (lead_id, tenant, source, lane, received_at) on {schema}.buffer to {role}",
        "grant select on {schema}.ingest_keys, {schema}.api_keys, {schema}.alembic_version to {role}",
        # What rules have ordered it to refuse; not why.
        f"grant select ({', '.join(_REFUSALS)}) on {{schema}}.policy_actions to {{role}}",
    ),
    LOOKUP_ROLE: (
        "grant usage on schema {schema} to {role}",
        f"grant select ({', '.join(_LOOKED_UP)}) on {{schema}}.golden_contacts to {{role}}",
        "grant select (contact_id, tenant, merged_into) on {schema}.contacts to {role}",
        "grant select (lead_id, tenant, contact_id) on {schema}.deduped_leads to {role}",
        "grant select (contact_id, tenant, email_key, phone_key) on {schema}.match_records to {role}",
        "grant select on {schema}.alembic_version to {role}",
    ),
    PIPELINE_ROLE: (
        "grant usage on schema {schema} to {role}",
        "grant select, insert, update, delete on all tables in schema {schema} to {role}",
        "revoke insert, update, delete on {schema}.alembic_version from {role}",
        "grant usage on all sequences in schema {schema} to {role}",
        "grant usage, create on schema {marts} to {role}",
    ),
    ANALYST_ROLE: (
        "grant usage on schema {marts} to {role}",
        "grant select on all tables in schema {marts} to {role}",
        # What dbt builds later as the user of this upgrade; a dbt that runs as another one has to grant by itself.
        "alter default privileges in schema {marts} grant select on tables to {role}",
    ),
}

_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True, slots=True)
class RolesReport:
    """Which roles have their privileges now, and what a DBA is left to do."""

    granted: tuple[str, ...]
    notices: tuple[str, ...]


def ensure_roles(connection: sa.Connection) -> RolesReport:
    """Create the roles that are missing and grant what each may do. Repeating it changes nothing.

    A user who may not create roles gets a notice, not an error: the pipeline works without them.
    """
    existing = _existing(connection)
    missing = [role for role in ROLES if role not in existing]
    if missing and _may_create_roles(connection):
        for role in missing:
            connection.exec_driver_sql(_CREATE.format(role=role))
        missing = []
    connection.exec_driver_sql(f"create schema if not exists {MARTS_SCHEMA}")
    refused = {role: reason for role in ROLES if role not in missing and (reason := _refusal(connection, role))}
    granted = tuple(role for role in ROLES if role not in missing and role not in refused)
    return RolesReport(granted, (*_missing_notices(missing), *_refused_notices(refused)))


def _refusal(connection: sa.Connection, role: str) -> str | None:
    """Grant what ``role`` may do; why that was refused, or ``None``."""
    try:
        with connection.begin_nested():
            for statement in _GRANTS[role]:
                connection.exec_driver_sql(statement.format(schema=SCHEMA, marts=MARTS_SCHEMA, role=role))
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        return str(error.orig)
    return None


def _existing(connection: sa.Connection) -> set[str]:
    found = connection.execute(
        sa.text("select rolname from pg_roles where rolname = any(:names)"), {"names": list(ROLES)}
    )
    return set(found.scalars())


def _may_create_roles(connection: sa.Connection) -> bool:
    return bool(
        connection.execute(
            sa.text("select rolsuper or rolcreaterole from pg_roles where rolname = current_user")
        ).scalar_one()
    )


def _missing_notices(missing: Sequence[str]) -> tuple[str, ...]:
    if not missing:
        return ()
    statements = " ".join(f"create role {role} nologin;" for role in missing)
    notice = (
        f"the roles {', '.join(missing)} do not exist, and this user may not create roles. Without them everything "
        f"works with this user's own privileges. To have them, let a DBA run `{statements}` and run "
        f"`leads db upgrade` again."
    )
    return (notice,)


def _refused_notices(refused: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"the role {role} did not get its privileges: {reason}. Let the owner of that object run `leads db upgrade`"
        for role, reason in refused.items()
    )
