"""A tenant whose people are known already: records as identity resolution leaves them, one contact for each person."""

import random
from collections import Counter
from collections.abc import Iterable
from datetime import date
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId
from leads_pipeline.matching.evaluation import Labelled
from leads_pipeline.matching.pairs import terms_of
from leads_pipeline.matching.training import labelled
from leads_pipeline.storage.identity_writing import Appearance, add_to_statistics, write_appearances
from leads_pipeline.synthetic import generate_leads


def invented(count: int, *, seed: int = 7) -> list[Labelled]:
    """The usable ones of ``count`` invented leads."""
    posts = ((lead.payload, lead.truth) for lead in generate_leads(count, seed=seed))
    return labelled(posts, today=date(2026, 1, 1))


def make_known(engine: sa.Engine, people: Iterable[Labelled], *, tenant: str = "acme") -> dict[str, ContactId]:
    """Write them as records of the tenant. Each person's contact."""
    # The same ids each time, as who is held out follows from them.
    ids = random.Random(len(tenant))
    contact_of: dict[str, ContactId] = {}
    terms: dict[ContactId, set[tuple[str, str]]] = {}
    appearances = []
    for person in people:
        contact = contact_of.setdefault(person.truth, ContactId(_uuid(ids)))
        appearances.append(Appearance(_uuid(ids), contact, person.fields, []))
        terms.setdefault(contact, set()).update(terms_of(person.fields).items())
    counted = Counter(term for found in terms.values() for term in found)
    with engine.begin() as connection:
        write_appearances(connection, tenant, appearances)
        add_to_statistics(connection, tenant, counted, records=len(appearances), contacts=len(contact_of))
    return contact_of


def _uuid(ids: random.Random) -> UUID:
    return UUID(int=ids.getrandbits(128), version=4)
