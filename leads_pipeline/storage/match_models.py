"""Models of matching as data: what was learned from a tenant's leads, and which model serves the tenant.

The newest activation names the model; ``None`` is the one that ships with the package. A rollback is an activation
too, which names the one that it takes back, so that rolling back twice goes back twice. Keep out: what parameters
mean, which is ``leads_pipeline.matching``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.domain.match_keys import MatchFields

# Half of the key names the lock's purpose, the rest the tenant.
_LOCK_PURPOSE = 0x30DE1

# Of 1,024 contacts these are never trained on: what a model does with them says what it will do with new ones.
HELD_OUT_SHARE = 102 / 1024
_BUCKETS = 1 << 20

_FIELDS = tuple(MatchFields.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A trained model. ``parameters`` as ``matching.model.Parameters`` writes them; ``trained`` says from what."""

    version: str
    parameters: Mapping[str, Any]
    trained: Mapping[str, Any]
    actor: str
    trained_at: datetime


@dataclass(frozen=True, slots=True)
class Activation:
    """A decision about which model serves. ``undoes``: the activation that this one, a rollback, takes back."""

    activation_id: int
    version: str | None
    undoes: int | None
    actor: str
    reason: str | None
    activated_at: datetime


def lock_models(connection: sa.Connection, tenant: str) -> None:
    """Hold the tenant's models until the transaction ends: two rollbacks at once would take one activation back."""
    connection.execute(
        sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), hashtext(:tenant))"),
        {"purpose": _LOCK_PURPOSE, "tenant": tenant},
    )


_ACTIVE = sa.text(
    "select version from match_model_activations where tenant = :tenant order by activation_id desc limit 1"
)
_MODEL_COLUMNS = "version, parameters, trained, actor, trained_at"


def active_version(connection: sa.Connection, tenant: str) -> str | None:
    """The version that serves the tenant; ``None`` is the shipped model. One look into an index."""
    version: str | None = connection.execute(_ACTIVE, {"tenant": tenant}).scalar_one_or_none()
    return version


def read_model(connection: sa.Connection, tenant: str, version: str) -> StoredModel | None:
    """One trained model of the tenant."""
    row = connection.execute(
        sa.text(f"select {_MODEL_COLUMNS} from match_models where tenant = :tenant and version = :version"),  # noqa: S608
        {"tenant": tenant, "version": version},
    ).one_or_none()
    return StoredModel(*_values(row)) if row else None


def read_models(connection: sa.Connection, tenant: str) -> list[StoredModel]:
    """All trained models of the tenant, the newest first."""
    rows = connection.execute(
        sa.text(f"select {_MODEL_COLUMNS} from match_models where tenant = :tenant order by trained_at desc, version"),  # noqa: S608
        {"tenant": tenant},
    )
    return [StoredModel(*_values(row)) for row in rows]


def read_activations(connection: sa.Connection, tenant: str) -> list[Activation]:
    """Every decision about which model serves the tenant, in their order."""
    rows = connection.execute(
        sa.text(
            "select activation_id, version, undoes, actor, reason, activated_at "
            "from match_model_activations where tenant = :tenant order by activation_id"
        ),
        {"tenant": tenant},
    )
    return [Activation(*_values(row)) for row in rows]


def add_model(
    connection: sa.Connection,
    tenant: str,
    *,
    version: str,
    parameters: Mapping[str, Any],
    trained: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> bool:
    """Keep a model under ``version``. ``False``, and nothing is written, if the tenant has one of that name."""
    statement = sa.text(
        "insert into match_models (tenant, version, parameters, trained, actor, trained_at) "
        "values (:tenant, :version, cast(:parameters as jsonb), cast(:trained as jsonb), :actor, :now) "
        "on conflict do nothing"
    )
    values = {"parameters": json.dumps(parameters), "trained": json.dumps(trained), "actor": actor, "now": now}
    return connection.execute(statement, {"tenant": tenant, "version": version, **values}).rowcount == 1


def add_activation(
    connection: sa.Connection,
    tenant: str,
    *,
    version: str | None,
    undoes: int | None = None,
    actor: str,
    reason: str | None,
    now: datetime,
) -> None:
    """Let ``version`` serve the tenant from its next chunk on. Call ``lock_models`` before what this follows from."""
    connection.execute(
        sa.text(
            "insert into match_model_activations (tenant, version, undoes, actor, reason, activated_at) "
            "values (:tenant, :version, :undoes, :actor, :reason, :now)"
        ),
        {"tenant": tenant, "version": version, "undoes": undoes, "actor": actor, "reason": reason, "now": now},
    )


def count_records(connection: sa.Connection, tenant: str) -> int:
    """How many distinct appearances of contacts the tenant has."""
    found: int | None = connection.execute(
        sa.text("select records from identity_sizes where tenant = :tenant"), {"tenant": tenant}
    ).scalar_one_or_none()
    return found or 0


_SAMPLE = f"""
    select {", ".join(_FIELDS)} from match_records
    where tenant = :tenant
      and ((hashtextextended(contact_id::text, 0) & 1023) < {round(HELD_OUT_SHARE * 1024)}) = :held_out
      and (hashtextextended(case when :held_out then contact_id else lead_id end::text, :seed)
           & {_BUCKETS - 1}) < :share
    limit :limit
"""  # noqa: S608 - names of columns


def sample_records(
    connection: sa.Connection, tenant: str, *, held_out: bool, limit: int, seed: int
) -> Iterator[MatchFields]:
    """About ``limit`` records at most, spread over all that there are; the same ones for the same seed.

    Those held out are a tenth of the contacts, whole: their pairs are kept. Of the others each record is drawn by
    itself, so that pairs are as rare among the drawn as among all. Read through a cursor of the server: whoever
    consumes them decides what is held in memory.
    """
    part = HELD_OUT_SHARE if held_out else 1 - HELD_OUT_SHARE
    expected = max(1.0, count_records(connection, tenant) * part)
    values = {"tenant": tenant, "held_out": held_out, "seed": seed, "limit": limit}
    share = min(_BUCKETS, round(_BUCKETS * limit / expected))
    streamed = connection.execution_options(stream_results=True, yield_per=5_000)
    for row in streamed.execute(sa.text(_SAMPLE), {**values, "share": share}):
        yield MatchFields(*_values(row))


def _values(row: sa.Row[Any]) -> tuple[Any, ...]:
    return tuple(row)
