"""Which golden contact holds an e-mail address, and which await it (docs/adr/0006-shared-addresses.md).

After every commit the oldest golden contact that wants an address has it as ``email_key``; the others have it as
``awaited_email_key``. Callers hold ``storage.identity.lock_identity``. What is read for a chunk depends on the chunk's
addresses, not on how many contacts share one.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.shared_addresses import Claim
from leads_pipeline.domain.stage import Chunk

# Whoever holds an address is older than all who await it: of them the first one is enough.
_CLAIMS = sa.text(
    """
    with mentioned as materialized (
        select value as key from jsonb_array_elements_text(cast(:keys as jsonb))
        union
        select coalesce(g.email_key, g.awaited_email_key) from golden_contacts g
        where g.tenant = :tenant and g.contact_id = any(cast(:ids as uuid[]))
    )
    select mentioned.key, claim.contact_id, claim.version, claim.holds
    from mentioned
    cross join lateral (
        (select h.contact_id, h.version, true as holds from golden_contacts h
         where h.tenant = :tenant and h.email_key = mentioned.key and h.contact_id <> all(cast(:ids as uuid[])))
        union all
        (select w.contact_id, w.version, false as holds from golden_contacts w
         where w.tenant = :tenant and w.awaited_email_key = mentioned.key
            and w.contact_id <> all(cast(:ids as uuid[]))
         order by w.contact_id limit 1)
    ) claim
    where mentioned.key is not null
    """
)

_RELEASE = sa.text(
    """
    update golden_contacts set email_key = null, awaited_email_key = email_key
    where tenant = :tenant and contact_id = any(cast(:ids as uuid[])) and email_key is not null
    """
)

_PASS_ON = sa.text(
    """
    update golden_contacts g set
        email_key = case when t.holds then t.key end,
        awaited_email_key = case when t.holds then null else t.key end,
        version = t.version, batch_id = :batch_id, runner_id = :runner_id, updated_at = :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, key text, holds boolean, version integer)
    where g.contact_id = t.contact_id and g.tenant = :tenant
    """
)


def read_claims(
    connection: sa.Connection, *, tenant: str, contact_ids: Collection[UUID], keys: Collection[str]
) -> list[Claim]:
    """Who else wants the addresses that these contacts want (``keys``) or wanted until now.

    Of each address at most two: who holds it, and the oldest that awaits it.
    """
    rows = connection.execute(
        _CLAIMS,
        {"tenant": tenant, "ids": "{" + ",".join(map(str, contact_ids)) + "}", "keys": json.dumps(sorted(keys))},
    )
    return [Claim(row.key, row.contact_id, row.version, row.holds) for row in rows]


def release(connection: sa.Connection, contact_ids: Sequence[UUID], *, tenant: str) -> None:
    """Let these contacts' addresses go, so that the unique index never sees one twice while they change hands."""
    if contact_ids:
        connection.execute(_RELEASE, {"tenant": tenant, "ids": "{" + ",".join(map(str, contact_ids)) + "}"})


def pass_on(connection: sa.Connection, claims: Mapping[Claim, int], chunk: Chunk) -> None:
    """Turn these claims round: who held the address awaits it, and the other way. The number is its new version."""
    if not claims:
        return
    rows = [
        {"contact_id": str(claim.contact_id), "key": claim.key, "holds": not claim.holds, "version": version}
        for claim, version in claims.items()
    ]
    connection.execute(
        _PASS_ON,
        {
            "rows": json.dumps(rows),
            "tenant": chunk.tenant,
            "batch_id": chunk.batch_id,
            "runner_id": chunk.runner_id,
            "now": chunk.now,
        },
    )
