"""The adapters ask the sandbox that plays their vendor: they agree with each other, and with its bill."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import ProviderSettings
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.port import Outcome, ProviderAnswer
from leads_pipeline.verification.registry import PROVIDERS
from leads_pipeline.verification.sandbox.fates import Fate
from leads_pipeline.verification.sandbox.options import VENDORS, ProviderOptions, VendorName
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import NOW

KEY = "k3y"
MAILBOX_VENDORS = [name for name in VENDORS if PROVIDERS[name].quirks.kind is LookupKind.MAILBOX]
POLLS_AT_MOST = 10

VALID, INVALID, RISKY, UNKNOWN = Standing.VALID, Standing.INVALID, Standing.RISKY, Standing.UNKNOWN
USUAL = {
    Fate.VALID: VALID,
    Fate.MAILBOX_NOT_FOUND: INVALID,
    Fate.DOMAIN_NOT_FOUND: INVALID,
    Fate.NO_MAIL_SERVER: INVALID,
    Fate.BAD_SYNTAX: INVALID,
    Fate.CATCH_ALL: RISKY,
    Fate.DISPOSABLE: RISKY,
    Fate.ROLE: RISKY,
    Fate.FULL: RISKY,
    Fate.SPAMTRAP: RISKY,
    Fate.ABUSE: RISKY,
    Fate.TOXIC: RISKY,
    Fate.TIMEOUT: UNKNOWN,
    Fate.GREYLISTED: UNKNOWN,
    Fate.UNREACHABLE: UNKNOWN,
    Fate.OBJECTION: VALID,
}
# What a vendor does not tell apart, or says otherwise.
_NO_REPUTATION = {Fate.ABUSE: VALID, Fate.TOXIC: VALID}
UNUSUAL: dict[str, dict[Fate, Standing]] = {
    "zerobounce": {Fate.SPAMTRAP: INVALID},
    "neverbounce": {Fate.FULL: INVALID, Fate.ROLE: VALID, **_NO_REPUTATION},
    "kickbox": {Fate.FULL: INVALID},
    "hunter": {Fate.FULL: INVALID, Fate.ROLE: VALID, Fate.SPAMTRAP: VALID, Fate.OBJECTION: UNKNOWN, **_NO_REPUTATION},
    "reacher": {Fate.SPAMTRAP: VALID, **_NO_REPUTATION},
}


class _Asking:
    """A client, and the clock of the sandbox that it asks."""

    def __init__(self, vendor: VendorName, sandbox: ProviderSandbox, clock: FrozenClock, *, key: str = KEY) -> None:
        settings = ProviderSettings(vendor=vendor, base_url=sandbox.base_url, account="AC1", timeout_seconds=10)
        self._quirks = PROVIDERS[vendor].quirks
        self._clock = clock
        self.client = ProviderClient(PROVIDERS[vendor], settings, SecretStr(key))

    def answer(self, subjects: list[str]) -> ProviderAnswer:
        """The answer, waited for where the vendor makes one wait."""
        answer = self.client.ask(subjects)
        for _poll in range(POLLS_AT_MOST):
            if answer.outcome is not Outcome.POLL:
                return answer
            assert answer.poll_reference is not None
            self._clock.advance(self._quirks.poll_seconds if answer.retry_after is None else answer.retry_after)
            answer = self.client.poll(answer.poll_reference, subjects)
        raise AssertionError("the vendor never answers")

    def verdicts(self, subjects: list[str]) -> tuple[dict[str, LookupVerdict], int]:
        """All verdicts, in batches of the vendor's size, and how many were billed."""
        found: dict[str, LookupVerdict] = {}
        billed = 0
        for start in range(0, len(subjects), self._quirks.batch_size):
            answer = self.answer(subjects[start : start + self._quirks.batch_size])
            assert answer.outcome is Outcome.ANSWERED
            found |= answer.verdicts
            billed += len(answer.verdicts) if answer.billed is None else answer.billed
            self._clock.advance(1)
        return found, billed


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW)


@pytest.fixture
def asking(vendor: VendorName, clock: FrozenClock) -> Iterator[tuple[_Asking, ProviderSandbox]]:
    with running_provider_sandbox(ProviderOptions(vendor, key=KEY, account="AC1"), clock=clock) as sandbox:
        asking = _Asking(vendor, sandbox, clock)
        yield asking, sandbox
        asking.client.close()


def _billed(sandbox: ProviderSandbox) -> int:
    return sum(counts["billed"] for counts in sandbox.lookups().values())


@pytest.mark.parametrize("vendor", MAILBOX_VENDORS)
def test_every_fate_has_the_same_standing_at_every_vendor(
    vendor: VendorName, asking: tuple[_Asking, ProviderSandbox]
) -> None:  # fmt: skip
    client, sandbox = asking
    # Hunter takes no text without an @ at all.
    fates = [fate for fate in Fate if not (vendor == "hunter" and fate is Fate.BAD_SYNTAX)]
    addresses = {f"{fate.value}@Acme.example": fate for fate in fates}
    if Fate.BAD_SYNTAX in fates:
        addresses = {address: fate for address, fate in addresses.items() if fate is not Fate.BAD_SYNTAX}
        addresses["nobody"] = Fate.BAD_SYNTAX
    found, billed = client.verdicts(list(addresses))
    expected = USUAL | UNUSUAL[vendor]
    assert {addresses[address]: verdict.standing for address, verdict in found.items()} == {
        fate: expected[fate] for fate in fates
    }
    assert billed == _billed(sandbox)


@pytest.mark.parametrize("vendor", ["twilio"])
def test_every_kind_of_number_has_its_line_type_and_its_bill(
    vendor: VendorName, asking: tuple[_Asking, ProviderSandbox]
) -> None:  # fmt: skip
    client, sandbox = asking
    numbers = {
        "+14155552600": (VALID, "mobile"),
        "+14155552671": (VALID, "landline"),
        "+14155552686": (VALID, "fixed_voip"),
        "+14155552690": (RISKY, "non_fixed_voip"),
        "+14155552692": (RISKY, "toll_free"),
        "+14155552693": (RISKY, "premium"),
        "+14155552694": (UNKNOWN, None),
        "+14155552699": (INVALID, None),
        "+1415555": (INVALID, None),
        "+14165550100": (UNKNOWN, None),  # Canadian
    }
    found, billed = client.verdicts(list(numbers))
    assert {
        number: (verdict.standing, verdict.details.get("line_type")) for number, verdict in found.items()
    } == numbers
    assert billed == _billed(sandbox) == len(numbers)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_bad_key_is_refused_and_costs_nothing(
    vendor: VendorName, asking: tuple[_Asking, ProviderSandbox], clock: FrozenClock
) -> None:
    _client, sandbox = asking
    other = _Asking(vendor, sandbox, clock, key="wr0ng")
    answer = other.client.ask(["+14155552671" if vendor == "twilio" else "ada@acme.example"])
    other.client.close()
    assert answer.outcome is Outcome.REFUSED
    assert _billed(sandbox) == 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_empty_account_is_told_from_a_throttle(vendor: VendorName, clock: FrozenClock) -> None:
    with running_provider_sandbox(ProviderOptions(vendor, key=KEY, account="AC1", credit=0), clock=clock) as sandbox:
        asking = _Asking(vendor, sandbox, clock)
        answer = asking.client.ask(["+14155552671" if vendor == "twilio" else "ada@acme.example"])
        asking.client.close()
    # ZeroBounce and Twilio do not say so; Reacher has no account, only a limit for a day.
    unusual = {"zerobounce": Outcome.REFUSED, "twilio": Outcome.REFUSED, "reacher": Outcome.THROTTLED}
    assert answer.outcome is unusual.get(vendor, Outcome.OUT_OF_CREDIT)


@pytest.mark.parametrize("vendor", ["zerobounce", "hunter", "reacher"])
def test_a_throttle_is_one(vendor: VendorName, asking: tuple[_Asking, ProviderSandbox]) -> None:
    client, _sandbox = asking
    outcomes = [client.client.ask([f"valid+valid{number}@acme.example"]).outcome for number in range(61)]
    assert set(outcomes) <= {Outcome.ANSWERED, Outcome.POLL, Outcome.THROTTLED}
    window = PROVIDERS[vendor].quirks.windows[0]
    assert outcomes[window.requests] is Outcome.THROTTLED
    assert Outcome.THROTTLED not in outcomes[: window.requests]
