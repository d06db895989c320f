"""What the sender of a lead is told of its e-mail address, where the source asks for that: over real HTTP and DNS."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from dns.resolver import NoResolverConfiguration
from jsonschema import Draft202012Validator

from leads_pipeline.capture import in_request
from leads_pipeline.capture.in_request import MAX_REMEMBERED
from leads_pipeline.capture.openapi import openapi_document
from leads_pipeline.capture.openapi_schemas import IN_REQUEST_REASONS
from leads_pipeline.clock import Clock, FrozenClock
from leads_pipeline.config import MxSettings, Settings, parse_settings
from leads_pipeline.domain.verification import REASONS, LookupVerdict, Standing
from leads_pipeline.errors import ConfigError
from leads_pipeline.storage.mx_cache import domain_hash
from leads_pipeline.verification.mx_context import as_context, mx_in_context
from leads_pipeline.verification.sandbox.dns import DnsSandbox, running_dns_sandbox
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind
from leads_pipeline_tests.capture.running import Capture, capture_service, make_key, wait_until
from leads_pipeline_tests.conftest import NOW

# More than any answer needs; where DNS hangs, the little budget is what is waited for.
PATIENT_MS, IMPATIENT_MS = 5_000, 50
HANGS = DnsRule(DomainKind.TIMEOUT)

YAML = """
version: 1
verification:
  mx: {{enabled: true, resolvers: ["{resolver}"], timeout_seconds: {timeout}, queries_per_second: 1000}}
tenants:
  acme:
    sources:
      website: {{kind: form, lane: real_time, verify_in_request: {{budget_ms: {budget}}}}}
      plain: {{kind: form, lane: real_time}}
      local: {{kind: json, verify_in_request: {{lookups: []}}}}
      valuable:
        kind: json
        mapping: {{email: contact.mail}}
        lane_rules: [{{lane: real_time, field: budget, at_least: 1000}}]
        verify_in_request: {{budget_ms: {budget}, lanes: [real_time]}}
"""


@dataclass(frozen=True)
class Place:
    """A running door whose website asks for verdicts, and the DNS that it asks."""

    capture: Capture
    dns: DnsSandbox
    engine: sa.Engine
    clock: FrozenClock
    keys: dict[str, str]

    def verdict(self, email: str) -> Any:
        answer = self.capture.post({"email": email, "message": f"{len(self.contexts())}"})
        assert answer.status_code == 202, answer.text
        return answer.json()["verification"]["email"]

    def post_as(self, source: str, lead: Any) -> Any:
        answer = self.capture.post(lead, Authorization=f"Bearer {self.keys[source]}")
        assert answer.status_code == 202, answer.text
        return answer.json()

    def contexts(self) -> list[Any]:
        with self.engine.connect() as connection:
            return [row.context for row in connection.execute(sa.text("select context from buffer order by lead_id"))]

    def asked(self) -> dict[str, int]:
        names: dict[str, int] = self.dns.report()["names"]
        return names


@pytest.fixture
def open_place(tmp_state: Path, database_url: str, engine: sa.Engine, clock: FrozenClock) -> Any:
    @contextmanager
    def opened(
        *, budget_ms: int = PATIENT_MS, rules: dict[str, DnsRule] | None = None, dns_clock: Clock | None = None
    ) -> Iterator[Place]:
        keys = {source: make_key(engine, clock, source=source) for source in ("plain", "local", "valuable")}
        with running_dns_sandbox(rules, clock=dns_clock) as dns:
            text = YAML.format(resolver=dns.address, timeout=30, budget=budget_ms)
            settings = parse_settings(text, path=tmp_state / "leads.yaml")
            with capture_service(settings, database_url=database_url, engine=engine, clock=clock) as capture:
                yield Place(capture, dns, engine, clock, keys)

    return opened


@pytest.fixture
def place(open_place: Any) -> Iterator[Place]:
    with open_place() as running:
        yield running


@pytest.mark.parametrize(
    ("email", "standing", "reasons", "suggestion"),
    [
        ("ada@acme.example", "valid", [], None),
        ("ada@nxdomain.example", "invalid", ["domain_not_found"], None),
        ("ada@null-mx.example", "invalid", ["null_mx"], None),
        ("ada@nodata.example", "invalid", ["no_mail_server"], None),
        ("ada@no-mx.example", "valid", [], None),
        ("ada@servfail.example", "unverified", ["dns_failure"], None),
        ("ada@gmial.com", "valid", [], "gmail.com"),
        ("info@acme.example", "risky", ["role"], None),
        ("ada@mailinator.com", "risky", ["disposable"], None),
        ("ada.acme.example", "invalid", ["bad_syntax"], None),
        ("n/a", "invalid", ["placeholder"], None),
        ("ada@münchen.example", "valid", [], None),
    ],
)
def test_the_answer_says_what_is_known_of_the_address(
    place: Place, email: str, standing: str, reasons: list[str], suggestion: str | None
) -> None:
    said = {"standing": standing, "reasons": reasons}
    assert place.verdict(email) == (said if suggestion is None else {**said, "suggestion": suggestion})


def test_the_verdict_travels_with_the_lead(place: Place) -> None:
    place.verdict("ada@nxdomain.example")
    [context] = place.contexts()
    assert context["verification"] == {
        "mx": {
            "domain_hash": domain_hash("nxdomain.example"),
            "verdict": "invalid",
            "reasons": ["domain_not_found"],
            "flags": [],
            "mail_provider": None,
            "checked_at": NOW.isoformat(),
        }
    }
    assert context["content_type"] == "application/json"
    found = mx_in_context(context, "NXDOMAIN.example", settings=MxSettings(), now=NOW)
    assert found is not None
    assert found.verdict == LookupVerdict(Standing.INVALID, ("domain_not_found",))


@pytest.mark.parametrize("email", ["ada@servfail.example", "no address", "n/a"])
def test_where_dns_says_nothing_nothing_travels(place: Place, email: str) -> None:
    place.verdict(email)
    [context] = place.contexts()
    assert "verification" not in context


def test_where_dns_hangs_the_lead_is_stored_when_the_budget_is_spent(open_place: Any) -> None:
    with open_place(budget_ms=IMPATIENT_MS, rules={"*": HANGS}) as place:
        assert place.verdict("ada@acme.example") == {"standing": "unverified", "reasons": ["timeout"]}
        assert place.verdict("info@acme.example") == {"standing": "risky", "reasons": ["role", "timeout"]}
        assert len(place.contexts()) == 2
        assert all("verification" not in context for context in place.contexts())
        wait_until(lambda: place.asked() != {})
        assert place.asked() == {"acme.example": 1}  # the second request joined the question of the first


def test_an_answer_that_comes_after_the_budget_serves_later_requests(open_place: Any) -> None:
    dns_clock = FrozenClock(NOW)  # the DNS server holds its answer back until this one moves
    rules = {"acme.example": DnsRule(DomainKind.SLOW, seconds=1)}
    with open_place(budget_ms=IMPATIENT_MS, rules=rules, dns_clock=dns_clock) as place:
        assert place.verdict("ada@acme.example")["reasons"] == ["timeout"]
        wait_until(lambda: place.asked() != {})
        dns_clock.advance(1)
        wait_until(lambda: place.verdict("ada@acme.example")["standing"] == "valid")
        assert place.asked() == {"acme.example": 1}


def test_a_domain_is_asked_for_once_until_its_verdict_expires(place: Place) -> None:
    for name in ("ada", "bob", "carol"):
        assert place.verdict(f"{name}@acme.example")["standing"] == "valid"
    assert place.asked() == {"acme.example": 1}
    place.clock.advance(72 * 3600)
    place.verdict("dave@acme.example")
    assert place.asked() == {"acme.example": 2}


def test_a_failure_of_dns_is_asked_again_soon(place: Place) -> None:
    place.dns.set_rules({"acme.example": DnsRule(DomainKind.SERVFAIL)})
    assert place.verdict("ada@acme.example")["reasons"] == ["dns_failure"]
    place.dns.set_rules({})
    assert place.verdict("ada@acme.example")["reasons"] == ["dns_failure"]
    place.clock.advance(60)
    assert place.verdict("ada@acme.example")["standing"] == "valid"


def test_only_sources_that_ask_for_it_are_told(place: Place) -> None:
    assert set(place.post_as("plain", {"email": "ada@nxdomain.example"})) == {"lead_id", "status"}
    assert place.asked() == {}


def test_batches_pages_and_leads_without_an_address_are_not_verified(place: Place) -> None:
    lead = {"email": "ada@nxdomain.example"}
    [item] = place.capture.post_batch([lead])
    assert set(item) == {"index", "status", "lead_id"}
    form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
    page = place.capture.client.post("/v1/in/acme/website", content="email=bob@nxdomain.example", headers=form)
    assert page.headers["content-type"].startswith("text/html")
    nobody = place.capture.post({"phone": "+12025550123"})
    assert (nobody.status_code, set(nobody.json())) == (202, {"lead_id", "status"})
    assert len(place.contexts()) == 3
    assert place.asked() == {}


def test_a_robot_is_answered_like_anybody_and_cannot_tell_that_it_was_found_out(place: Place) -> None:
    lead = {"email": "ada@nxdomain.example"}
    person = place.capture.post(lead).json()
    robot = place.capture.post({**lead, "website_url": "http://spam.example"}).json()
    assert robot["verification"] == person["verification"]
    assert set(robot) == set(person)
    assert sorted(context.get("quarantine", "") for context in place.contexts()) == ["", "robot"]


def test_a_form_that_a_script_posts_to_its_own_address_is_told(place: Place) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    answer = place.capture.client.post("/v1/in/acme/website", content="email=ada@gmial.com", headers=form)
    assert (answer.status_code, answer.json()["verification"]["email"]["suggestion"]) == (202, "gmail.com")
    [context] = place.contexts()
    assert context["verification"]["mx"]["verdict"] == "valid"


def test_the_same_post_again_is_told_the_same(place: Place) -> None:
    first = place.capture.post({"email": "ada@null-mx.example"})
    again = place.capture.post({"email": "ada@null-mx.example"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["verification"] == again.json()["verification"]
    assert place.asked() == {"null-mx.example": 1}


def test_a_source_may_ask_for_its_urgent_leads_only(place: Place) -> None:
    lead = {"contact": {"mail": "ada@nxdomain.example"}}
    assert "verification" not in place.post_as("valuable", {**lead, "budget": 10})
    assert place.asked() == {}
    answer = place.post_as("valuable", {**lead, "budget": 5000})
    assert answer["verification"]["email"]["standing"] == "invalid"


def test_a_source_may_do_without_dns(place: Place) -> None:
    said = [
        place.post_as("local", {"email": email})["verification"]["email"]
        for email in ("ada@nxdomain.example", "ada@mailinator.com", "nonsense")
    ]
    assert said == [
        {"standing": "unverified", "reasons": []},
        {"standing": "risky", "reasons": ["disposable"]},
        {"standing": "invalid", "reasons": ["bad_syntax"]},
    ]
    assert place.asked() == {}


def test_a_fault_of_the_checks_stores_the_lead_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> None:
        raise RuntimeError("ada@acme.example")

    monkeypatch.setattr(in_request, "parse_email", broken)
    answer = place.capture.post({"email": "ada@acme.example"})
    assert (answer.status_code, set(answer.json())) == (202, {"lead_id", "status"})


def test_a_machine_without_dns_servers_takes_leads_all_the_same(
    tmp_state: Path, database_url: str, engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(configure: bool) -> None:
        raise NoResolverConfiguration

    monkeypatch.setattr("dns.resolver.Resolver", nothing)
    settings = parsed("{verify_in_request: {}}", mx="true")
    with capture_service(settings, database_url=database_url, engine=engine, clock=clock) as capture:
        answer = capture.post({"email": "ada@gmial.com"})
    assert answer.status_code == 202
    assert answer.json()["verification"]["email"] == {
        "standing": "unverified",
        "reasons": [],
        "suggestion": "gmail.com",
    }


def test_many_hanging_questions_hold_up_no_more_than_their_own_answers(
    open_place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_request, "MAX_ASKED_FOR", 3)
    with open_place(budget_ms=IMPATIENT_MS, rules={"*": HANGS}) as place, ThreadPoolExecutor(8) as pool:
        posts = list(pool.map(place.verdict, [f"ada@d{number}.example" for number in range(8)]))
        assert posts == [{"standing": "unverified", "reasons": ["timeout"]}] * 8
        wait_until(lambda: len(place.asked()) >= 3)
        assert len(place.asked()) == 3


def test_what_is_remembered_is_bounded(open_place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_request, "MAX_REMEMBERED", 2)
    with open_place() as place:
        for domain in ("a.example", "b.example", "c.example", "a.example"):
            place.verdict(f"ada@{domain}")
        assert place.asked() == {"a.example": 2, "b.example": 1, "c.example": 1}
    assert MAX_REMEMBERED >= 1_000


def test_every_answer_is_one_of_the_documents(place: Place) -> None:
    schemas = openapi_document(place.capture.settings)["components"]["schemas"]
    validator = Draft202012Validator({"$ref": "#/components/schemas/Stored", "components": {"schemas": schemas}})
    for email in ("ada@acme.example", "ada@gmial.com", "info@null-mx.example", "ada@servfail.example", "n/a"):
        assert list(validator.iter_errors(place.capture.post({"email": email}).json())) == []
    assert set(IN_REQUEST_REASONS) - {"placeholder"} <= REASONS


# --- what travels ----------------------------------------------------------------------------------------------------

VALID = LookupVerdict(Standing.VALID, flags=("implicit_mx",), details={"mail_provider": "google"})


def as_stored(context: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from jsonb."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(context))
    return found


def test_a_verdict_that_travelled_is_the_one_that_was_put_in() -> None:
    context = as_stored(as_context("acme.example", VALID, checked_at=NOW))
    found = mx_in_context(context, "acme.example", settings=MxSettings(), now=NOW)
    assert found is not None
    assert found.verdict == VALID


def test_a_verdict_about_another_domain_or_of_long_ago_is_not_used(clock: FrozenClock) -> None:
    context = as_context("acme.example", VALID, checked_at=clock.now())
    assert mx_in_context(context, "other.example", settings=MxSettings(), now=clock.now()) is None
    assert mx_in_context({}, "acme.example", settings=MxSettings(), now=clock.now()) is None
    clock.advance(72 * 3600)
    assert mx_in_context(context, "acme.example", settings=MxSettings(), now=clock.now()) is None


def test_a_verdict_of_an_hour_to_come_is_not_used() -> None:
    context = as_context("acme.example", VALID, checked_at=NOW + timedelta(days=3650))
    assert mx_in_context(context, "acme.example", settings=MxSettings(), now=NOW) is None


# --- configuration ---------------------------------------------------------------------------------------------------


def parsed(source: str, *, mx: str = "false") -> Settings:
    return parse_settings(
        f"version: 1\nverification: {{mx: {{enabled: {mx}}}}}\ntenants: {{acme: {{sources: {{website: {source}}}}}}}",
        path=Path("leads.yaml"),
    )


def test_asking_for_mx_where_dns_is_switched_off_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"verify_in_request looks up mx, and verification\.mx\.enabled is false"):
        parsed("{verify_in_request: {}}")
    assert parsed("{verify_in_request: {lookups: []}}").source("acme", "website") is not None
    assert parsed("{verify_in_request: {}}", mx="true").source("acme", "website") is not None


@pytest.mark.parametrize("kind", ["typeform", "gravity_forms"])
def test_a_kind_whose_answer_nobody_reads_cannot_ask(kind: str) -> None:
    secret = "secret: {env: X}, " if kind == "typeform" else ""
    with pytest.raises(ConfigError, match="verify_in_request does nothing for kind"):
        parsed(f"{{kind: {kind}, {secret}verify_in_request: {{lookups: []}}}}")


@pytest.mark.parametrize("lookup", ["mailbox", "phone"])
def test_a_paid_look_up_cannot_be_asked_for(lookup: str) -> None:
    with pytest.raises(ConfigError, match="verify_in_request"):
        parsed(f"{{verify_in_request: {{lookups: [{lookup}]}}}}", mx="true")


def test_a_door_that_nobody_asks_loads_neither_dns_nor_lists_of_mailboxes() -> None:
    code = """
import sys
from pathlib import Path
from leads_pipeline.capture.door import Door
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import parse_settings
yaml = "version: 1\\nverification: {mx: {enabled: true}}\\ntenants: {acme: {sources: {website: %s}}}"
for source in ("{}", "{verify_in_request: {}}"):
    Door(parse_settings(yaml % source, path=Path("leads.yaml")), database_url="postgresql://x", clock=SystemClock())
    print([name in sys.modules for name in ("dns", "email_validator", "leads_pipeline.capture.in_request")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["[False, False, False]", "[True, True, True]"]
