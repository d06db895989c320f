"""What an operator does with the suppression list: list somebody, take that back, have the gate judge again.

Listing somebody changes no contact: the gate at the last moment before a delivery sees it, and what a CRM has already
stays there (``leads suppressions`` is no erasure). Safe to repeat.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.sending_gate import Subject, SuppressionKind, Unsendable, subject
from leads_pipeline.errors import ConfigError, NotFound
from leads_pipeline.storage import suppressions
from leads_pipeline.telemetry import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """Entries that were ended, and how many contacts the gate will judge again for it."""

    suppression_ids: tuple[int, ...]
    waiting_again: int


_SUCH_AS = {
    SuppressionKind.EMAIL: "write it as name@example.com",
    SuppressionKind.PHONE: "write it with its country, such as +1 …",
    SuppressionKind.DOMAIN: "write it as example.com; a domain under which anybody can have one cannot be listed",
    SuppressionKind.CONTACT: "write the contact's id, as `leads contact show` has it",
}


def named(settings: Settings, *, tenant: str, kind: SuppressionKind, value: str) -> Subject:
    """What is listed by ``value``, in its normal form.

    Raises:
        ConfigError: the tenant is not in leads.yaml, or the value is none of its kind.
    """
    if tenant not in settings.tenants:
        raise ConfigError(f"tenant {tenant!r} is not in leads.yaml; it has {', '.join(sorted(settings.tenants))}")
    found = subject(tenant, kind, value, country=settings.tenants[tenant].country)
    if found is None:
        raise ConfigError(f"the value is no {kind}: {_SUCH_AS[kind]}")
    return found


def suppress(
    engine: sa.Engine,
    who: Subject,
    *,
    settings: Settings,
    tenant: str,
    destination: str | None,
    actor: str,
    reason: str | None,
    clock: Clock,
) -> int | None:
    """Send ``who`` to no destination of the tenant's, or not to this one; the entry's id, ``None`` if it stood already.

    Raises:
        ConfigError: the destination is not the tenant's.
    """
    if destination is not None and destination not in settings.tenants[tenant].destinations:
        raise ConfigError(f"{destination!r} is no destination of {tenant}; see tenants.{tenant}.destinations")
    with engine.begin() as connection:
        found = suppressions.add_suppression(
            connection, who, tenant=tenant, destination=destination, actor=actor, reason=reason, now=clock.now()
        )
    if found is not None:
        _log.info("suppression_added", suppression_id=found, tenant=tenant, kind=who.kind, destination=destination)
    return found


def end(engine: sa.Engine, suppression_ids: Iterable[int], *, actor: str, clock: Clock) -> Ended:
    """End entries; contacts that were held back by the list are judged again.

    Raises:
        NotFound: one of them is not there, or has ended.
    """
    asked = sorted(set(suppression_ids))
    now = clock.now()
    with engine.begin() as connection:
        ended = suppressions.end_suppressions(connection, asked, actor=actor, now=now)
        unknown = sorted(set(asked) - {suppression_id for suppression_id, _tenant, _destination in ended})
        if unknown:
            raise NotFound(
                f"not in force: {', '.join(map(str, unknown))}; nothing was ended. "
                "`leads suppressions list` shows what is"
            )
        again = sum(
            suppressions.judge_again(
                connection, tenant=tenant, destination=destination, reasons=[Unsendable.LISTED], now=now
            )
            for tenant, destination in sorted(
                {(tenant, destination) for _id, tenant, destination in ended}, key=lambda item: (item[0], item[1] or "")
            )
        )
    _log.info("suppressions_ended", suppression_ids=asked, waiting_again=again)
    return Ended(tuple(asked), again)


def judge_again(engine: sa.Engine, *, tenant: str, destination: str | None, clock: Clock) -> int:
    """Have the gate judge every contact anew that it held back, as after ``gate.require`` was changed; how many."""
    with engine.begin() as connection:
        return suppressions.judge_again(connection, tenant=tenant, destination=destination, now=clock.now())
