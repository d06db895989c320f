"""What must hold whatever was broken: every acknowledged lead is stored exactly once, and nothing else is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from leads_pipeline.buffer.account import take_account
from leads_pipeline.buffer.opening import open_redis_buffer
from leads_pipeline.buffer.redis_entries import read_entry
from leads_pipeline.domain.stage import Lane
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
    # Redis first: the worker moves leads meanwhile, and one that is seen in both is one lead, under one id.
    ids: dict[int, bytes] = {}
    doubled: list[int] = []
    for number, waiting in _in_redis(target):
        if ids.setdefault(number, waiting) != waiting:
            doubled.append(number)
    with target.superuser() as connection, connection.cursor() as cursor, cursor.copy(_STORED) as copy:
        copy.set_types(["int8", "uuid"])
        in_postgresql: set[int] = set()
        for number, lead_id in copy.rows():
            if number in in_postgresql or ids.setdefault(number, lead_id.bytes) != lead_id.bytes:
                doubled.append(number)
            in_postgresql.add(number)
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
    found = take_account(target.engine, settings=target.settings)
    assert found.conserved, found
    assert sum(tenant.captured for tenant in found.tenants) == account.stored
    return account


def _in_redis(target: Target) -> Iterator[tuple[int, bytes]]:
    """The leads that wait in Redis, and those that a worker has in hand."""
    if target.redis is None:
        return
    buffer = open_redis_buffer(target.settings)
    assert buffer is not None
    with target.redis.client() as client:
        for lane in Lane:
            for entry_id, fields in client.xrange(buffer.keys.stream(TENANT, lane)):
                taken = read_entry(TENANT, lane, entry_id, fields)
                assert taken.entry is not None, "an entry cannot be read"
                yield msgspec.json.decode(taken.json)["payload"]["number"], taken.entry.lead_id.bytes
    buffer.close()
