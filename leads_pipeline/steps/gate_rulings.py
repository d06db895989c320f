"""An operator's word about a quality gate, above any verdict: who, why and until when stand in its row."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.storage import quality_gates
from leads_pipeline.storage.quality_gates import Ruling
from leads_pipeline.storage.slos import Key
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Whoever needs it for longer looks again, or changes the promise.
LONGEST = timedelta(days=7)


def gate_key(settings: Settings, name: str, *, tenant: str | None, lane: str | None) -> Key:
    """The gate of a promise; of all tenants and lanes where none is named.

    Raises:
        NotFound: leads.yaml has no such promise, or no such tenant.
    """
    if name not in settings.slos.promises:
        raise NotFound(f"leads.yaml promises no {name!r}; promised: {', '.join(sorted(settings.slos.promises))}")
    if tenant is not None and tenant not in settings.tenants:
        raise NotFound(f"leads.yaml has no tenant {tenant!r}; defined: {', '.join(sorted(settings.tenants))}")
    return Key(name, tenant or "", lane or "")


def rule_gate(
    engine: sa.Engine, key: Key, ruling: Ruling, *, actor: str, reason: str, lasting: timedelta, now: datetime
) -> datetime:
    """Open or close a gate for a while, whatever its verdict says. Returns when that ends.

    Raises:
        LeadsError: it would last longer than ``LONGEST``.
    """
    if lasting > LONGEST:
        raise LeadsError(f"a ruling lasts for {LONGEST.days} days at most; rule again, or change the promise")
    until = now + lasting
    with engine.begin() as connection:
        quality_gates.rule(connection, key, ruling, actor=actor, reason=reason, until=until, now=now)
    log.warning("gate_ruled", gate=key.slo, tenant=key.tenant, lane=key.lane, ruling=str(ruling), actor=actor)
    return until


def end_ruling(engine: sa.Engine, key: Key, *, actor: str, now: datetime) -> None:
    """Let the verdicts decide about a gate again.

    Raises:
        NotFound: no ruling of this gate, tenant and lane is in force.
    """
    with engine.begin() as connection:
        ended = quality_gates.end_ruling(connection, key, now=now)
    if not ended:
        raise NotFound(f"no ruling of {key.slo} is in force there; `leads slo gate list` shows those that are")
    log.warning("gate_ruling_ended", gate=key.slo, tenant=key.tenant, lane=key.lane, actor=actor)
