"""`leads verification`, as an operator uses it."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow

Leads = Callable[..., Result]
KEY = "a-key-that-nobody-may-see"
NOTHING = ""
VIENNA = ZoneInfo("Europe/Vienna")
PROVIDERS = """
verification:
  mx: {enabled: true}
  providers:
    zerobounce:
      vendor: zerobounce
      key: {env: LEADS_ZEROBOUNCE_KEY}
      cost_per_lookup: 0.008
      budget: {per_day: 8, per_month: 100, time_zone: Europe/Vienna}
    kickbox: {vendor: kickbox, key: {env: LEADS_KICKBOX_KEY}, cost_per_lookup: 0.01}
    hunter: {vendor: hunter, key: {env: LEADS_HUNTER_KEY}}
  mailbox: [zerobounce, kickbox]
  tiers:
    full: {lookups: [mx, mailbox], patience_seconds: 30}
    minimal: {lookups: [mx], patience_seconds: 10}
    cheap: {lookups: [mailbox], budget_reserve: 0.5}
    none: {}
"""
REASON = ("--reason", "zerobounce is down", "--actor", "grace")


@pytest.fixture
def now() -> datetime:
    """The present, as the command asks the machine for the time."""
    return SystemClock().now()


@pytest.fixture
def leads(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads verification`` against this test's database."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("ZEROBOUNCE", "KICKBOX"):
        monkeypatch.setenv(f"LEADS_{name}_KEY", KEY)

    def run(*arguments: str, config: str = PROVIDERS, group: str = "verification") -> Result:
        (tmp_path / "leads.yaml").write_text(LEADS_YAML + config)
        done = CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), group, *arguments])
        assert KEY not in done.output
        return done

    return run


@pytest.fixture
def insert(engine: sa.Engine, now: datetime) -> Callable[..., None]:
    """Insert a row."""

    def row(table: str, **values: Any) -> None:
        with engine.begin() as connection:
            Flow(connection, now).insert(table, **values)

    return row


def words(result: Result) -> str:
    """What is printed, without the lines' ends."""
    assert result.exit_code == 0, (result.output, result.exception)
    return re.sub(r"\s+", " ", result.output)


def waits(insert: Callable[..., None], now: datetime, *, tier: str, kind: str, seconds: float) -> None:
    since = now - timedelta(seconds=seconds)
    insert("verification_requests", tier=tier, kind=kind, requested_at=since, patience_until=since, due_at=since)


def test_a_fresh_product_says_that_nothing_is_looked_up(leads: Leads) -> None:
    shown = words(leads("status", config=NOTHING))
    assert "Nothing is looked up: verification.mx is off, and leads.yaml names no provider" in shown
    assert "`leads config check`" in shown
    assert "No look-up waits." in shown


def test_status_shows_tiers_queues_providers_and_how_much_was_in_time(leads: Leads, insert: Any, now: datetime) -> None:
    waits(insert, now, tier="full", kind="mailbox", seconds=600)
    waits(insert, now, tier="full", kind="mailbox", seconds=5)
    asked = now - timedelta(seconds=60)
    for _ in range(3):
        insert("verifications", tier="full", provider="zerobounce", verdict="valid", requested_at=asked)
    insert("verifications", tier="full", kind="mx", provider="dns", verdict="valid", requested_at=now, verified_at=now)
    shown = words(leads("status"))
    assert "full mx, mailbox 30 s 75.0% of 4 99.0% in 5 min" in shown
    assert "minimal mx 10 s 99.0% in 5 min" in shown
    assert "cheap mailbox none 99.0% in 5 min none nothing none" in shown
    assert "full mailbox 2 10 min 2" in shown
    assert "zerobounce mailbox as no. 1 closed can be asked" in shown
    assert "hunter mailbox never: no order names it" in shown
    assert "Of 4 verdicts of the last 24 h, 1 (25%) were known already." in shown
    found = json.loads(leads("status", "--json").output)
    assert found["waiting"][0]["past_patience"] == 2
    assert (found["verdicts_last_day"], found["known_already_last_day"]) == (4, 1)
    assert [tier["share_in_time"] for tier in found["tiers"]] == [0.75, None, None, None]


def test_a_key_that_is_not_set_is_named_by_its_variable(leads: Leads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADS_ZEROBOUNCE_KEY")
    shown = words(leads("status"))
    assert "zerobounce has no key: the environment variable LEADS_ZEROBOUNCE_KEY is not set where this runs" in shown
    assert "LEADS_HUNTER_KEY" not in shown, "nobody asks hunter"


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [
        ("refused", 401, "zerobounce refuses the key LEADS_ZEROBOUNCE_KEY, or what the account may do (HTTP 401)"),
        ("out_of_credit", 402, "the account at zerobounce has no credit left (HTTP 402): buy some"),
        (
            "broken",
            503,
            "zerobounce failed 7 times in a row, last with an error of its own (broken): it is tried again at",
        ),
    ],
)
def test_an_open_breaker_says_why_and_when_it_is_tried_again(
    leads: Leads, insert: Any, now: datetime, reason: str, status: int, expected: str
) -> None:
    probe = now + timedelta(minutes=4)
    breaker = {"name": "zerobounce", "state": "open", "failures": 7, "reason": reason, "next_probe_at": probe}
    insert("circuit_breakers", **breaker, opened_at=now)
    insert("verification_calls", provider="zerobounce", outcome=reason, http_status=status, sent_at=now)
    shown = words(leads("status"))
    assert expected in shown
    assert f"again at {probe:%H:%M} UTC" in shown
    assert "zerobounce mailbox as no. 1 open breaker, again in" in shown
    assert expected in words(leads("budget"))
    line = words(leads(group="status"))
    assert "in trouble: zerobounce. `leads verification status` says more." in line


@pytest.mark.parametrize(
    ("seconds", "shown_as", "expected"),
    [(3_600, "paused, again in", "zerobounce asked for a pause: it is asked again at"), (10, "can be asked", "")],
)
def test_a_pause_is_shown_if_it_lasts(
    leads: Leads, insert: Any, now: datetime, seconds: int, shown_as: str, expected: str
) -> None:
    until = now + timedelta(seconds=seconds)
    insert("rate_limits", account="verification:zerobounce", endpoint_class="api", paused_until=until)
    shown = words(leads("status"))
    assert f"zerobounce mailbox as no. 1 closed {shown_as}" in shown
    assert expected in shown
    assert ("in trouble" in words(leads(group="status"))) is bool(expected)


def test_budget_shows_what_was_spent_what_is_left_and_for_whom(leads: Leads, insert: Any, now: datetime) -> None:
    day = now.astimezone(VIENNA).date()
    insert("verification_spend", provider="zerobounce", day=day, calls=3, lookups=250, cost_micros=6_000_000)
    insert("verification_calls", provider="zerobounce", sent_at=now - timedelta(days=1), lookups=100)
    insert("verification_calls", provider="zerobounce", sent_at=now, lookups=100)
    shown = words(leads("budget"))
    assert "zerobounce day (Europe/Vienna) 6.00 8.00 2.00" in shown
    assert "month (Europe/Vienna) 6.00 100.00 94.00" in shown
    assert "kickbox day 0.00 none" in shown
    assert "zerobounce 0.0080 3 250 2 full: 250, cheap: 0" in shown
    assert "kickbox 0.0100 0 0 0 any number" in shown
    assert "50% of every budget is kept from cheap: it is for the tiers before it." in shown
    assert "zerobounce: 1 call(s) were never answered. They count as paid" in shown
    found = json.loads(leads("budget", "--json", "--provider", "zerobounce").output)
    [account] = found["providers"]
    assert (account["spent_today"], account["left_today"], account["calls_lost"]) == (6.0, 2.0, 1)
    assert found["kept_from"] == {"cheap": 0.5}


def test_a_spent_budget_says_when_the_next_begins_and_what_helps(leads: Leads, insert: Any, now: datetime) -> None:
    day = now.astimezone(VIENNA).date()
    insert("verification_spend", provider="zerobounce", day=day, cost_micros=8_000_000)
    shown = words(leads("budget"))
    assert "zerobounce has spent the day's budget of 8.00; the next begins at midnight, Europe/Vienna." in shown
    assert "verification.providers.zerobounce.budget.per_day" in shown
    assert "zerobounce mailbox as no. 1 closed budget" in words(leads("status"))


def test_no_provider_and_an_unknown_one_are_told_apart(leads: Leads) -> None:
    none = leads("budget", config=NOTHING)
    assert isinstance(none.exception, LeadsError)
    assert "names no providers under verification.providers" in str(none.exception)
    unknown = leads("budget", "--provider", "zerobonce")
    assert isinstance(unknown.exception, NotFound)
    assert str(unknown.exception).endswith("defined: zerobounce, kickbox, hunter")


def test_a_tier_is_switched_down_for_a_time_and_resumed(leads: Leads, now: datetime) -> None:
    done = words(leads("switch", "full", "--to", "minimal", "--for", "2h", *REASON))
    ends = now + timedelta(hours=2)
    assert done.startswith(f"full is treated as minimal until {ends:%Y-%m-%d %H:}")
    assert "`leads verification resume full` ends that" in done
    shown = words(leads("status"))
    assert "full mx (as minimal)" in shown
    assert "by grace: zerobounce is down. `leads verification resume full` ends it." in shown
    assert "full is treated as minimal" in words(leads(group="status"))
    assert json.loads(leads("status", "--json").output)["tiers"][0]["switch"]["to"] == "minimal"
    assert words(leads("resume", "full", "--actor", "grace")) == "full is itself again "
    assert "full mx, mailbox" in words(leads("status"))
    assert "Verification" not in words(leads(group="status"))


def test_a_tier_is_switched_down_until_somebody_resumes_it(leads: Leads) -> None:
    assert "until it is resumed" in words(leads("switch", "full", "--to", "none", *REASON))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("switch", "fulll", "--to", "none", *REASON), "defined, most thorough first: full, minimal, cheap, none"),
        (("switch", "full", "--to", "nowhere", *REASON), "there is no tier 'nowhere' in leads.yaml"),
        (("switch", "minimal", "--to", "full", *REASON), "less thorough tier; those are: cheap, none"),
        (("switch", "full", "--to", "none", "--until", "2020-01-01", *REASON), "would have ended already"),
        (("resume", "full", "--actor", "grace"), "'full' is not switched down; `leads verification status` shows"),
        (("resume", "fulll", "--actor", "grace"), "there is no tier 'fulll' in leads.yaml; defined"),
    ],
)
def test_what_cannot_be_switched_is_refused_with_what_can(
    leads: Leads, arguments: tuple[str, ...], expected: str
) -> None:
    refused = leads(*arguments)
    assert isinstance(refused.exception, LeadsError)
    assert expected in str(refused.exception)


@pytest.mark.parametrize("span", ["2", "0h", "h2", "-1h", "2w"])
def test_a_span_that_is_none_is_refused_with_what_is(leads: Leads, span: str) -> None:
    refused = leads("switch", "full", "--to", "none", f"--for={span}", *REASON)
    assert refused.exit_code == 2
    assert "30m, 2h or 1d" in re.sub(r"\s+", " ", refused.output)


def test_for_and_until_together_are_refused(leads: Leads) -> None:
    refused = leads("switch", "full", "--to", "none", "--for", "2h", "--until", "2030-01-01", *REASON)
    assert refused.exit_code == 2
    assert "use one of them" in refused.output
