"""What must hold whatever was broken: every acknowledged lead is stored exactly once, and nothing else is wrong."""

from dataclasses import dataclass

from leads_pipeline.storage.conservation import conservation
from leads_pipeline_tests.chaos.senders import Ledger
from leads_pipeline_tests.chaos.target import TENANT, Target

_STORED = """
    copy (
        select (payload ->> 'number')::bigint, lead_id from leads.buffer
        union all
        select (payload ->> 'number')::bigint, lead_id from leads.raw_leads
    ) to stdout (format binary)
"""


@dataclass(frozen=True)
class Account:
    """How what the senders were told compares with what is stored. ``unasked``: stored, and its sender never heard."""

    acknowledged: int
    stored: int
    lost: tuple[int, ...]
    doubled: tuple[int, ...]
    renamed: tuple[int, ...]  # stored under another id than was acknowledged
    unasked: int


def account_of(target: Target, ledger: Ledger) -> Account:
    """Read everything that is stored and hold it against the ledger."""
    ids: dict[int, bytes] = {}
    doubled: list[int] = []
    with target.superuser() as connection, connection.cursor() as cursor, cursor.copy(_STORED) as copy:
        copy.set_types(["int8", "uuid"])
        for number, lead_id in copy.rows():
            if ids.setdefault(number, lead_id.bytes) != lead_id.bytes:
                doubled.append(number)
    told = ledger.acknowledged
    return Account(
        acknowledged=len(told),
        stored=len(ids) + len(doubled),
        lost=tuple(number for number in told if number not in ids),
        doubled=tuple(doubled),
        renamed=tuple(number for number, lead_id in told.items() if ids.get(number, lead_id) != lead_id),
        unasked=len(ids.keys() - told.keys()),
    )


def assert_nothing_is_lost(target: Target, ledger: Ledger) -> Account:
    """The invariant.

    Raises:
        AssertionError: it does not hold; the message names some of the leads.
    """
    account = account_of(target, ledger)
    assert not ledger.wrong, ledger.wrong[:5]
    assert not account.lost, f"{len(account.lost)} acknowledged leads are not stored, such as {account.lost[:5]}"
    assert not account.doubled, f"{len(account.doubled)} leads are stored twice, such as {account.doubled[:5]}"
    assert not account.renamed, f"{len(account.renamed)} leads have another id than was said: {account.renamed[:5]}"
    assert account.unasked <= ledger.posted - account.acknowledged, "a lead is stored that nobody posted"
    with target.engine.connect() as connection:
        (tenant,) = conservation(connection, destinations={TENANT: []})
    assert tenant.conserved, tenant
    assert tenant.captured == account.stored
    return account
