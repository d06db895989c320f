"""A worker that is killed around a call to a provider: nothing is lost, nothing is paid twice, the books are closed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, VerificationSettings
from leads_pipeline.storage import schema
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.rows import rows_of
from leads_pipeline_tests.steps.verifying import (
    KEY,
    KEY_VARIABLE,
    TIERS,
    books_are_closed,
    look_up,
    look_up_until_done,
    provider,
    unsettled,
    verdicts,
    verification,
    waiting,
)

pytestmark = pytest.mark.chaos

SCRIPT = Path(__file__).parent / "verify_and_die.py"
LEASE = timedelta(seconds=2 * 5 + 60)
VALID = ("valid", ("mailbox_exists",))
LOST = ("unknown", ("answer_lost",))


@pytest.fixture
def sandbox() -> Iterator[ProviderSandbox]:
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY)) as running:
        yield running


@pytest.fixture
def settings(sandbox: ProviderSandbox, monkeypatch: pytest.MonkeyPatch) -> VerificationSettings:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return verification({"zb": provider(sandbox.base_url, cost_per_lookup=0.01)})


def killed(moment: str, sandbox: ProviderSandbox, database_url: str, state: Path) -> None:
    """A worker that dies at the moment."""
    document = {
        "providers": {"zb": provider(sandbox.base_url, cost_per_lookup=0.01)}, "mailbox": ["zb"], "tiers": TIERS,
    }  # fmt: skip
    config = state / "leads.yaml"
    config.write_text(f"{LEADS_YAML}\nverification: {json.dumps(document)}\n", encoding="utf-8")
    environment = {**os.environ, DATABASE_URL_VARIABLE: database_url}
    done = subprocess.run([sys.executable, str(SCRIPT), str(config), moment], env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "verdict", "billed"), [("recorded", LOST, 0), ("sent", LOST, 40), ("named", VALID, 40)]
)
def test_what_a_killed_worker_may_have_paid_is_not_paid_again(
    engine: sa.Engine, database_url: str, settings: VerificationSettings, sandbox: ProviderSandbox, tmp_state: Path,
    moment: str, verdict: tuple[str, tuple[str, ...]], billed: int,
) -> None:  # fmt: skip
    now = datetime.now(UTC)
    leads = waiting(engine, [f"p{n}+valid@a.example" for n in range(40)], at=now)
    killed(moment, sandbox, database_url, tmp_state)
    assert unsettled(engine) == 40
    # The same people come again meanwhile: their look-ups are on their way, as far as anybody knows.
    again = waiting(engine, [f"p{n}+valid@a.example" for n in range(5)], at=datetime.now(UTC))
    clock = FrozenClock(datetime.now(UTC))
    early = look_up(engine, settings, clock, seconds=10)
    if moment != "named":
        assert early.calls == 0

    clock.advance((LEASE + timedelta(seconds=5)).total_seconds())
    look_up_until_done(engine, settings, clock, hours=1)

    assert verdicts(engine) == dict.fromkeys([*leads, *again], verdict)
    report = sandbox.report()
    assert (report["billed"], report["billed_twice"]) == (billed, 0)
    books_are_closed(engine)
    if moment != "named":
        (call,) = rows_of(engine, schema.verification_calls)
        assert (call["outcome"], call["cost_micros"], call["lookups"]) == ("lost", 400_000, 40)
    for row in rows_of(engine, schema.pending, stage="deduped_leads"):
        assert row["due_at"] <= clock.now()
