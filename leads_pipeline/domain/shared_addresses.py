"""Who of the contacts that want one e-mail address holds it.

A CRM keeps an address in one record only, so one contact is delivered with it: the oldest, whose id is the smallest.
The others await it. That is a function of who wants the address, so neither order nor chunks make a difference. Keep
out: which address a contact wants (``domain.survivorship``), and SQL.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A contact that wants an address, beside those whose claims are being decided. ``holds`` is how it stands now."""

    key: str
    contact_id: UUID
    version: int
    holds: bool


def holders(wanted: Mapping[UUID, str | None], claims: Iterable[Claim]) -> dict[str, UUID]:
    """The contact that is to hold each address, by its key.

    ``wanted``: contact → the key that it wants. ``claims`` of others need name, per key, only the oldest of them.
    """
    found: dict[str, UUID] = {}
    for contact_id, key in wanted.items():
        if key is not None:
            found[key] = min(contact_id, found.get(key, contact_id))
    for claim in claims:
        found[claim.key] = min(claim.contact_id, found.get(claim.key, claim.contact_id))
    return found


def passed_on(claims: Iterable[Claim], holder_of: Mapping[str, UUID]) -> list[Claim]:
    """The claims whose standing changes: who gets the address and did not hold it, or loses it."""
    return [claim for claim in claims if claim.holds != (holder_of[claim.key] == claim.contact_id)]
