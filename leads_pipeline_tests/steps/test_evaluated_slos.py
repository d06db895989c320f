"""Promises are judged from rows: by what came, by what should have come, each by itself; and verdicts have an end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.burn_rate import SloVerdict
from leads_pipeline.domain.latency import Station
from leads_pipeline.domain.severity import Severity
from leads_pipeline.steps.evaluated_slos import EvaluationReport, evaluate_slos
from leads_pipeline.storage.latency import Took, fold, measure_latency
from leads_pipeline.storage.quality_gates import Ruling, end_ruling, gate_rules, gates_now, rule
from leads_pipeline.storage.slos import Key, Standing, read_verdicts, thin_history
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow

Evaluate = Callable[..., EvaluationReport]


def settings_with(slos: str = "") -> Settings:
    return parse_settings(LEADS_YAML + slos, path=Path("leads.yaml"))


@pytest.fixture
def evaluate(engine: sa.Engine, clock: FrozenClock) -> Evaluate:
    def run(slos: str = "", **options: bool) -> EvaluationReport:
        return evaluate_slos(engine, settings=settings_with(slos), clock=clock, runner_id="test", **options)

    return run


def verdicts(engine: sa.Engine) -> dict[tuple[str, str], Standing]:
    with engine.connect() as connection:
        return {(item.key.slo, item.key.tenant): item for item in read_verdicts(connection)}


def came(
    engine: sa.Engine, clock: FrozenClock, seconds: float, leads: int = 1, *, station: Station = Station.DELIVERED,
    tenant: str = "acme", lane: str = "real_time",
) -> None:  # fmt: skip
    with engine.begin() as connection:
        took = Took(tenant, station, [(lane, seconds)] * leads, "hubspot" if station is Station.DELIVERED else "")
        measure_latency(connection, took, now=clock.now())


def wait_in_buffer(engine: sa.Engine, clock: FrozenClock, leads: int, **values: object) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        for _ in range(leads):
            flow.buffered(**values)


def test_after_an_upgrade_there_is_nothing_to_judge(engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate) -> None:
    wait_in_buffer(engine, clock, 50)
    clock.advance(86_400)

    report = evaluate()

    found = verdicts(engine)
    assert report.breached == ()
    assert found["real_time_in_crm", "acme"].verdict is SloVerdict.NO_DATA
    assert found["conservation", "acme"].verdict is SloVerdict.KEPT


def test_leads_of_before_the_upgrade_are_no_breach_when_they_come_at_last(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    clock.advance(60)
    came(engine, clock, 86_400, 100)  # captured a day before anything was measured
    came(engine, clock, 5, 30)
    fold(engine, now=clock.now())

    evaluate()

    standing = verdicts(engine)["real_time_in_crm", "acme"]
    assert (standing.verdict, standing.good, standing.bad) == (SloVerdict.KEPT, 30, 0)


def test_leads_in_time_keep_the_promise_and_late_ones_burn_its_budget(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    clock.advance(3_600)
    came(engine, clock, 10, 95)
    evaluate()
    assert verdicts(engine)["real_time_in_crm", "acme"].verdict is SloVerdict.KEPT

    clock.advance(30)
    came(engine, clock, 100, 50)
    evaluate()

    standing = verdicts(engine)["real_time_in_crm", "acme"]
    assert (standing.verdict, standing.severity) == (SloVerdict.BROKEN, Severity.PAGE)
    assert (standing.good, standing.bad) == (95, 50)
    assert standing.burn_rate == pytest.approx(50 / 145 / 0.01, rel=0.01)


def test_a_pipeline_that_stands_still_breaks_its_promises_although_nothing_is_delivered(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    clock.advance(60)
    wait_in_buffer(engine, clock, 10)
    clock.advance(59)
    evaluate()
    assert verdicts(engine)["real_time_in_crm", "acme"].verdict is SloVerdict.NO_DATA

    clock.advance(10)
    report = evaluate()

    standing = verdicts(engine)["real_time_in_crm", "acme"]
    assert (standing.verdict, standing.severity, standing.bad) == (SloVerdict.BROKEN, Severity.PAGE, 10)
    assert verdicts(engine)["real_time_in_crm", "globex"].verdict is SloVerdict.NO_DATA
    assert {finding.key.slo for finding in report.breached} == {"real_time_in_crm"}


@pytest.mark.parametrize("place", ["buffered", "at_fetch", "at_validation", "at_dedupe", "at_golden", "golden"])
def test_a_lead_counts_as_late_wherever_it_waits(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate, place: str
) -> None:
    evaluate()
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        for _ in range(3):
            getattr(flow, place)()
    clock.advance(61)

    evaluate()

    assert verdicts(engine)["real_time_in_crm", "acme"].bad == 3


def test_a_lead_that_waits_for_its_look_ups_is_not_verified_in_time(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        for due_in in (3_600, 3_600, 3_600, 10):  # the last one's look-ups are over soon: it waits for something else
            lead = flow.validated()
            flow.waits("deduped_leads", lead, due_at=clock.now() + timedelta(seconds=due_in))
    clock.advance(301)

    evaluate()

    assert verdicts(engine)["verified_in_time", "acme"].bad == 3


def test_a_contact_that_was_given_up_came_too_late(engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate) -> None:
    evaluate()
    with engine.begin() as connection:
        for _ in range(3):
            Flow(connection, clock.now()).dead()

    evaluate()

    assert verdicts(engine)["real_time_in_crm", "acme"].bad == 3


def test_a_promise_that_is_kept_again_says_so_once_the_budget_has_room(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    wait_in_buffer(engine, clock, 5)
    clock.advance(120)
    evaluate()
    assert verdicts(engine)["real_time_in_crm", "acme"].verdict is SloVerdict.BROKEN
    with engine.begin() as connection:
        connection.execute(sa.text("delete from buffer"))

    clock.advance(30)
    came(engine, clock, 120, 5)
    came(engine, clock, 5, 100)
    evaluate()
    assert verdicts(engine)["real_time_in_crm", "acme"].verdict is SloVerdict.BROKEN, "5 of 105 were late"

    clock.advance(6 * 3_600)
    came(engine, clock, 5, 1_000)
    evaluate()
    standing = verdicts(engine)["real_time_in_crm", "acme"]
    assert (standing.verdict, standing.since) == (SloVerdict.KEPT, clock.now())


def test_rejected_leads_burn_a_budget_that_leads_yaml_gives(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        for _ in range(20):
            flow.rejected()
        for _ in range(10):
            flow.validated()

    evaluate()

    standing = verdicts(engine)["rejection_rate", "acme"]
    assert (standing.verdict, standing.severity) == (SloVerdict.BROKEN, Severity.TICKET)
    assert standing.value == pytest.approx(1 / 3)


def test_bounces_are_judged_where_senders_of_mail_tell_and_a_few_prove_nothing(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        leads = [flow.deduped() for _ in range(60)]
    evaluate()
    assert verdicts(engine)["bounce_rate", "acme"].verdict is SloVerdict.NO_DATA

    def bounced(lead: UUID) -> None:
        with engine.begin() as connection:
            Flow(connection, clock.now()).insert("outcomes", kind="hard_bounce", lead_id=lead, contact_id=None)

    bounced(leads[0])
    bounced(leads[1])
    evaluate()
    few = verdicts(engine)["bounce_rate", "acme"]
    assert (few.verdict, few.good, few.bad) == (SloVerdict.KEPT, 58, 2)

    for lead in leads[2:6]:
        bounced(lead)
    evaluate()
    many = verdicts(engine)["bounce_rate", "acme"]
    assert (many.verdict, many.severity, many.value) == (SloVerdict.BROKEN, Severity.TICKET, 0.9)
    assert verdicts(engine)["bounce_rate", "globex"].verdict is SloVerdict.NO_DATA


def test_a_lead_that_is_lost_breaks_the_promise_that_has_no_budget(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        for _ in range(200):
            flow.buffered()
        connection.execute(sa.text("delete from buffer where ctid = (select min(ctid) from buffer)"))

    evaluate()

    standing = verdicts(engine)["conservation", "acme"]
    assert (standing.verdict, standing.severity, standing.value) == (SloVerdict.BROKEN, Severity.PAGE, 1)


def test_what_reads_whole_tables_is_left_for_the_schedule(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    clock.advance(30)

    report = evaluate(slow=False)

    assert {finding.key.slo for finding in report.findings} == {
        "verified_in_time", "real_time_in_crm", "delivered_in_a_day", "duplicate_contacts",
    }  # fmt: skip
    assert verdicts(engine)["conservation", "acme"].evaluated_at == clock.now() - timedelta(seconds=30)


def test_a_lead_of_today_that_is_lost_is_found_at_once_and_who_reads_all_says_when_it_is_over(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, clock.now())
        for _ in range(20):
            flow.buffered()
        connection.execute(sa.text("delete from buffer where ctid = (select min(ctid) from buffer)"))

    evaluate(slow=False)
    standing = verdicts(engine)["conservation", "acme"]
    assert (standing.verdict, standing.severity, standing.value) == (SloVerdict.BROKEN, Severity.PAGE, 1)

    with engine.begin() as connection:
        Flow(connection, clock.now()).insert("buffer", lane="real_time", payload={}, consent=[])
    clock.advance(30)
    evaluate(slow=False)
    assert verdicts(engine)["conservation", "acme"] == standing
    evaluate()
    assert verdicts(engine)["conservation", "acme"].verdict is SloVerdict.KEPT


def test_a_lead_lost_on_one_day_is_not_made_up_for_by_one_too_many_on_another(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.begin() as connection:
        Flow(connection, clock.now()).captured()
        yesterday = Flow(connection, clock.now() - timedelta(days=1))
        yesterday.buffered()
        connection.execute(sa.text("delete from capture_batches where committed_at < :at"), {"at": clock.now()})

    evaluate()

    assert verdicts(engine)["conservation", "acme"].value == 2


@pytest.mark.parametrize("trouble", ["drop table golden_contacts cascade", "lock"])
def test_a_promise_that_cannot_be_looked_at_keeps_its_verdict_and_holds_up_no_other(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate, trouble: str
) -> None:
    slos = "slos: {objectives: {conservation: null, duplicate_contacts: {timeout_seconds: 1}}}"
    with engine.begin() as connection:
        connection.execute(sa.text("drop index uq_golden_contacts_tenant_email_key"))  # so that the table is read
    evaluate(slos, slow=False)
    before = verdicts(engine)["duplicate_contacts", "acme"]
    clock.advance(1_801)
    with engine.connect() as holder:
        if trouble == "lock":
            holder.execute(sa.text("lock table golden_contacts in access exclusive mode"))
        else:
            with engine.begin() as connection:
                connection.execute(sa.text(trouble))

        report = evaluate(slos, slow=False)

    assert list(report.failed) == ["duplicate_contacts"]
    assert Key("duplicate_contacts", "acme") in report.stale
    assert verdicts(engine)["duplicate_contacts", "acme"] == before
    assert verdicts(engine)["real_time_in_crm", "acme"].evaluated_at == clock.now()


def test_what_leads_yaml_no_longer_promises_has_no_verdict_and_no_gate(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    broken = "slos: {objectives: {quick: {stage: golden_contacts, within_seconds: 1, action: close_gate}}}"
    evaluate(broken)
    wait_in_buffer(engine, clock, 5)
    clock.advance(10)
    assert Key("quick", "acme") in evaluate(broken).closed

    clock.advance(10)
    assert evaluate().closed == ()
    assert closed_for(engine, clock, "") is None
    clock.advance(1_801)
    evaluate()
    assert ("quick", "acme") not in verdicts(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from quality_gates where gate = 'quick'")).scalar_one() == 0


def test_a_tenant_that_leads_yaml_no_longer_has_leaves_nothing_open(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    without = LEADS_YAML.replace("  globex:", "  initech:")
    settings = parse_settings(without, path=Path("leads.yaml"))
    clock.advance(1_801)

    evaluate_slos(engine, settings=settings, clock=clock, runner_id="test")

    assert {tenant for _slo, tenant in verdicts(engine)} == {"acme", "initech"}


def test_all_tenants_may_be_judged_as_one(engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate) -> None:
    slos = "slos: {objectives: {real_time_in_crm: {together: true}}}"
    evaluate(slos)
    clock.advance(60)
    came(engine, clock, 5, 30)
    came(engine, clock, 5, 20, tenant="globex")

    evaluate(slos)

    assert verdicts(engine)["real_time_in_crm", ""].good == 50


def test_history_has_a_row_a_minute_and_each_change(engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate) -> None:
    for _ in range(4):
        evaluate(slow=False)
        clock.advance(30)
    wait_in_buffer(engine, clock, 5)
    clock.advance(61)
    evaluate(slow=False)

    with engine.connect() as connection:
        rows: sa.ScalarResult[str] = connection.execute(
            sa.text(
                "select verdict from slo_history where slo = 'real_time_in_crm' and tenant = 'acme' "
                "order by evaluated_at"
            )
        ).scalars()
        assert list(rows) == ["no_data", "no_data", "broken"]


def test_old_history_keeps_each_change_and_the_worst_and_the_last_row_of_an_hour(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    began = clock.now()
    minutes = [  # a breach of ten minutes, worst in its middle, and an hour of nothing
        (0, "kept", 0.1), (10, "kept", 0.2), (20, "broken", 15.0), (25, "broken", 40.0), (29, "broken", 16.0),
        (30, "kept", 0.3), (40, "kept", 0.1), (59, "kept", 0.1), (60, "kept", 0.1), (90, "kept", 0.2),
        (119, "kept", 0.1),
    ]  # fmt: skip
    with engine.begin() as connection:
        for minute, verdict, burn in minutes:
            Flow(connection, began).insert(
                "slo_history", slo="quick", lane="", evaluated_at=began + timedelta(minutes=minute), verdict=verdict,
                good=0, bad=0, burn_rate=burn,
            )  # fmt: skip
        clock.advance(3 * 86_400)

        assert thin_history(connection, now=clock.now()) == 4
        left = connection.execute(sa.text("select evaluated_at, burn_rate from slo_history order by evaluated_at"))
        assert [((row.evaluated_at - began).seconds // 60, row.burn_rate) for row in left] == [
            (0, 0.1), (20, 15.0), (25, 40.0), (30, 0.3), (59, 0.1), (90, 0.2), (119, 0.1),
        ]  # fmt: skip
        assert thin_history(connection, now=clock.now()) == 0


MEASURED = "slos: {objectives: {fill: {measure: measured, measured: queue_depth, %s}}}"
BROKEN_GATE = (
    "slos: {objectives: {duplicate_contacts: null, "
    "quick: {stage: golden_contacts, within_seconds: 1, action: close_gate}}%s}"
)


def closed_for(engine: sa.Engine, clock: FrozenClock, slos: str, tenant: str = "acme") -> str | None:
    with engine.connect() as connection:
        gates = gates_now(connection, gate_rules(settings_with(slos)), now=clock.now())
    return gates.holding(tenant, "real_time")


def broken(engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate, more: str = "") -> str:
    slos = BROKEN_GATE % more
    evaluate(slos)
    wait_in_buffer(engine, clock, 5)
    clock.advance(10)
    evaluate(slos)
    return slos


def test_a_broken_promise_closes_its_gate_for_its_tenant_alone_and_for_a_time(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = broken(engine, clock, evaluate)

    assert closed_for(engine, clock, slos) == "quick"
    assert closed_for(engine, clock, slos, "globex") is None
    clock.advance(1_801)
    assert closed_for(engine, clock, slos) is None, "nobody renewed it"
    evaluate(slos)
    assert closed_for(engine, clock, slos) == "quick"


def test_it_is_kept_from_when_to_when_a_gate_was_closed(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    began = clock.now()
    slos = broken(engine, clock, evaluate)  # at 10 s
    clock.advance(1_000)
    evaluate(slos)
    clock.advance(3_000)  # it lapsed at 2,810 s
    evaluate(slos)
    key, until = Key("quick", "acme"), clock.now() + timedelta(hours=1)
    with engine.begin() as connection:
        rule(connection, key, Ruling.OPEN, actor="ann", reason="seen", until=until, now=clock.now())
        connection.execute(sa.text("delete from buffer"))
        clock.advance(60)
        end_ruling(connection, key, now=clock.now())
    came(engine, clock, 0.5, 30, station=Station.GOLDEN_CONTACTS)
    evaluate(slos)
    clock.advance(300)
    evaluate(slos)

    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("select state, ruled_by, began_at, ended_at from gate_history order by began_at, history_id")
        )
        told = [
            (row.state, row.ruled_by, (row.began_at - began).seconds, (row.ended_at - began).seconds) for row in rows
        ]
    assert told == [
        ("closed", None, 10, 2_810), ("closed", None, 4_010, 4_370), ("open", "ann", 4_010, 4_070),
    ]  # fmt: skip


def test_a_gate_whose_verdict_is_stale_or_missing_is_what_leads_yaml_says(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = BROKEN_GATE % ", when_stale: closed"

    assert closed_for(engine, clock, BROKEN_GATE % "") is None
    assert closed_for(engine, clock, slos) == "quick"
    evaluate(slos)
    clock.advance(5)
    came(engine, clock, 0.5, 30, station=Station.GOLDEN_CONTACTS)
    evaluate(slos)
    assert closed_for(engine, clock, slos) is None
    clock.advance(1_801)
    assert closed_for(engine, clock, slos) == "quick"


def test_an_operators_ruling_stands_above_the_verdict_and_ends(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = broken(engine, clock, evaluate)
    until = clock.now() + timedelta(minutes=10)
    with engine.begin() as connection:
        rule(connection, Key("quick", "acme"), Ruling.OPEN, actor="ann", reason="seen", until=until, now=clock.now())

    assert closed_for(engine, clock, slos) is None
    evaluate(slos)
    assert closed_for(engine, clock, slos) is None, "a verdict does not take it back"
    clock.advance(601)
    assert closed_for(engine, clock, slos) == "quick"


@pytest.mark.parametrize("narrow", [Ruling.OPEN, Ruling.CLOSED])
def test_of_two_rulings_the_one_that_is_about_less_stands(
    engine: sa.Engine, clock: FrozenClock, narrow: Ruling
) -> None:
    until = clock.now() + timedelta(minutes=10)
    wide = Ruling.CLOSED if narrow is Ruling.OPEN else Ruling.OPEN
    slos = BROKEN_GATE % ""
    with engine.begin() as connection:
        rule(connection, Key("quick"), wide, actor="ann", reason="seen", until=until, now=clock.now())
        rule(connection, Key("quick", "acme"), narrow, actor="ann", reason="seen", until=until, now=clock.now())

    assert (closed_for(engine, clock, slos) is None) == (narrow is Ruling.OPEN)
    assert (closed_for(engine, clock, slos, "globex") is None) == (wide is Ruling.OPEN)


class Slow(FrozenClock):
    """Whoever asks it for the time takes nine seconds to use it."""

    def now(self) -> datetime:
        at = super().now()
        self.advance(9)
        return at


def test_an_older_reading_that_is_written_late_does_not_undo_a_newer_one(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = broken(engine, clock, evaluate)
    past = Slow(clock.now() - timedelta(seconds=9))

    evaluate_slos(engine, settings=settings_with(slos), clock=past, runner_id="slow")

    assert closed_for(engine, clock, slos) == "quick"
    assert verdicts(engine)["quick", "acme"].verdict is SloVerdict.BROKEN


def test_a_clock_that_ran_ahead_once_silences_no_later_verdict(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = broken(engine, clock, evaluate)
    ahead = FrozenClock(clock.now() + timedelta(days=20))
    evaluate_slos(engine, settings=settings_with(slos), clock=ahead, runner_id="ahead")
    before = verdicts(engine)["quick", "acme"]
    assert (before.verdict, before.evaluated_at) == (SloVerdict.BROKEN, ahead.now())
    assert before.is_stale(clock.now(), after=timedelta(minutes=30)), "it says nothing of now"
    with engine.begin() as connection:
        connection.execute(sa.text("delete from buffer"))

    clock.advance(60)
    came(engine, clock, 0.5, 30, station=Station.GOLDEN_CONTACTS)
    evaluate(slos)

    after = verdicts(engine)["quick", "acme"]
    assert (after.verdict, after.evaluated_at, after.since) == (SloVerdict.KEPT, clock.now(), clock.now())
    clock.advance(300)
    evaluate(slos)
    assert closed_for(engine, clock, slos) is None
    with engine.connect() as connection:
        newest = connection.execute(sa.text("select max(evaluated_at) from slo_history where slo = 'quick'")).scalar()
        ahead_of_now = connection.execute(
            sa.text("select count(*) from gate_history where ended_at < began_at")
        ).scalar()
    assert (newest, ahead_of_now) == (clock.now(), 0)


def test_a_lead_that_was_captured_in_the_future_breaks_nothing(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    evaluate()
    with engine.begin() as connection:
        for _ in range(5):
            Flow(connection, clock.now() + timedelta(days=1)).buffered()
    clock.advance(3_600)

    assert evaluate().breached == ()


GATE = (
    "slos: {objectives: {duplicate_contacts: null, "
    "fill: {measure: measured, measured: queue_depth, limit: 5, action: close_gate}}%s}"
)


def depth(engine: sa.Engine, clock: FrozenClock, leads: int) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("delete from buffer"))
    wait_in_buffer(engine, clock, leads)


def test_a_quiet_tenant_whose_promise_is_judged_all_the_time_is_not_stale(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = BROKEN_GATE % ", when_stale: closed"

    for _ in range(4):
        evaluate(slos)
        assert verdicts(engine)["quick", "acme"].verdict is SloVerdict.NO_DATA
        assert closed_for(engine, clock, slos) is None
        clock.advance(900)


def test_a_gate_does_not_flap_at_its_limit_and_opens_once_the_promise_was_kept_for_a_while(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = GATE % ""
    states: list[str | None] = []
    for leads in (5, 6, 5, 6, 5, 6, 5):
        depth(engine, clock, leads)
        evaluate(slos)
        states.append(closed_for(engine, clock, slos))
        clock.advance(30)
    assert states == [None, *["fill"] * 6]

    clock.advance(240)
    evaluate(slos)
    assert closed_for(engine, clock, slos) == "fill", "kept for 270 seconds"
    clock.advance(30)
    evaluate(slos)
    assert closed_for(engine, clock, slos) is None


def test_how_long_a_promise_must_be_kept_before_its_gate_opens_is_a_setting(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = GATE % ", reopen_seconds: 0"
    depth(engine, clock, 6)
    evaluate(slos)
    assert closed_for(engine, clock, slos) == "fill"
    depth(engine, clock, 5)
    clock.advance(30)
    evaluate(slos)
    assert closed_for(engine, clock, slos) is None


def test_a_closed_gate_stays_closed_while_its_promise_still_burns(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = (
        "slos: {reopen_seconds: 0, objectives: {quick: {stage: golden_contacts, within_seconds: 60, objective: 0.9, "
        "burn_alerts: [{burn: 0.5, long_minutes: 60, short_minutes: 30, severity: page}], action: close_gate}}}"
    )
    evaluate(slos)
    clock.advance(60)
    came(engine, clock, 30, 900, station=Station.GOLDEN_CONTACTS)
    came(engine, clock, 61, 50, station=Station.GOLDEN_CONTACTS, tenant="globex")
    evaluate(slos)
    assert closed_for(engine, clock, slos, "globex") == "quick"
    clock.advance(30)
    came(engine, clock, 61, 50, station=Station.GOLDEN_CONTACTS)
    came(engine, clock, 30, 900, station=Station.GOLDEN_CONTACTS, tenant="globex")
    evaluate(slos)

    assert {verdicts(engine)["quick", name].verdict for name in ("acme", "globex")} == {SloVerdict.BURNING}
    assert closed_for(engine, clock, slos, "globex") == "quick", "the trouble goes on"
    assert closed_for(engine, clock, slos, "acme") is None, "what only burns closes no gate"


def test_what_waits_at_a_gate_does_not_keep_it_closed(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.begin() as connection:
        for _ in range(10):
            Flow(connection, clock.now()).golden()

    evaluate(GATE % "")

    assert verdicts(engine)["fill", "acme"].verdict is not SloVerdict.BROKEN
    evaluate("slos: {objectives: {fill: {measure: measured, measured: queue_depth, limit: 5}}}")
    assert verdicts(engine)["fill", "acme"].verdict is SloVerdict.BROKEN


@pytest.mark.parametrize(
    ("bound", "verdict"), [("limit: 3", "kept"), ("limit: 2", "broken"), ("at_least: 4", "broken")]
)
def test_a_measurement_is_held_to_its_limit(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate, bound: str, verdict: str
) -> None:
    wait_in_buffer(engine, clock, 3)

    evaluate(MEASURED % bound)

    standing = verdicts(engine)["fill", "acme"]
    assert (standing.verdict, standing.value) == (verdict, 3)
    assert verdicts(engine)["fill", "globex"].verdict is SloVerdict.NO_DATA


def test_conservation_ends_in_its_time_and_holds_up_no_other(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    with engine.connect() as holder:
        holder.execute(sa.text("lock table capture_batches in access exclusive mode"))

        report = evaluate("slos: {objectives: {conservation: {timeout_seconds: 0.2}}}")

    assert "conservation" in report.failed
    assert verdicts(engine)["real_time_in_crm", "acme"].evaluated_at == clock.now()


class _Restless(FrozenClock):
    """Time passes whenever somebody looks at it."""

    def monotonic(self) -> float:
        self.advance(1)
        return super().monotonic()


def test_what_there_is_no_time_for_keeps_its_verdict_and_is_first_the_next_time(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    settings = settings_with()
    seen: list[set[str]] = []
    for _ in range(5):
        report = evaluate_slos(
            engine, settings=settings, clock=_Restless(clock.now()), runner_id="test", all_seconds=12, slow=False
        )
        assert set(report.failed.values()) <= {"TimeoutError"}
        seen.append({finding.key.slo for finding in report.findings})
        clock.advance(30)

    assert all(len(found) < 4 for found in seen)
    assert len(set().union(*seen)) == 4


def test_without_redis_what_postgresql_shows_is_judged_and_what_looks_good_is_not_believed(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "buffer: {redis: {url: {env: GONE_REDIS}}}\n"
    monkeypatch.setenv("GONE_REDIS", "redis://127.0.0.1:9/0")
    evaluate()
    wait_in_buffer(engine, clock, 10)
    clock.advance(61)

    report = evaluate(gone, slow=False)

    found = verdicts(engine)
    assert found["real_time_in_crm", "acme"].verdict is SloVerdict.BROKEN
    assert found["real_time_in_crm", "globex"].evaluated_at < clock.now()
    assert report.failed["real_time_in_crm"] == "DatabaseUnavailable"
    assert "duplicate_contacts" not in report.failed


def test_a_machine_with_an_older_leads_yaml_undoes_nothing_that_a_newer_one_promises(
    engine: sa.Engine, clock: FrozenClock, evaluate: Evaluate
) -> None:
    slos = broken(engine, clock, evaluate)
    since = verdicts(engine)["quick", "acme"].since

    clock.advance(30)
    evaluate()

    assert closed_for(engine, clock, slos) == "quick"
    assert verdicts(engine)["quick", "acme"].since == since
