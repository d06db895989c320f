"""Every adapter against its vendor's sandbox: what the sandbox plays is what the adapter understands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MxSettings, ProviderSettings
from leads_pipeline.domain.verification import LookupKind, Standing
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.mx import MxResolver
from leads_pipeline.verification.port import Outcome, ProviderAnswer
from leads_pipeline.verification.registry import PROVIDERS
from leads_pipeline.verification.sandbox.dns import running_dns_sandbox
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind
from leads_pipeline.verification.sandbox.options import VENDORS, ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox

KEY = "live_k3y"
ACCOUNT = "AC1"

every_vendor = pytest.mark.parametrize("vendor", VENDORS)
every_mailbox_vendor = pytest.mark.parametrize(
    "vendor", [name for name in VENDORS if PROVIDERS[name].quirks.kind is LookupKind.MAILBOX]
)
# Reacher is one's own server: it has no account that could be empty.
every_paid_vendor = pytest.mark.parametrize("vendor", [name for name in VENDORS if name != "reacher"])


class Asked:
    """A sandbox and the adapter that asks it, until an answer that has to be polled for is there."""

    def __init__(self, vendor: str, sandbox: ProviderSandbox, clock: FrozenClock, *, key: str) -> None:
        self.sandbox = sandbox
        self._clock = clock
        self._quirks = PROVIDERS[vendor].quirks
        settings = ProviderSettings.model_validate(
            {"vendor": vendor, "base_url": sandbox.base_url, "account": ACCOUNT, "timeout_seconds": 10}
        )
        self.client = ProviderClient(PROVIDERS[vendor], settings, SecretStr(key))

    def __call__(self, *subjects: str) -> ProviderAnswer:
        answer = self.client.ask(subjects)
        while answer.outcome is Outcome.POLL:
            assert answer.poll_reference is not None
            self._clock.advance(self._quirks.poll_seconds if answer.retry_after is None else answer.retry_after)
            answer = self.client.poll(answer.poll_reference, subjects)
        return answer


@contextmanager
def asked(vendor: Any, clock: FrozenClock, *, key: str = KEY, **options: Any) -> Iterator[Asked]:
    played = ProviderOptions(vendor, key=KEY, account=ACCOUNT, **options)
    with running_provider_sandbox(played, clock=clock) as sandbox:
        both = Asked(vendor, sandbox, clock, key=key)
        try:
            yield both
        finally:
            both.client.close()


def _good(vendor: str) -> str:
    return "+12025550142" if vendor == "twilio" else "valid@acme.example"


def verdict(answer: ProviderAnswer) -> tuple[str, tuple[str, ...]]:
    assert answer.outcome is Outcome.ANSWERED, answer
    ((_subject, found),) = answer.verdicts.items()
    return found.standing.value, found.reasons


@every_vendor
def test_a_good_subject_is_found_and_billed_once(vendor: str, clock: FrozenClock):
    with asked(vendor, clock) as ask:
        answer = ask(_good(vendor))

        assert verdict(answer)[0] == "valid"
        assert (answer.billed, ask.sandbox.report()["billed"]) == (1, 1)
        assert ask.sandbox.report()["calls_over_limit"] == 0


# standing and reason, where a vendor says why
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mailbox-not-found@acme.example", {"invalid": {"mailbox_not_found"}}),
        ("ada@acme.invalid", {"invalid": {"domain_not_found", "no_mail_server", "other"}}),
        ("ada@null-mx.example", {"invalid": {"no_mail_server", "domain_not_found", "other"}}),
        ("ada+catch-all@acme.example", {"risky": {"accepts_all"}}),
        ("disposable@acme.example", {"risky": {"disposable"}}),
        ("greylisted@acme.example", {"unknown": None}),
        ("timeout@acme.example", {"unknown": None}),
        ("unreachable@acme.example", {"unknown": None}),
        ("ada@servfail.example", {"unknown": None}),
    ],
)
@every_mailbox_vendor
def test_what_is_wrong_with_an_address_is_understood(
    vendor: str, clock: FrozenClock, address: str, said: dict[str, set[str] | None]
):
    with asked(vendor, clock) as ask:
        answer = ask(address)

    standing, reasons = verdict(answer)
    assert standing in said
    allowed = said[standing]
    assert allowed is None or set(reasons) & allowed, (standing, reasons)


@every_mailbox_vendor
def test_what_the_adapter_takes_for_billed_is_what_the_vendor_bills(vendor: str, clock: FrozenClock):
    batch = PROVIDERS[vendor].quirks.batch_size
    addresses = [f"person{number}@acme.example" for number in range(100)]
    addresses += [f"{word}@acme.example" for word in ("disposable", "role", "abuse", "spamtrap", "full")]
    addresses += ["ada@gmail.com", "ada@acme.invalid", "ada@servfail.example"]
    with asked(vendor, clock, limited=False) as ask:
        answers = [ask(*addresses[start : start + batch]) for start in range(0, len(addresses), batch)]
        report = ask.sandbox.report()

    assert {answer.outcome for answer in answers} == {Outcome.ANSWERED}
    assert sum(len(answer.verdicts) for answer in answers) == len(addresses)
    assert sum(answer.billed or 0 for answer in answers) == report["billed"]
    assert report["billed_twice"] == report["looked_up_twice"] == 0


@every_mailbox_vendor
def test_the_mix_of_verdicts_is_a_realistic_one(vendor: str, clock: FrozenClock):
    batch = PROVIDERS[vendor].quirks.batch_size
    addresses = [f"person{number}@acme.example" for number in range(400)]
    standings: list[Standing] = []
    with asked(vendor, clock, limited=False) as ask:
        for start in range(0, len(addresses), batch):
            standings += [found.standing for found in ask(*addresses[start : start + batch]).verdicts.values()]

    shares = {standing: standings.count(standing) / len(addresses) for standing in Standing}
    assert shares[Standing.VALID] == pytest.approx(0.8, abs=0.05)
    assert 0.05 < shares[Standing.INVALID] < 0.13
    assert 0.02 < shares[Standing.UNKNOWN] < 0.09


@every_vendor
def test_a_wrong_key_is_a_matter_for_a_person(vendor: str, clock: FrozenClock):
    with asked(vendor, clock, key="another") as ask:
        assert ask(_good(vendor)).outcome is Outcome.REFUSED
        assert ask.sandbox.report()["unauthorized"] == 1


@every_paid_vendor
def test_an_empty_account_is_a_matter_for_a_person(vendor: str, clock: FrozenClock):
    with asked(vendor, clock, credit=0) as ask:
        answer = ask(_good(vendor))

        # ZeroBounce and Twilio say the same of it as of a wrong key, or of a closed account.
        refused = vendor in ("zerobounce", "twilio")
        assert answer.outcome is (Outcome.REFUSED if refused else Outcome.OUT_OF_CREDIT)
        assert ask.sandbox.report()["looked_up"] == 0


@every_vendor
def test_a_throttle_is_known_whatever_it_looks_like(vendor: str, clock: FrozenClock):
    with asked(vendor, clock, calls_per_minute=1) as ask:
        other = "+12025550143" if vendor == "twilio" else "ada@acme.example"
        assert ask.client.ask([_good(vendor)]).outcome in (Outcome.ANSWERED, Outcome.POLL)
        assert ask.client.ask([other]).outcome is Outcome.THROTTLED
        assert ask.sandbox.report()["calls_over_limit"] == 1
        assert other not in ask.sandbox.lookups()


@pytest.mark.parametrize(
    ("kind", "outcome", "looked_up"),
    [
        ("http_500", Outcome.BROKEN, 0),
        ("http_503", Outcome.BROKEN, 0),
        ("auth", Outcome.REFUSED, 0),
        ("throttle", Outcome.THROTTLED, 0),
        ("reset_connection", Outcome.LOST, 0),
        ("answered_then_lost", Outcome.LOST, 1),
    ],
)
@every_vendor
def test_faults_are_what_they_are_called(vendor: str, clock: FrozenClock, kind: str, outcome: Outcome, looked_up: int):
    with asked(vendor, clock) as ask:
        ask.sandbox.set_faults([{"kind": kind, "count": 1}])

        assert ask.client.ask([_good(vendor)]).outcome is outcome
        assert ask.sandbox.report()["billed"] == looked_up
        assert ask(_good(vendor)).outcome is Outcome.ANSWERED


@every_vendor
def test_the_limits_of_the_adapter_are_never_above_those_of_the_vendor(vendor: str, clock: FrozenClock):
    quirks = PROVIDERS[vendor].quirks
    with asked(vendor, clock) as ask:
        # The adapter asks in batches.
        played = [window for window in ask.sandbox.report()["windows"] if window["limit"] != "single"]

    for window in played:
        ours = [limit for limit in quirks.windows if limit.seconds <= window["seconds"]]
        allowed = min(limit.requests * window["seconds"] // limit.seconds for limit in ours) if ours else None
        if window["seconds"] == 86_400 and quirks.daily is not None:
            allowed = quirks.daily
        assert allowed is not None
        assert allowed <= window["requests"]


def test_an_objection_is_respected_and_costs_nothing(clock: FrozenClock):
    with asked("hunter", clock) as ask:
        assert verdict(ask("objection@acme.example")) == ("unknown", ("personal_data_objection",))
        assert ask.sandbox.report()["billed"] == 0


def test_a_pending_answer_is_billed_once_however_often_it_is_asked_for(clock: FrozenClock):
    with asked("hunter", clock, pending_seconds=20) as ask:
        assert verdict(ask("pending@acme.example"))[0] == "valid"

        assert ask.sandbox.report()["endpoints"] == {"email-verifier": 5}
        assert ask.sandbox.lookups() == {"pending@acme.example": {"looked_up": 1, "billed": 1}}


def test_kickboxs_own_sandbox_answers_by_the_local_part_for_nothing(clock: FrozenClock):
    with running_provider_sandbox(ProviderOptions("kickbox"), clock=clock) as sandbox:
        ask = Asked("kickbox", sandbox, clock, key="test_1")
        try:
            found = {
                word: verdict(ask(f"ada+{word}@acme.example"))
                for word in ("rejected-email", "accept-all", "timeout", "whatever")
            }
            broke = ask("insufficient-balance@acme.example")
        finally:
            ask.client.close()

        assert found == {
            "rejected-email": ("invalid", ("mailbox_not_found",)),
            "accept-all": ("risky", ("accepts_all",)),
            "timeout": ("unknown", ("timeout",)),
            "whatever": ("valid", ("mailbox_exists",)),
        }
        assert broke.outcome is Outcome.OUT_OF_CREDIT
        assert sandbox.report()["billed"] == 0


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("+12025550142", ("valid", "mobile")),
        ("+12025550175", ("valid", "landline")),
        ("+12025550186", ("valid", "fixed_voip")),
        ("+12025550190", ("risky", "non_fixed_voip")),
        ("+12025550192", ("risky", "toll_free")),
        ("+12025550193", ("risky", "premium")),
        ("+12025550194", ("unknown", None)),
        ("+12025550199", ("invalid", None)),
        ("+1202555", ("invalid", None)),
        ("+14165550142", ("unknown", None)),  # Canada needs an approval
    ],
)
def test_a_number_says_what_it_is(clock: FrozenClock, number: str, said: tuple[str, str | None]):
    with asked("twilio", clock) as ask:
        answer = ask(number)

    found = answer.verdicts[number]
    assert (found.standing.value, found.details.get("line_type")) == said


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ("acme.example", ("valid", ())),
        ("no-mx.example", ("valid", ())),
        ("cname.example", ("valid", ())),
        ("truncated.example", ("valid", ())),
        ("null-mx.example", ("invalid", ("null_mx",))),
        ("nodata.example", ("invalid", ("no_mail_server",))),
        ("nxdomain.example", ("invalid", ("domain_not_found",))),
        ("acme.invalid", ("invalid", ("domain_not_found",))),
        ("servfail.example", ("unknown", ("dns_failure",))),
        ("refused.example", ("unknown", ("dns_failure",))),
        ("referral.example", ("unknown", ("dns_failure",))),
        ("timeout.example", ("unknown", ("dns_failure",))),
        ("wrong-id.example", ("unknown", ("dns_failure",))),
        ("wrong-name.example", ("unknown", ("dns_failure",))),
        ("garbage.example", ("unknown", ("dns_failure",))),
    ],
)
def test_dns_is_believed_where_it_can_be(domain: str, said: tuple[str, tuple[str, ...]]):
    silent = ("timeout.example", "wrong-id.example", "wrong-name.example", "garbage.example")
    seconds = 0.2 if domain in silent else 30
    with running_dns_sandbox() as dns:
        settings = MxSettings(enabled=True, resolvers=(dns.address,), timeout_seconds=seconds, queries_per_second=1000)
        found = MxResolver(settings).look_up([domain], deadline_seconds=100)[domain]

    assert (found.standing.value, found.reasons) == said


def test_a_portal_that_answers_every_name_is_not_believed():
    with running_dns_sandbox({"*": DnsRule(DomainKind.NO_MX, addresses=("203.0.113.80",))}) as dns:
        settings = MxSettings(enabled=True, resolvers=(dns.address,), timeout_seconds=30, queries_per_second=1000)
        found = MxResolver(settings).look_up(["acme.example"], deadline_seconds=100)["acme.example"]

    assert found.standing is Standing.UNKNOWN
