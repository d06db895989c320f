"""Who is who: the tables that identity resolution reads and writes, under one lock per tenant."""

import sqlalchemy as sa

# Half of the key names the lock's purpose, so that it cannot meet another use of advisory locks; the rest, the tenant.
_LOCK_PURPOSE = 0x1EAD

_LOCK = sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), hashtext(:tenant))")


def lock_identity(connection: sa.Connection, tenant: str) -> None:
    """Hold the tenant's identities until the transaction ends; waits for whoever holds them.

    Two chunks of one tenant that resolved at once would each found a contact for the same person.
    """
    connection.execute(_LOCK, {"purpose": _LOCK_PURPOSE, "tenant": tenant})
