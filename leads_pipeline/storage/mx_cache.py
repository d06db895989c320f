"""The table ``mx_cache``: what DNS said about domains, for all tenants, each until its own hour.

A domain is kept as a hash. How long a verdict holds is the caller's to say; the records' own time to live is not asked:
it is minutes for domains that have taken mail for years, and it would turn the cache into none.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing, subject_hash

# Deleted in one statement, so that a clean-up of millions holds no lock for long.
PRUNED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """A verdict and how long it holds."""

    verdict: LookupVerdict
    expires_at: datetime


_READ = sa.text(
    """
    select m.domain_hash, m.verdict, m.reasons, m.flags, m.mail_provider
    from jsonb_array_elements_text(cast(:hashes as jsonb)) as t(hash)
    join mx_cache m on m.domain_hash = cast(t.hash as bigint)
    where m.expires_at > :now
    """
)

# In the order of their hashes: two writers wait for each other and cannot deadlock. A failure says nothing about the
# domain, so it does not take the place of what another process has found out meanwhile.
_WRITE = sa.text(
    """
    insert into mx_cache (domain_hash, verdict, reasons, flags, mail_provider, checked_at, expires_at)
    select t.domain_hash, t.verdict, t.reasons, t.flags, t.mail_provider, :now, t.expires_at
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        domain_hash bigint, verdict text, reasons jsonb, flags jsonb, mail_provider text, expires_at timestamptz
    )
    order by t.domain_hash
    on conflict (domain_hash) do update set
        verdict = excluded.verdict, reasons = excluded.reasons, flags = excluded.flags,
        mail_provider = excluded.mail_provider, checked_at = excluded.checked_at, expires_at = excluded.expires_at
    where excluded.verdict <> 'unknown' or mx_cache.expires_at <= excluded.checked_at
    """
)

_PRUNE = sa.text(
    """
    delete from mx_cache where domain_hash in (
        select domain_hash from mx_cache where expires_at <= :now order by expires_at limit :limit
        for update skip locked
    )
    """
)


def domain_hash(name: str) -> int:
    """What a domain (its A-labels, lower case) is called here: the same for every tenant."""
    return subject_hash("", LookupKind.MX, name)


def read_mx_cache(connection: sa.Connection, names: Collection[str], *, now: datetime) -> dict[str, LookupVerdict]:
    """What is known of these domains and still holds at ``now``."""
    by_hash = {domain_hash(name): name for name in names}
    if not by_hash:
        return {}
    rows = connection.execute(_READ, {"hashes": _as_json([str(key) for key in by_hash]), "now": now})
    return {
        by_hash[row.domain_hash]: LookupVerdict(
            Standing(row.verdict),
            tuple(row.reasons),
            tuple(row.flags),
            {"mail_provider": row.mail_provider} if row.mail_provider else {},
        )
        for row in rows
    }


def write_mx_cache(connection: sa.Connection, found: Mapping[str, Remembered], *, now: datetime) -> None:
    """Remember what DNS said at ``now``, by domain."""
    rows = [
        {
            "domain_hash": domain_hash(name),
            "verdict": item.verdict.standing,
            "reasons": item.verdict.reasons,
            "flags": item.verdict.flags,
            "mail_provider": item.verdict.details.get("mail_provider"),
            "expires_at": item.expires_at.isoformat(),
        }
        for name, item in found.items()
    ]
    if rows:
        connection.execute(_WRITE, {"rows": _as_json(rows), "now": now})


def prune_mx_cache(connection: sa.Connection, *, now: datetime) -> int:
    """Forget what has expired, at most ``PRUNED_AT_ONCE`` domains. Returns how many."""
    return connection.execute(_PRUNE, {"now": now, "limit": PRUNED_AT_ONCE}).rowcount


def _as_json(content: object) -> str:
    return msgspec.json.encode(content).decode()
