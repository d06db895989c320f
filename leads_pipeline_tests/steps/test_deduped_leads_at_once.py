"""Many workers resolve many tenants' leads at once: every person becomes one contact of each tenant."""

import threading
from collections import defaultdict
from datetime import timedelta
from itertools import cycle, islice
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Stage
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.plain_scorer import PlainScorer
from leads_pipeline_tests.steps.rows import chunk, rows_of
from leads_pipeline_tests.steps.test_deduped_leads import arrive_all

WORKERS = 8
TENANTS = ("acme", "globex", "initech", "umbrella", "hooli")
PEOPLE = 25


def posts(person: int) -> list[dict[str, str]]:
    """One person in three appearances that are joined by address, by number and by name."""
    name = "".join("abcdefghijklmnopqrstuvwxyz"[int(digit) + 8] for digit in f"{person:04}")
    email, phone = f"{name}@firm{person}.com", f"+1415555{2000 + person}"
    return [
        {"email": email, "full_name": f"Ann {name}"},
        {"email": email, "phone": phone, "full_name": f"Ann {name}"},
        {"phone": phone, "full_name": f"Ann {name}", "company": "Firm"},
    ]


def test_eight_workers_found_one_contact_for_each_person_of_each_tenant(
    engine: sa.Engine, database_url: str, settings: Settings
) -> None:
    person_of: dict[UUID, tuple[str, int]] = {}
    for tenant in TENANTS:
        # The appearances of a person are far apart, so that they come to different workers.
        order = [(person, post) for at in range(3) for person in range(PEOPLE) for post in posts(person)[at : at + 1]]
        ids = arrive_all(engine, [post for _, post in order], tenant=tenant)
        person_of.update({lead: (tenant, person) for lead, (person, _) in zip(ids, order, strict=True)})
    together = threading.Barrier(WORKERS)
    faults: list[BaseException] = []

    def work(number: int) -> None:
        own = engine_for(database_url, pool_size=1)
        now = NOW + timedelta(minutes=1)
        tenants = list(islice(cycle(TENANTS), number, number + len(TENANTS)))
        try:
            together.wait(timeout=60)
            while sum(
                dedupe_leads(own, chunk(tenant=t, limit=6, now=now), settings=settings, scorer=PlainScorer()).taken
                for t in tenants
            ):
                pass
        except BaseException as fault:  # noqa: BLE001 - told by the test
            faults.append(fault)
        finally:
            own.dispose()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)

    assert faults == []
    assert rows_of(engine, schema.pending, stage=Stage.DEDUPED_LEADS) == []
    people: dict[UUID, set[tuple[str, int]]] = defaultdict(set)
    for row in rows_of(engine, schema.deduped_leads):
        people[row["contact_id"]].add(person_of[row["lead_id"]])
    assert sorted(person for found in people.values() for person in found) == sorted(set(person_of.values()))
    assert all(len(found) == 1 for found in people.values())
    living = [row for row in rows_of(engine, schema.contacts) if row["merged_into"] is None]
    assert {row["contact_id"] for row in living} == set(people)
    assert {row["tenant"]: row["contacts"] for row in rows_of(engine, schema.identity_sizes)} == dict.fromkeys(
        TENANTS, PEOPLE
    )
