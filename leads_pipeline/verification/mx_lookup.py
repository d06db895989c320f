"""Whether domains take mail: from the cache, else from DNS, and back into the cache.

No transaction is open while DNS is asked. What could not be answered within the budget is missing from the report: it
stays requested.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import MxSettings
from leads_pipeline.domain.verification import LookupVerdict
from leads_pipeline.errors import ConfigError
from leads_pipeline.storage.mx_cache import Remembered, read_mx_cache, write_mx_cache
from leads_pipeline.storage.mx_pace import reserve_questions
from leads_pipeline.telemetry import get_logger
from leads_pipeline.verification.mx import FAILED, NO_NAME, MxResolver, dns_name, holds_for

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MxReport:
    """What is known of each domain, by the name that the caller gave; how many names the cache knew, how many DNS."""

    verdicts: dict[str, LookupVerdict]
    from_cache: int
    asked: int


def look_up_mx(
    engine: sa.Engine, domains: Collection[str], *, settings: MxSettings, clock: Clock, budget_seconds: float
) -> MxReport:
    """Verdicts about domains (in any case, Unicode or A-labels).

    DNS gets ``budget_seconds``; with none of it, or where DNS is not enabled, only the cache answers. A failure of DNS
    is ``unknown`` for ``failure_seconds``; so is, each time with a line in the log, that nobody names a DNS server.
    ``from_cache`` and ``asked`` count the verdicts of each kind.
    """
    names = {domain: dns_name(domain) for domain in domains}
    wanted = dict.fromkeys(name for name in names.values() if name is not None)
    with engine.connect() as connection:
        known = read_mx_cache(connection, wanted, now=clock.now())
    missing = [name for name in wanted if name not in known]
    asked: dict[str, LookupVerdict] = {}
    if missing and settings.enabled and budget_seconds > 0:
        asked = _ask(engine, missing, settings=settings, budget_seconds=budget_seconds)
        now = clock.now()
        with engine.begin() as connection:
            write_mx_cache(connection, {name: remembered(asked[name], settings, now) for name in asked}, now=now)
    found = known | asked
    verdicts = {
        domain: NO_NAME if name is None else found[name]
        for domain, name in names.items()
        if name is None or name in found
    }
    return MxReport(verdicts, from_cache=len(known), asked=len(asked))


def remembered(verdict: LookupVerdict, settings: MxSettings, now: datetime) -> Remembered:
    """A verdict of ``now`` with the time for which it holds."""
    return Remembered(verdict, now + holds_for(verdict.standing, settings))


def _ask(
    engine: sa.Engine, names: Collection[str], *, settings: MxSettings, budget_seconds: float
) -> dict[str, LookupVerdict]:
    try:
        resolver = _resolver(engine, settings)
    except ConfigError as error:
        # Not raised: the leads of the same run must go on, and this machine may get its servers later.
        _log.error("mx_without_servers", problem=str(error))
        return dict.fromkeys(names, FAILED)
    return resolver.look_up(names, deadline_seconds=budget_seconds)


@lru_cache(maxsize=8)
def _resolver(engine: sa.Engine, settings: MxSettings) -> MxResolver:
    """This process's, which knows its servers' health, and shares their pace with the others of this database."""

    def reserve(server: str, seconds: float) -> float:
        return reserve_questions(engine, server, seconds=seconds)

    return MxResolver(settings, reserve=reserve)
