"""What is known, under way or paid for is not asked for once more, whoever comes between; nothing is left behind."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.storage import schema
from leads_pipeline.storage import verdicts as verdict_rows
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verification_switches import switch_down
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.port import Outcome, ProviderAnswer
from leads_pipeline.verification.providers.reading import Matching, is_about
from leads_pipeline.verification.sandbox.dns import running_dns_sandbox
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import rows_of
from leads_pipeline_tests.steps.verifying import (
    KEY,
    books_are_closed,
    due_times,
    look_up,
    provider,
    unsettled,
    verdicts,
    verification,
    waiting,
)

VALID = ("valid", ("mailbox_exists",))


def test_what_was_found_out_while_a_lead_was_validated_is_not_paid_again(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    """Its validation read the cache before the other's verdict was there, and committed after it."""
    (first,) = waiting(engine, ["valid@firm.example"])
    look_up(engine, usual, clock)
    (kept,) = rows_of(engine, schema.verdict_cache)
    clock.advance(10)
    (second,) = waiting(engine, ["valid@firm.example"], at=clock.now())

    report = look_up(engine, usual, clock)

    assert verdicts(engine) == {first: VALID, second: VALID}
    assert zerobounce.report()["looked_up"] == 1
    assert (report.calls, report.lookups, report.leads, report.released) == (0, 0, 1, 1)
    assert sorted(row["cost_micros"] for row in rows_of(engine, schema.verifications)) == [0, 10_000]
    assert rows_of(engine, schema.verdict_cache) == [kept]  # it does not hold any longer for that
    books_are_closed(engine)


def test_a_call_that_another_has_just_written_is_waited_for(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    """A claim has chosen a namesake before the other's call was in the books, and has taken both after it."""
    (first,) = waiting(engine, ["valid@firm.example"])
    other, call_id = uuid7(NOW), uuid7(NOW)
    with engine.begin() as connection:
        (mine,) = queue.claim_subjects(
            connection,
            LookupKind.MAILBOX,
            limits={0: 10},
            now=NOW,
            lease=timedelta(minutes=1),
            batch_id=other,
            runner_id="other",
        )
        values = {"call_id": call_id, "lease_until": NOW + timedelta(minutes=1)}
        queue.name_call(connection, [mine], **values, batch_id=other, runner_id="other")
        connection.execute(
            sa.insert(schema.verification_calls).values(
                call_id=call_id, provider="zb", kind="mailbox", lookups=1, cost_micros=10_000, sent_at=NOW,
                batch_id=other, runner_id="other",
            )
        )  # fmt: skip
        # What the choice saw: nobody's call yet.
        connection.execute(sa.update(schema.verification_requests).values(due_at=NOW))
    clock.advance(3)
    look_up(engine, usual, clock)
    assert verdicts(engine) == {}
    (request,) = rows_of(engine, schema.verification_requests)
    assert (request["lead_id"], request["call_id"]) == (first, call_id)
    assert request["due_at"] > clock.now()
    clock.advance(120)
    look_up(engine, usual, clock)
    assert verdicts(engine) == {first: ("unknown", ("answer_lost",))}
    assert zerobounce.report()["requests"] == 0


def test_an_answer_that_waits_to_be_fetched_is_not_let_go_with_its_tier(engine: sa.Engine, clock: FrozenClock) -> None:
    """It is paid for already."""
    with running_provider_sandbox(ProviderOptions("neverbounce", key=KEY, job_seconds=20), clock=clock) as jobs:
        settings = verification({"nb": provider(jobs.base_url, "neverbounce", cost_per_lookup=0.01)})
        (lead,) = waiting(engine, ["valid@a.example"])
        look_up(engine, settings, clock, seconds=1)
        assert unsettled(engine) == 1
        with engine.begin() as connection:
            switch_down(
                connection, "full", down_to="none", tiers=settings.tiers, actor="ops", reason="cost", until=None,
                now=NOW,
            )  # fmt: skip
        clock.advance(30)
        for _run in range(4):
            look_up(engine, settings, clock, seconds=5)
            clock.advance(20)
    assert verdicts(engine) == {lead: VALID}
    books_are_closed(engine)


def test_a_mailbox_does_not_wait_for_a_domain_that_nobody_looks_up_any_more(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock
) -> None:
    """DNS was taken out of leads.yaml."""
    (lead,) = waiting(engine, ["valid@a.example"], kinds=(LookupKind.MX, LookupKind.MAILBOX))
    look_up(engine, usual, clock)
    found = {row["kind"]: (row["verdict"], row["provider"]) for row in rows_of(engine, schema.verifications)}
    assert found == {"mx": ("unknown", "skipped"), "mailbox": ("valid", "zb")}
    assert due_times(engine) == {lead: NOW}
    assert unsettled(engine) == 0


def test_the_mailbox_of_a_lead_that_is_gone_does_not_wait_for_its_domain(engine: sa.Engine) -> None:
    (gone,) = waiting(engine, ["valid@a.example"], kinds=(LookupKind.MX, LookupKind.MAILBOX))
    waiting(engine, ["valid@b.example"], kinds=(LookupKind.MX, LookupKind.MAILBOX))
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.validated_leads).where(schema.validated_leads.c.lead_id == gone))
        claimed = queue.claim_subjects(
            connection,
            LookupKind.MX,
            limits={0: 10},
            now=NOW,
            lease=timedelta(minutes=1),
            batch_id=uuid7(NOW),
            runner_id="worker",
        )
    assert [subject.text for subject in claimed] == ["b.example"]
    assert unsettled(engine) == 2


def test_what_a_tier_asked_for_that_is_gone_from_the_configuration_is_asked_for_in_the_last(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock
) -> None:
    (lead,) = waiting(engine, ["valid@a.example"], tier="fourth", urgency=3)
    look_up(engine, usual, clock)
    assert verdicts(engine) == {lead: VALID}


def test_after_an_hour_without_dns_a_domain_is_looked_up_all_the_same(engine: sa.Engine, clock: FrozenClock) -> None:
    (lead,) = waiting(engine, ["valid@good.test"], kinds=(LookupKind.MX,))
    silent = {"enabled": True, "resolvers": ["127.0.0.1:9"], "timeout_seconds": 0.2}
    while clock.now() < NOW + timedelta(hours=1):
        look_up(engine, verification({}, mx=silent), clock, seconds=5)
        clock.advance(60)
    assert verdicts(engine) == {}
    with running_dns_sandbox({}) as dns:
        well = {"enabled": True, "resolvers": [dns.address], "timeout_seconds": 30}
        clock.advance(900)
        look_up(engine, verification({}, mx=well), clock, seconds=10)
    assert verdicts(engine)[lead][0] == "valid"


def test_whom_an_answer_leaves_out_may_have_been_paid_for(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(_client: ProviderClient, subjects: Sequence[str]) -> ProviderAnswer:
        asked.extend(subjects)
        verdict = LookupVerdict(Standing.VALID, ("mailbox_exists",))
        return ProviderAnswer(Outcome.ANSWERED, {"valid@a.example": verdict}, billed=1)

    monkeypatch.setattr(ProviderClient, "ask", ask)
    named, left_out = waiting(engine, ["valid@a.example", "valid@b.example"])
    for _run in range(3):
        look_up(engine, usual, clock)
        clock.advance(1000)
    assert sorted(asked) == ["valid@a.example", "valid@b.example"]
    assert verdicts(engine) == {named: VALID, left_out: ("unknown", ("provider_failed",))}
    (spend,) = rows_of(engine, schema.verification_spend)
    assert spend["cost_micros"] == 20_000
    books_are_closed(engine)


@pytest.mark.parametrize("echo", ["x@xn--mnchen-3ya.example", " X@M\u00dcNCHEN.example"])
def test_a_vendor_may_spell_a_domain_in_its_own_way(echo: str) -> None:
    found = Matching(["x@m\u00fcnchen.example", "x@munchen.example"])
    found.add(echo, LookupVerdict(Standing.VALID), billed=True)
    assert list(found.verdicts) == ["x@m\u00fcnchen.example"]
    assert is_about(echo, "x@m\u00fcnchen.example")
    assert not is_about(echo, "x@munchen.example")


def test_where_every_server_is_silent_a_mailbox_does_not_wait_for_its_domain(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    """However many there are: each has its time-out."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _server in range(6)]
        for silent in sockets:
            silent.bind(("127.0.0.1", 0))
        resolvers = [f"127.0.0.1:{silent.getsockname()[1]}" for silent in sockets]
        mx = {"enabled": True, "resolvers": resolvers, "timeout_seconds": 0.1}
        settings = verification({"zb": provider(zerobounce.base_url)}, mx=mx)
        waiting(engine, ["valid@firm.example"], kinds=(LookupKind.MX, LookupKind.MAILBOX))
        look_up(engine, settings, clock, seconds=30)
    assert zerobounce.report()["looked_up"] == 1
    (again,) = rows_of(engine, schema.verification_requests)
    assert (again["kind"], again["last_reason"]) == ("mx", "dns_failure")


def test_an_answer_is_not_lost_to_a_deadlock(
    engine: sa.Engine,
    usual: VerificationSettings,
    clock: FrozenClock,
    zerobounce: ProviderSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle, deadlocks = verdict_rows.settle, [psycopg.errors.DeadlockDetected(), psycopg.errors.DeadlockDetected()]

    def deadlocked(*arguments: Any, **options: Any) -> verdict_rows.Settled:
        if deadlocks:
            raise sa.exc.OperationalError("settle", {}, deadlocks.pop())
        return settle(*arguments, **options)

    (lead,) = waiting(engine, ["valid@firm.example"])
    monkeypatch.setattr(verdict_rows, "settle", deadlocked)
    look_up(engine, usual, clock)
    assert verdicts(engine) == {lead: VALID}
    assert zerobounce.report()["looked_up"] == 1
    books_are_closed(engine)
