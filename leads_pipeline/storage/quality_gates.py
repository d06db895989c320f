"""Gates in front of deliveries: a verdict closes one for a tenant (and lane), an operator's ruling stands above it.

Only what would be sent about a contact waits at a closed gate; archives, erasures and withdrawals of consent never do.
A closing ends by itself at ``until`` unless an evaluation renews it, and a ruling ends too: nobody has to remember
either. What is sent asks here when it looks for work, when it claims, and once more in the transaction that writes a
request down. Keep out: which verdict closes what (``steps.evaluated_slos``).
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.storage import gate_history
from leads_pipeline.storage.slos import Key


class Ruling(StrEnum):
    """What an operator decided about a gate, whatever its verdict says."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as it is stored; ``key.slo`` is its name. ``closed`` and ``until``: as the last verdict decided."""

    key: Key
    closed: bool
    reason: str | None
    changed_at: datetime
    decided_at: datetime
    until: datetime | None
    ruling: Ruling | None
    ruled_by: str | None
    ruled_for: str | None
    ruled_until: datetime | None

    def ruling_at(self, now: datetime) -> Ruling | None:
        """What an operator's ruling says, while it lasts."""
        return self.ruling if self.ruled_until is not None and self.ruled_until > now else None

    def closed_at(self, now: datetime) -> bool:
        """Whether a verdict holds it closed."""
        return self.closed and self.until is not None and self.until > now


class Decided(StrEnum):
    """What a verdict decided about a gate.

    ``hold``: it stays as it is, and a closing is renewed. ``heard``: it stays as it is, and a closing is not renewed.
    """

    OPEN = "open"
    CLOSE = "close"
    HOLD = "hold"
    HEARD = "heard"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a verdict decided about a gate."""

    key: Key
    decided: Decided
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Gates:
    """Which tenants' lanes must not be sent anything now. An empty tenant or lane of a gate: every one.

    ``closed``: by verdicts, or because none was heard. ``shut`` and ``opened``: by an operator, who stands above.
    """

    closed: tuple[Key, ...] = ()
    shut: tuple[Key, ...] = ()
    opened: tuple[Key, ...] = ()

    def passes(self, tenant: str, lane: str) -> bool:
        """Whether the contacts of a tenant's lane may be sent."""
        return self.holding(tenant, lane) is None

    def holding(self, tenant: str, lane: str) -> str | None:
        """The name of a gate that holds a tenant's lane back; ``None``: none does."""
        opened = [gate for gate in self.opened if _meets(gate, tenant, lane)]
        for gate in self.shut:
            # Of two rulings the one that is about less stands.
            if _meets(gate, tenant, lane) and not any(
                o.slo == gate.slo and _breadth(o) < _breadth(gate) for o in opened
            ):
                return gate.slo
        for gate in self.closed:
            if _meets(gate, tenant, lane) and not any(item.slo == gate.slo for item in opened):
                return gate.slo
        return None


@dataclass(frozen=True, slots=True)
class GateRules:
    """What leads.yaml says of gates: which there are, and what one means whose verdict is missing or stale."""

    promised: tuple[Key, ...]
    closed_when_stale: bool
    stale_after: timedelta


_COLUMNS = "gate, tenant, lane, closed, reason, changed_at, decided_at, until, ruling, ruled_by, ruled_for, ruled_until"
_READ = sa.text(f"select {_COLUMNS} from quality_gates order by gate, tenant, lane")  # noqa: S608 - text of this module

_DECIDE = sa.text(
    """
    insert into quality_gates as g (gate, tenant, lane, closed, reason, changed_at, decided_at, until)
    select gate, tenant, lane, decided = 'close', reason, :now, :now,
        case when decided = 'close' then cast(:until as timestamptz) end
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(gate text, tenant text, lane text, decided text, reason text)
    where decided in ('open', 'close')
    order by gate, tenant, lane
    on conflict (tenant, lane, gate) do update set
        closed = excluded.closed, reason = excluded.reason, decided_at = excluded.decided_at, until = excluded.until,
        changed_at = case
            when g.closed = excluded.closed then least(g.changed_at, excluded.changed_at) else excluded.changed_at
        end
    where g.decided_at <= excluded.decided_at or g.decided_at > :written_at
    """
)

# A gate that stays as it is was decided about all the same. A closing that has ended is not renewed.
_STAY = sa.text(
    """
    insert into quality_gates as g (gate, tenant, lane, closed, changed_at, decided_at)
    select gate, tenant, lane, false, :now, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(gate text, tenant text, lane text, decided text)
    where decided = cast(:decided as text)
    order by gate, tenant, lane
    on conflict (tenant, lane, gate) do update set
        decided_at = excluded.decided_at,
        until = case when cast(:decided as text) = 'hold' and g.closed and g.until > :now
            then cast(:until as timestamptz) else least(g.until, cast(:until as timestamptz)) end
    where g.decided_at <= excluded.decided_at or g.decided_at > :written_at
    """
)

# What nobody decides about any more goes; not what a process with another leads.yaml just decided about. While a ruling
# lasts its row does.
_DROP = sa.text(
    """
    with gone as (
        select gate, tenant, lane from quality_gates g
        where (decided_at < :stale_before or decided_at > :written_at) and not exists (
            select from jsonb_to_recordset(cast(:kept as jsonb)) as k(gate text, tenant text, lane text)
            where k.gate = g.gate and k.tenant = g.tenant and k.lane = g.lane
        )
    ),
    opened as (
        update quality_gates g set closed = false, until = null, reason = null, changed_at = :now
        from gone where g.gate = gone.gate and g.tenant = gone.tenant and g.lane = gone.lane
            and g.closed and g.ruled_until > :now
    )
    delete from quality_gates g using gone
    where g.gate = gone.gate and g.tenant = gone.tenant and g.lane = gone.lane
        and (g.ruled_until is null or g.ruled_until <= :now)
    """
)

_RULE = sa.text(
    """
    insert into quality_gates as g
        (gate, tenant, lane, closed, changed_at, decided_at, ruling, ruled_by, ruled_for, ruled_until)
    values (:gate, :tenant, :lane, false, :now, to_timestamp(0), :ruling, :actor, :reason, :until)
    on conflict (tenant, lane, gate) do update set
        ruling = excluded.ruling, ruled_by = excluded.ruled_by, ruled_for = excluded.ruled_for,
        ruled_until = excluded.ruled_until
    """
)

_END_RULING = sa.text(
    """
    update quality_gates set ruled_until = :now
    where gate = :gate and tenant = :tenant and lane = :lane and ruled_until > :now
    """
)


def gate_rules(settings: Settings) -> GateRules:
    """What leads.yaml says of gates."""
    return GateRules(
        promised=tuple(
            key for key in promised_keys(settings) if settings.slos.promises[key.slo].action == "close_gate"
        ),
        closed_when_stale=settings.slos.when_stale == "closed",
        stale_after=timedelta(seconds=settings.slos.stale_seconds),
    )


def tenants_of(settings: Settings, *, together: bool, only: str | None) -> tuple[str, ...]:
    """For whom a promise is judged; an empty name: for all of them as one."""
    if together:
        return ("",)
    return (only,) if only is not None else tuple(settings.tenants)


def promised_keys(settings: Settings) -> list[Key]:
    """All that leads.yaml promises, and for whom."""
    return [
        Key(name, tenant, promise.lane)
        for name, promise in settings.slos.promises.items()
        for tenant in tenants_of(settings, together=promise.together, only=promise.tenant)
    ]


def read_gates(connection: sa.Connection) -> list[Gate]:
    """Every gate that somebody decided about, by name, tenant and lane."""
    return [
        Gate(
            Key(row.gate, row.tenant, row.lane),
            row.closed,
            row.reason,
            row.changed_at,
            row.decided_at,
            row.until,
            Ruling(row.ruling) if row.ruling else None,
            row.ruled_by,
            row.ruled_for,
            row.ruled_until,
        )
        for row in connection.execute(_READ)
    ]


def gates_now(connection: sa.Connection, rules: GateRules, *, now: datetime) -> Gates:
    """Which gates are closed now. One statement over a table with a row for each gate and tenant."""
    return judged_gates(read_gates(connection), rules, now=now)


def judged_gates(gates: Sequence[Gate], rules: GateRules, *, now: datetime) -> Gates:
    """Which of these gates are closed: by a ruling, else by a verdict, else because none was heard for too long."""
    promised = {key.slo for key in rules.promised}  # a gate that leads.yaml no longer has is open, whoever closed it
    closed = [gate.key for gate in gates if gate.closed_at(now) and gate.key.slo in promised]
    if rules.closed_when_stale:
        fresh = {gate.key for gate in gates if abs(now - gate.decided_at) <= rules.stale_after}
        closed += [key for key in rules.promised if key not in fresh]
    ruled = {gate.key: gate.ruling_at(now) for gate in gates}
    return Gates(
        closed=tuple(dict.fromkeys(closed)),
        shut=tuple(key for key, ruling in ruled.items() if ruling is Ruling.CLOSED),
        opened=tuple(key for key, ruling in ruled.items() if ruling is Ruling.OPEN),
    )


def decide(
    connection: sa.Connection,
    decisions: Iterable[Decision],
    *,
    kept: Collection[Key],
    stale_after: timedelta,
    now: datetime,
    written_at: datetime,
) -> None:
    """Write what verdicts decided: a closing holds for ``stale_after``.

    Gates that are not ``kept`` are opened and go, once nobody has decided about them for as long. ``now``: as of when
    it was decided; ``written_at``: the time by now. What was decided after that is not believed.
    """
    rows = [
        {"gate": item.key.slo, "tenant": item.key.tenant, "lane": item.key.lane, "decided": item.decided,
         "reason": item.reason}
        for item in decisions
    ]  # fmt: skip
    if rows:
        values = {"rows": json.dumps(rows), "until": now + stale_after, "now": now, "written_at": written_at}
        connection.execute(_DECIDE, values)
        for decided in (Decided.HOLD, Decided.HEARD):
            connection.execute(_STAY, {**values, "decided": decided})
    names = [{"gate": key.slo, "tenant": key.tenant, "lane": key.lane} for key in kept]
    connection.execute(
        _DROP,
        {"kept": json.dumps(names), "now": now, "stale_before": now - stale_after, "written_at": written_at},
    )
    gate_history.note_verdicts(connection, now=now, written_at=written_at)


def rule(
    connection: sa.Connection, key: Key, ruling: Ruling, *, actor: str, reason: str, until: datetime, now: datetime
) -> None:
    """Let an operator's word stand above the verdicts of a gate until ``until``. An earlier one is replaced."""
    connection.execute(
        _RULE,
        {
            "gate": key.slo,
            "tenant": key.tenant,
            "lane": key.lane,
            "ruling": ruling,
            "actor": actor,
            "reason": reason,
            "until": until,
            "now": now,
        },
    )
    gate_history.note_ruling(connection, key, ruling, actor=actor, reason=reason, until=until, now=now)


def end_ruling(connection: sa.Connection, key: Key, *, now: datetime) -> bool:
    """End an operator's ruling; says whether there was one."""
    values = {"gate": key.slo, "tenant": key.tenant, "lane": key.lane, "now": now}
    gate_history.note_end_of_ruling(connection, key, now=now)
    return connection.execute(_END_RULING, values).rowcount > 0


def _meets(gate: Key, tenant: str, lane: str) -> bool:
    return gate.tenant in ("", tenant) and gate.lane in ("", lane)


def _breadth(gate: Key) -> int:
    return 2 * (not gate.tenant) + (not gate.lane)
