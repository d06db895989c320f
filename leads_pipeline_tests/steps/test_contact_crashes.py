"""Decisions that are killed, and decisions at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.errors import IdentityRefused
from leads_pipeline.steps.contact_decisions import merge, split, unlink
from leads_pipeline.steps.contact_undo import undo
from leads_pipeline.storage import schema
from leads_pipeline.storage.contact_deciding import Decided, Ruling
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import rows_of

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}

TABLES = (
    schema.contacts, schema.deduped_leads, schema.match_records, schema.match_keys, schema.identity_sizes,
    schema.merge_log, schema.match_reviews, schema.identity_links, schema.identity_link_leads, schema.consent_events,
    schema.pending, schema.golden_contacts, schema.outbox,
)  # fmt: skip


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def everything(play: Play) -> list[object]:
    return [rows_of(play.engine, table) for table in TABLES]


Act = Callable[[sa.Engine, Ruling], Decided]


def acts(play: Play) -> dict[str, Act]:
    """One of each, on a contact of two persons with an older grant and a later withdrawal."""
    anna, bert = play.arrive(**ANNA, granted=True), play.arrive(**BERT, granted=True)
    merged = play.merge(anna, bert)
    assert merged.merge_id is not None
    merge_id: UUID = merged.merge_id
    again = play.arrive(**ANNA, granted=False)
    caro = play.arrive(full_name="Caroline Dubois", email="caro@lighthouse.com")
    return {
        "undo": lambda engine, ruling: undo(engine, merge_id, ruling),
        "split": lambda engine, ruling: split(engine, anna, [again], ruling),
        "unlink": lambda engine, ruling: unlink(engine, anna, again, ruling, scorer_of=play.scorer_of),
        "merge": lambda engine, ruling: merge(engine, anna, caro, ruling),
    }


@pytest.mark.parametrize("name", ["undo", "split", "unlink", "merge"])
def test_a_decision_that_is_killed_between_any_two_statements_was_never_taken(
    play: Play, database_url: str, name: str
) -> None:
    act = acts(play)[name]
    before = everything(play)
    dying = sa.create_engine(database_url, poolclass=sa.NullPool)
    countdown: list[int] = [0]

    @sa.event.listens_for(dying, "before_cursor_execute")
    def die(connection: sa.Connection, cursor: object, *_rest: object) -> None:
        """The server sees what it sees when this process is killed: a transaction without an end."""
        countdown[0] -= 1
        if countdown[0] == 0:
            with play.engine.connect() as other:
                pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
                other.execute(sa.text("select pg_terminate_backend(:pid, 60000)"), {"pid": pid})

    killed_at = 0
    while True:
        killed_at += 1
        countdown[0] = killed_at
        try:
            decided = act(dying, play.ruling())
        except sa.exc.OperationalError:
            assert everything(play) == before
        else:
            break
    dying.dispose()
    assert killed_at > 10
    assert decided.moved
    assert everything(play) != before
    play.refresh()
    assert {play.granted(contact) for contact in set(play.contact_of().values())} <= {False, None}


def test_two_persons_who_take_back_one_decision_at_once_do_it_once(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    before = play.identity()
    merge_id = play.merge(anna, bert).merge_id
    assert merge_id is not None
    together = threading.Barrier(4)
    done: list[Decided] = []
    refused: list[str] = []

    def take_back(person: str) -> None:
        together.wait(timeout=30)
        try:
            done.append(undo(play.engine, merge_id, Ruling(person, play.now)))
        except IdentityRefused as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take_back, args=(f"person {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(done), len(refused)) == (1, 3)
    assert all("taken back already" in words for words in refused)
    play.refresh()
    assert play.identity() == before


def test_decisions_and_arriving_leads_do_not_meet(play: Play) -> None:
    """Leads of the same persons come while persons merge and undo: the identity lock lets one act at a time."""
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    coming = [play.wait_at_the_door(**(ANNA if number % 2 else BERT)) for number in range(12)]
    started = threading.Barrier(2)

    def decide() -> None:
        started.wait(timeout=30)
        for _ in range(5):
            decided = merge(play.engine, anna, bert, Ruling("ada", play.now, force=True))
            assert decided.merge_id is not None
            undo(play.engine, decided.merge_id, Ruling("ada", play.now))

    def resolve() -> None:
        started.wait(timeout=30)
        play.run()

    with ThreadPoolExecutor(max_workers=2) as pool:
        for future in [pool.submit(decide), pool.submit(resolve)]:
            future.result(timeout=120)
    play.refresh()
    contact_of = play.contact_of()
    assert contact_of[anna] != contact_of[bert]
    assert {contact_of[lead] for lead in coming} == {contact_of[anna], contact_of[bert]}
    assert all(contact_of[lead] == contact_of[anna if number % 2 else bert] for number, lead in enumerate(coming))
