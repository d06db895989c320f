"""Bring a database to this version's schema, or say that it is not there.

One transaction under an advisory lock: racing starters wait for each other, and a failed upgrade leaves nothing behind.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from leads_pipeline.errors import SchemaOutdated
from leads_pipeline.storage.partitions import ensure_partitions, missing_partitions
from leads_pipeline.storage.roles import ensure_roles
from leads_pipeline.storage.schema import SCHEMA

# Any constant that nobody else uses serves.
_LOCK_KEY = 0x1EAD5_0001


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What an upgrade found and did. ``notices`` are for the person who ran it."""

    version_before: str | None
    version: str
    partitions_created: tuple[str, ...]
    notices: tuple[str, ...]


def upgrade(engine: sa.Engine, *, now: datetime) -> UpgradeReport:
    """Apply the missing migrations, make the partitions around ``now``, and see to the roles. Safe to repeat.

    Raises:
        SchemaOutdated: the database has a version that this code does not know: a newer release upgraded it.
    """
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        before = current_version(connection)
        if before not in (None, *_known_versions()):
            raise SchemaOutdated(_newer(before))
        connection.exec_driver_sql(f"create schema if not exists {SCHEMA}")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        created = ensure_partitions(connection, now=now)
        roles = ensure_roles(connection)
    return UpgradeReport(before, expected_version(), tuple(created), roles.notices)


def is_ready(engine: sa.Engine, *, now: datetime) -> bool:
    """Whether ``upgrade`` would find nothing that this month or the next needs. Reads only."""
    with engine.connect() as connection:
        return current_version(connection) == expected_version() and not missing_partitions(
            connection, now=now, months_ahead=1
        )


def require_current(engine: sa.Engine) -> None:
    """Refuse to work on a schema that is not this version's.

    Raises:
        SchemaOutdated: it is older, newer, or missing.
    """
    with engine.connect() as connection:
        found = current_version(connection)
    if found == expected_version():
        return
    if found is not None and found not in _known_versions():
        raise SchemaOutdated(_newer(found))
    raise SchemaOutdated(
        f"the database has {'no schema yet' if found is None else f'schema version {found}'}, this version of leads "
        f"needs {expected_version()}; run `leads db upgrade`"
    )


def current_version(connection: sa.Connection) -> str | None:
    """The version of the database's schema, or ``None`` where there is none."""
    if connection.execute(sa.text("select to_regclass(:name)"), {"name": f"{SCHEMA}.alembic_version"}).scalar() is None:
        return None
    found: str | None = connection.execute(sa.text(f"select version_num from {SCHEMA}.alembic_version")).scalar()  # noqa: S608 - our constant
    return found


def expected_version() -> str:
    """The version of the schema that this code needs."""
    head = _scripts().get_current_head()
    if head is None:
        raise SchemaOutdated("this installation of leads holds no migrations; install it again")
    return head


def _known_versions() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


def _newer(version: str | None) -> str:
    return (
        f"the database has schema version {version}, which this version of leads does not know: a newer one upgraded "
        f"it. Install that version; there is no way back but a backup"
    )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    # Named by package, not by path: a path may hold a percent sign, which the configuration would interpolate.
    config.set_main_option("script_location", "leads_pipeline.storage:migrations")
    return config
