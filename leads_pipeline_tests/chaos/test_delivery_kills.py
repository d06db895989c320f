"""A hundred thousand contacts, delivered by processes that are killed between any two steps of a batch."""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline_tests.chaos.deliver_and_die import POINTS, SENT
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import BATCH, TOKEN
from leads_pipeline_tests.crm.watched_writes import Write, watch_writes

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

SCRIPT = Path(__file__).parent / "deliver_and_die.py"
CONTACTS = int(os.environ.get("LEADS_CHAOS_CONTACTS", "100000"))
SEED = 6

_CONTACTS = sa.text(
    """
    insert into golden_contacts (
        contact_id, tenant, version, email, email_key, first_name, last_name, attribution, consent, provenance,
        lead_count, first_source, last_source, first_seen_at, last_seen_at, batch_id, runner_id, updated_at
    )
    select cast(lpad(to_hex(n), 32, '0') as uuid), 'acme', 1, 'person' || n || '@example.com',
        'person' || n || '@example.com', 'version 1', 'Byron', '{}', '{}', '{}', 1, 'website', 'website',
        :now, :now, :batch, 'test', :now
    from generate_series(1, :count) as n
    """
)
_OUTBOX = sa.text(
    """
    insert into outbox (tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, due_at,
        updated_at)
    select tenant, contact_id, 'hubspot', 'upsert', 'waiting', 'real_time', 1, :now, :now, :now
    from golden_contacts order by contact_id
    """
)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    return watch_writes(monkeypatch)


@pytest.fixture
def sandbox(writes: list[Write]) -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as running:
        yield running


@pytest.mark.timeout(900)
def test_processes_that_are_killed_between_any_two_steps_deliver_everything_once(
    engine: sa.Engine, database_url: str, sandbox: SandboxServer, writes: list[Write]
) -> None:
    with engine.begin() as connection:
        connection.execute(_CONTACTS, {"count": CONTACTS, "now": NOW, "batch": BATCH})
        connection.execute(_OUTBOX, {"now": NOW})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze outbox, golden_contacts"))

    lived = subprocess.run(
        [sys.executable, str(SCRIPT), database_url, sandbox.base_url, str(SEED)],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip

    assert lived.returncode == 0, lived.stdout[-2000:] + lived.stderr[-2000:]
    deaths = [json.loads(line) for line in lived.stdout.splitlines()]
    assert {death["point"] for death in deaths} == POINTS.keys()
    assert len(deaths) >= CONTACTS / 100 / 20, "one of twenty batches at least was cut"
    for death in deaths:  # that is: each died where it was told to
        assert bool(death["held"]) == (death["point"] not in ("claimed, not committed", "settled"))

    with engine.connect() as connection:
        golden = connection.execute(sa.text("select contact_id, version, first_name from golden_contacts")).all()
        rows = connection.execute(
            sa.text("select contact_id, state, delivered_version, claimed_by, crm_record_id from outbox")
        ).all()
        acknowledged = Counter(
            str(contact_id)
            for contact_id in connection.execute(
                sa.text("select contact_id from sync_attempts where verdict = 'delivered' and attempt > 0")
            ).scalars()
        )
        letters = connection.execute(sa.text("select count(*) from dead_letters")).scalar_one()
    stored = {item["properties"]["lead_key"]: item for item in sandbox.contacts()}

    # The outbox, the CRM and the golden contacts say the same, and nothing is left over.
    assert letters == 0
    assert {(row.state, row.claimed_by) for row in rows} == {("delivered", None)}
    assert {str(row.contact_id): row.delivered_version for row in rows} == {
        str(row.contact_id): row.version for row in golden
    }
    assert {key: item["properties"]["firstname"] for key, item in stored.items()} == {
        str(row.contact_id): row.first_name for row in golden
    }
    assert {str(row.contact_id): row.crm_record_id for row in rows} == {key: item["id"] for key, item in stored.items()}
    assert sandbox.report()["duplicates"] == 0

    # Each contact was written once for each time that the outbox knows of, and once more only where a process died
    # between the CRM's answer and the outbox's commit; never an older version after a newer one.
    lost = Counter(key for death in deaths if death["point"] in SENT for key in death["held"])
    assert sandbox.writes_per_lead_key() == acknowledged + lost
    taken: dict[str, list[int]] = defaultdict(list)
    for write in writes:
        taken[write.key].append(int(write.properties["firstname"].removeprefix("version ")))
    assert all(versions == sorted(versions) for versions in taken.values())
    assert sum(len(set(versions)) > 1 for versions in taken.values()) > 0, "some changed on the way"
