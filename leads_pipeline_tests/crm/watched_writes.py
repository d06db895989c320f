"""Every write of the HubSpot sandbox in its order: what the CRM held of a contact, one value after the other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from leads_pipeline.crm.sandbox.hubspot.store import Contact, ContactStore


@dataclass(frozen=True)
class Write:
    """What a record held after it was written. ``key`` is ours, or nothing."""

    crm_record_id: str
    key: str
    properties: Mapping[str, str]


def watch_writes(patch: pytest.MonkeyPatch) -> list[Write]:
    """A list that grows with each write that is committed by a sandbox of this process."""
    committed: list[Write] = []
    written: list[Write] = []
    write, transaction = ContactStore._write, ContactStore.transaction

    def watched_write(store: ContactStore, *arguments: Any, **options: Any) -> Contact:
        contact = write(store, *arguments, **options)
        written.append(Write(contact.id, contact.properties.get("lead_key", ""), contact.properties))
        return contact

    @contextmanager
    def watched_transaction(store: ContactStore) -> Iterator[None]:
        written.clear()
        with transaction(store):
            yield
        committed.extend(written)
        written.clear()

    patch.setattr(ContactStore, "_write", watched_write)
    patch.setattr(ContactStore, "transaction", watched_transaction)
    return committed
