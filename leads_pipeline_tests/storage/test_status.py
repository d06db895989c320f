"""What the one screen says of contacts at destinations."""

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.storage.status import Delivery, deliveries
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import delivered


def test_a_contact_that_was_archived_is_not_counted_as_delivered(engine: sa.Engine, settings: Settings) -> None:
    play = Play(engine, settings)
    anna = play.arrive(full_name="Anna Kowalczyk", email="anna@northwind.com")
    bert = play.arrive(full_name="Bertil Quist", email="b.quist@harbor.com")
    for contact in play.contact_of().values():
        delivered(engine, contact)
    gone = play.contact_of()[bert]
    play.merge(anna, bert)
    with engine.connect() as connection:
        assert deliveries(connection) == [
            Delivery("hubspot", "waiting", 1), Delivery("hubspot", "waiting, to archive", 1),
        ]  # fmt: skip
    delivered(engine, gone)
    with engine.connect() as connection:
        assert deliveries(connection) == [Delivery("hubspot", "archived", 1), Delivery("hubspot", "waiting", 1)]
