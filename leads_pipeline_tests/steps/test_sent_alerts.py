"""The outbox of alerts: whatever the places do to which they are sent, none is lost and nothing else waits."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.steps.raised_alerts import note_observations
from leads_pipeline.steps.sent_alerts import SendReport, send_alerts
from leads_pipeline.storage import alert_notices
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.alert_receiver import Receiver, receiving

CHANNELS = """
alerts:
  playbooks_url: https://wiki.example.com/playbooks/
  send_seconds: 3
  retry_minutes: 180
  give_up_hours: 30
  channels:
    pager: {url: {env: LEADS_PAGER_URL}, severities: [page]}
    chat: {url: {env: LEADS_CHAT_URL}}
"""
HOURS = timedelta(hours=3)
PAGE = Trouble(
    Severity.PAGE,
    "Leads of acme reach the CRM late",
    (("within 60 s", "91.2 % (promised: 99 %)"),),
    "deliveries-late",
    "leads slo show delivered",
    "acme",
)
TICKET = Trouble(Severity.TICKET, "Many are rejected", (), "rejections-rising", "leads rejected list", "acme")


@pytest.fixture
def pager() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def chat() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def settings(pager: Receiver, chat: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LEADS_PAGER_URL", pager.address)
    monkeypatch.setenv("LEADS_CHAT_URL", chat.address)
    return parse_settings(LEADS_YAML + CHANNELS, path=tmp_path / "leads.yaml")


class Desk:
    """Sees things and sends what is to be told of them."""

    def __init__(self, engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
        self.engine, self.settings, self.clock = engine, settings, clock

    def see(self, trouble: Trouble | None, *, key: str = "slo:delivered") -> None:
        seen = [Observation.of(key, trouble)]
        note_observations(
            self.engine, "slo", seen, settings=self.settings.alerts, now=self.clock.now(), runner_id="run-1"
        )

    def see_it_end(self) -> None:
        self.see(None)
        self.clock.advance(300)
        self.see(None)

    def send(self) -> SendReport:
        return send_alerts(self.engine, settings=self.settings, clock=self.clock)

    def send_until_quiet(self, hours: float) -> None:
        """Time passes, and what is due is sent."""
        end = self.clock.now() + timedelta(hours=hours)
        while self.clock.now() < end:
            self.clock.advance(600)
            with self.engine.connect() as connection:
                due = alert_notices.any_due(connection, now=self.clock.now(), longest=HOURS)
            if due:
                self.send()

    def notices(self, channel: str) -> list[tuple[str, str, str | None]]:
        """Kind, state and last error of everything for a channel."""
        statement = sa.text("select kind, state, last_error from alert_notices where channel = :channel order by 1, 2")
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement, {"channel": channel})]


@pytest.fixture
def desk(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> Desk:
    return Desk(engine, settings, clock)


def test_each_channel_is_told_of_what_it_is_for_and_of_its_end(desk: Desk, pager: Receiver, chat: Receiver) -> None:
    desk.see(PAGE)
    desk.see(TICKET, key="slo:rejections")  # leads.yaml, as it is now, has both
    assert desk.send().sent == {"pager": 1, "chat": 2}
    assert pager.titles == ["[page] Leads of acme reach the CRM late"]
    assert sorted(chat.titles) == ["[page] Leads of acme reach the CRM late", "[ticket] Many are rejected"]


def test_a_message_says_what_is_wrong_since_when_and_what_to_open(desk: Desk, pager: Receiver) -> None:
    desk.see(PAGE)
    desk.send()
    [message] = pager.messages
    for told in (
        "within 60 s: 91.2 % (promised: 99 %)",
        "Since 2026-01-15 12:00 UTC",
        "No rule acts and no gate is closed",
        "Look: leads slo show delivered",
        "https://wiki.example.com/playbooks/deliveries-late.md",
        "leads alerts show ",
    ):
        assert told in message["message"]


def test_an_end_is_told_to_whoever_was_told_of_the_beginning(desk: Desk, pager: Receiver, chat: Receiver) -> None:
    desk.see(PAGE)
    desk.send()
    desk.see_it_end()
    desk.send()
    for receiver in (pager, chat):
        assert receiver.titles[-1] == "[over] Leads of acme reach the CRM late"
    assert "from 2026-01-15 12:00 UTC to 2026-01-15 12:05 UTC, for 5 min" in pager.messages[-1]["message"]


def test_a_second_outage_of_the_same_kind_is_told_anew(desk: Desk, pager: Receiver) -> None:
    for _ in range(2):
        desk.see(PAGE)
        desk.send()
        desk.see_it_end()
        desk.send()
    assert [title[:6] for title in pager.titles] == ["[page]", "[over]", "[page]", "[over]"]


def test_a_channel_that_hangs_holds_up_neither_the_others_nor_the_sender(
    desk: Desk, pager: Receiver, chat: Receiver
) -> None:
    pager.status = None
    desk.see(PAGE)
    began = time.monotonic()
    report = desk.send()
    assert (report.sent, report.failed) == ({"chat": 1}, {"pager": "timed_out"})
    assert time.monotonic() - began < 120  # it would hang for good
    assert desk.notices("pager") == [("opened", "waiting", "timed_out")]


def test_a_channel_that_refuses_is_asked_again_and_again_until_it_takes_it(desk: Desk, pager: Receiver) -> None:
    pager.status = 500
    desk.see(PAGE)
    assert desk.send().failed == {"pager": "http_500"}
    assert desk.send() == SendReport()  # not before its time
    desk.send_until_quiet(hours=24)
    assert 12 < pager.asked < 25
    pager.status = 200
    desk.send_until_quiet(hours=3)
    assert pager.titles == ["[page] Leads of acme reach the CRM late"]


def test_a_channel_that_is_not_there_gets_it_when_it_is(desk: Desk, pager: Receiver, monkeypatch) -> None:
    with receiving() as gone:
        port = gone.port
    monkeypatch.setenv("LEADS_PAGER_URL", f"json://127.0.0.1:{port}/a-secret-path")
    desk.see(PAGE)
    assert desk.send().failed == {"pager": "no_answer"}
    with receiving(port) as back:
        desk.clock.advance(60)
        assert desk.send().sent == {"pager": 1}
        assert back.titles == ["[page] Leads of acme reach the CRM late"]


def test_what_cannot_be_sent_for_too_long_is_dropped_and_shown(desk: Desk, pager: Receiver) -> None:
    pager.status = 500
    desk.see(PAGE)
    desk.send_until_quiet(hours=31)
    assert ("opened", "dropped", "http_500") in desk.notices("pager")


def test_an_end_stands_for_the_beginning_that_could_not_be_told(desk: Desk, pager: Receiver) -> None:
    pager.status = 503
    desk.see(PAGE)
    desk.send()
    desk.see_it_end()
    pager.status = 200
    desk.send()
    desk.send_until_quiet(hours=1)
    assert pager.titles == ["[over] Leads of acme reach the CRM late"]
    assert "Nothing could be sent here while it lasted" in pager.messages[0]["message"]
    assert "91.2 %" in pager.messages[0]["message"]
    assert desk.notices("pager") == [("opened", "dropped", "told_with_the_next"), ("recovered", "sent", None)]


def test_an_end_waits_for_a_beginning_that_is_being_sent(desk: Desk, engine: sa.Engine, clock: FrozenClock) -> None:
    desk.see(PAGE)
    with engine.begin() as connection:
        until = clock.now() + timedelta(minutes=10)
        [opening] = alert_notices.claim(
            connection, channel="pager", until=until, limit=9, now=clock.now(), longest=HOURS
        )
    desk.see_it_end()
    assert desk.send().sent == {"chat": 1}  # the other channel knew nothing yet: one message for both
    with engine.begin() as connection:
        assert alert_notices.settle_sent(connection, opening, now=clock.now())
    assert desk.send().sent == {"pager": 1}


def test_a_sender_that_died_between_claim_and_settle_is_stood_in_for(
    desk: Desk, engine: sa.Engine, clock: FrozenClock, pager: Receiver
) -> None:
    desk.see(PAGE)
    with engine.begin() as connection:
        until = clock.now() + timedelta(minutes=2)
        [dead] = alert_notices.claim(connection, channel="pager", until=until, limit=9, now=clock.now(), longest=HOURS)
    desk.send()
    assert pager.titles == []
    clock.advance(121)
    assert desk.send().sent == {"pager": 1}
    with engine.begin() as connection:  # it was only slow: what it says of its claim comes too late
        assert not alert_notices.settle_failed(connection, dead, error="no_answer", due_at=clock.now())
    assert desk.notices("pager") == [("opened", "sent", None)]


def test_a_message_that_a_channel_never_takes_does_not_keep_the_others_waiting(desk: Desk, chat: Receiver) -> None:
    chat.refused = frozenset({"[ticket] Many are rejected"})
    desk.see(TICKET, key="slo:rejections")
    desk.see(PAGE)
    assert desk.send().failed == {"chat": "http_400"}
    desk.clock.advance(20)
    desk.send()
    assert chat.titles == ["[page] Leads of acme reach the CRM late"]


def test_two_senders_at_once_send_nothing_twice(desk: Desk, pager: Receiver) -> None:
    for each in range(12):
        desk.see(PAGE, key=f"slo:{each}")
    # Each look was the whole of what the source knows, so the earlier ones are on their way to be closed, and open yet.
    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(lambda _: desk.send(), range(2)))
    assert sum(report.sent.get("pager", 0) for report in reports) == len(pager.titles) == 12
    assert {state for _kind, state, _error in desk.notices("pager")} == {"sent"}


def test_a_channel_that_could_not_begin_in_time_is_told_by_the_next_round(
    desk: Desk, pager: Receiver, chat: Receiver
) -> None:
    class Slow(FrozenClock):
        asking = threading.Lock()

        def monotonic(self) -> float:
            with self.asking:
                self.advance(6)  # whatever is done takes as long
                return super().monotonic()

    desk.clock = Slow(desk.clock.now())
    desk.see(PAGE)
    assert sum(desk.send().sent.values()) == 1
    assert sum(desk.send().sent.values()) == 1
    assert (len(pager.titles), len(chat.titles)) == (1, 1)


def test_a_clock_that_is_set_back_holds_no_message_up(desk: Desk, pager: Receiver) -> None:
    desk.see(PAGE)
    desk.clock.advance(-86_400)
    assert desk.send().sent == {"pager": 1, "chat": 1}


def test_neither_address_nor_answer_is_kept(desk: Desk, engine: sa.Engine, pager: Receiver, capfd) -> None:
    pager.status = 404
    desk.see(PAGE)
    desk.send()
    with engine.connect() as connection:
        rows = str(connection.execute(sa.text("select * from alert_notices join alerts using (alert_id)")).all())
    assert "http_404" in rows
    assert "a-secret-path" not in rows + "".join(capfd.readouterr())


def test_without_an_address_it_waits_for_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADS_PAGER_URL")
    monkeypatch.setenv("LEADS_CHAT_URL", "nonsense")
    desk.see(PAGE)
    assert desk.send().failed == {"pager": "no_address", "chat": "unreadable_address"}
    assert desk.notices("pager") == [("opened", "waiting", "no_address")]


def test_what_is_for_a_channel_that_is_not_configured_any_more_is_dropped(desk: Desk, pager: Receiver) -> None:
    desk.see(PAGE)
    channels = {name: each for name, each in desk.settings.alerts.channels.items() if name != "pager"}
    desk.settings = desk.settings.model_copy(
        update={"alerts": desk.settings.alerts.model_copy(update={"channels": channels})}
    )
    assert desk.send() == SendReport(sent={"chat": 1}, dropped=1)
    assert desk.notices("pager") == [("opened", "dropped", "no_such_channel")]


def test_that_nobody_can_tell_is_not_told_as_an_end(desk: Desk, chat: Receiver) -> None:
    desk.see(PAGE)
    desk.send()
    for _ in range(20):
        desk.clock.advance(60)
        note_observations(
            desk.engine,
            "slo",
            [Observation("slo:delivered", Health.UNKNOWN)],
            settings=desk.settings.alerts,
            now=desk.clock.now(),
            runner_id="run-1",
        )
    desk.send()
    assert len(chat.titles) == 1
