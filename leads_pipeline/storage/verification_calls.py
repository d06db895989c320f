"""The books of paid look-ups: each call before it is sent, what it cost, and what of the budgets is left.

Money is counted in micros, millionths of the account's currency. A call reserves its whole price before it is sent; its
answer settles what was billed. A call without an answer keeps its reservation: it may have been paid.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from leads_pipeline.config import BudgetSettings, ProviderSettings

MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Spend:
    """What a provider has cost: today and this month, in its account's time zone."""

    calls_today: int
    lookups_today: int
    micros_today: int
    micros_month: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is about to be sent, or one of the books. ``poll_reference``: its answer is still being made."""

    call_id: UUID
    provider: str
    kind: str
    lookups: int
    cost_micros: int
    sent_at: datetime
    poll_reference: str | None = None
    answered: bool = False


_LOCK_DAY = sa.text(
    """
    insert into verification_spend (provider, day, calls, lookups, cost_micros) values (:provider, :day, 0, 0, 0)
    on conflict (provider, day) do update set calls = verification_spend.calls
    returning calls, lookups, cost_micros
    """
)
_MONTH = sa.text(
    """
    select coalesce(sum(cost_micros), 0)::bigint as micros from verification_spend
    where provider = :provider and day >= :first and day < :day
    """
)
_RESERVE = sa.text(
    """
    update verification_spend set calls = calls + 1, lookups = lookups + :lookups, cost_micros = cost_micros + :micros
    where provider = :provider and day = :day
    """
)
_CORRECT = sa.text(
    """
    update verification_spend
    set cost_micros = greatest(cost_micros + :micros, 0), lookups = greatest(lookups + :lookups, 0)
    where provider = :provider and day = :day
    """
)
_WRITE = sa.text(
    """
    insert into verification_calls (call_id, provider, kind, lookups, cost_micros, sent_at, batch_id, runner_id)
    values (:call_id, :provider, :kind, :lookups, :cost_micros, :sent_at, :batch_id, :runner_id)
    """
)
_ANSWER = sa.text(
    """
    update verification_calls
    set answered_at = :now, outcome = :outcome, http_status = :http_status, cost_micros = :cost_micros
    where call_id = :call_id and answered_at is null
    """
)
_POLL = sa.text(
    "update verification_calls set poll_reference = :reference, http_status = :http_status where call_id = :call_id"
)
_IN_FLIGHT = sa.text(
    """
    select count(*) from verification_calls
    where provider = :provider and answered_at is null and poll_reference is null and sent_at > :since
    """
)
_CALL = "call_id, provider, kind, lookups, cost_micros, sent_at, poll_reference, answered_at is not null as answered"
_READ = sa.text(f"select {_CALL} from verification_calls where call_id = any(:ids)")  # noqa: S608 - names of columns
_ANSWERS_DUE = sa.text(
    f"""
    select {_CALL} from verification_calls c
    where answered_at is null and poll_reference is not null and kind = :kind
        and exists (select from verification_requests r where r.call_id = c.call_id and r.due_at <= :now)
    order by sent_at
    """  # noqa: S608 - names of columns
)
_LOSE = sa.text(
    "update verification_calls set answered_at = :now, outcome = 'lost' "
    "where call_id = :call_id and answered_at is null"
)

_PRUNE = sa.text(
    """
    delete from verification_calls
    where provider in (select distinct provider from verification_spend) and sent_at < :before
    """
)


def micros(amount: float) -> int:
    """An amount of leads.yaml in micros."""
    return round(amount * MICROS)


def day_of(now: datetime, budget: BudgetSettings) -> date:
    """The day of the provider's account."""
    return now.astimezone(ZoneInfo(budget.time_zone)).date()


def spend_of(connection: sa.Connection, provider: str, settings: ProviderSettings, *, now: datetime) -> Spend:
    """What the provider has cost by now. Takes no lock."""
    day = day_of(now, settings.budget)
    row = connection.execute(
        sa.text("select calls, lookups, cost_micros from verification_spend where provider = :provider and day = :day"),
        {"provider": provider, "day": day},
    ).one_or_none()
    before: int = connection.execute(
        _MONTH, {"provider": provider, "first": day.replace(day=1), "day": day}
    ).scalar_one()
    calls, lookups, today = (row.calls, row.lookups, row.cost_micros) if row else (0, 0, 0)
    return Spend(calls, lookups, today, before + today)


def affordable(spend: Spend, settings: ProviderSettings, *, kept_back: float) -> int | None:
    """How many more look-ups the budgets pay for if the share ``kept_back`` stays in them; ``None``: any number."""
    price = micros(settings.cost_per_lookup)
    lefts = [
        round(micros(limit) * (1 - kept_back)) - spent
        for limit, spent in (
            (settings.budget.per_day, spend.micros_today),
            (settings.budget.per_month, spend.micros_month),
        )
        if limit is not None
    ]
    if not lefts or price == 0:
        return None
    return max(0, min(lefts) // price)


def reserve(
    connection: sa.Connection,
    call: Call,
    settings: ProviderSettings,
    *,
    kept_back: float,
    batch_id: UUID,
    runner_id: str,
    now: datetime,
) -> bool:
    """Write a call down and take its price from the budget; ``False``, and nothing written, if it does not pay for it.

    The day's row is locked until the commit, so that two workers cannot spend the same money.
    """
    day = day_of(now, settings.budget)
    row = connection.execute(_LOCK_DAY, {"provider": call.provider, "day": day}).one()
    before: int = connection.execute(
        _MONTH, {"provider": call.provider, "first": day.replace(day=1), "day": day}
    ).scalar_one()
    spend = Spend(row.calls, row.lookups, row.cost_micros, before + row.cost_micros)
    left = affordable(spend, settings, kept_back=kept_back)
    if left is not None and left < call.lookups:
        return False
    values = {"provider": call.provider, "day": day}
    connection.execute(_RESERVE, {**values, "lookups": call.lookups, "micros": call.cost_micros})
    connection.execute(
        _WRITE,
        {
            "call_id": call.call_id,
            "provider": call.provider,
            "kind": call.kind,
            "lookups": call.lookups,
            "cost_micros": call.cost_micros,
            "sent_at": call.sent_at,
            "batch_id": batch_id,
            "runner_id": runner_id,
        },
    )
    return True


def write_answer(
    connection: sa.Connection,
    call: Call,
    settings: ProviderSettings,
    *,
    outcome: str,
    http_status: int | None,
    billed: int,
    now: datetime,
) -> None:
    """Close the books on a call: what was not billed goes back to the budget of the day on which it was reserved."""
    cost = billed * micros(settings.cost_per_lookup)
    closed = connection.execute(
        _ANSWER,
        {
            "call_id": call.call_id,
            "now": now,
            "outcome": outcome,
            "http_status": http_status,
            "cost_micros": cost,
        },
    )
    if closed.rowcount:
        connection.execute(
            _CORRECT,
            {
                "provider": call.provider,
                "day": day_of(call.sent_at, settings.budget),
                "micros": cost - call.cost_micros,
                "lookups": billed - call.lookups,
            },
        )


def write_poll(connection: sa.Connection, call_id: UUID, *, reference: str, http_status: int | None) -> None:
    """Note where the answer can be fetched: nothing more is paid for it."""
    connection.execute(_POLL, {"call_id": call_id, "reference": reference, "http_status": http_status})


def write_lost(connection: sa.Connection, call_id: UUID, *, now: datetime) -> None:
    """Close the books on a call of which nobody knows what became: what it reserved counts as paid."""
    connection.execute(_LOSE, {"call_id": call_id, "now": now})


def answers_due(connection: sa.Connection, kind: str, *, now: datetime) -> list[Call]:
    """Calls whose answers were still being made and may be asked for now, the oldest first."""
    rows = connection.execute(_ANSWERS_DUE, {"kind": kind, "now": now}).mappings()
    return [Call(**row) for row in rows]


def in_flight(connection: sa.Connection, provider: str, *, since: datetime) -> int:
    """Calls of all processes that were sent after ``since`` and have no answer yet."""
    return int(connection.execute(_IN_FLIGHT, {"provider": provider, "since": since}).scalar_one())


def read_calls(connection: sa.Connection, call_ids: Collection[UUID]) -> dict[UUID, Call]:
    """These calls as the books have them."""
    rows = connection.execute(_READ, {"ids": list(call_ids)}).mappings()
    return {row["call_id"]: Call(**row) for row in rows}


def prune_calls(connection: sa.Connection, *, sent_before: datetime) -> int:
    """Forget calls that were sent before an instant, as far as the ledger knows their provider; says how many.

    What they cost stays in ``verification_spend``.
    """
    return connection.execute(_PRUNE, {"before": sent_before}).rowcount
