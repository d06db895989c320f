"""What every provider keeps, over HTTP and over recorded answers.

``recorded/VENDOR/CASE.json`` holds what a vendor answers, written by us after its documentation, and what it means. A
new adapter comes with such files and is in all the tests below by being in the registry.
"""

import copy
import json
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from leads_pipeline.config import VENDOR_BATCH_SIZES, VENDOR_LOOKUPS, ProviderSettings, VerificationSettings
from leads_pipeline.domain.verification import FLAGS, REASONS, LookupKind, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.port import Outcome, Provider, ProviderAnswer
from leads_pipeline.verification.registry import PROVIDERS
from leads_pipeline_tests.outbound.http_listener import Listener, hang_up, listening

RECORDED = Path(__file__).parent / "recorded"
CASES = sorted(RECORDED.glob("*/*.json"))
KEY = "k3y-of-acme"
SUBJECTS = {LookupKind.MAILBOX: "Ada+Leads@Example.com", LookupKind.PHONE: "+14155552671"}

VENDORS = pytest.mark.parametrize("vendor", sorted(PROVIDERS))


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def _client(vendor: str, url: str, *, key: str | None = KEY, **settings: Any) -> ProviderClient:
    given = {"vendor": vendor, "base_url": url, "account": "AC1", "timeout_seconds": 5, **settings}
    return ProviderClient(
        PROVIDERS[vendor], ProviderSettings.model_validate(given), SecretStr(key) if key else None
    )  # fmt: skip


def _subject(vendor: str) -> str:
    return SUBJECTS[PROVIDERS[vendor].quirks.kind]


@cache
def _recorded(case: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(case.read_text())
    return loaded


def _answered(vendor: str) -> list[dict[str, Any]]:
    """The recorded cases that bring verdicts."""
    cases = [_recorded(case) for case in CASES if case.parent.name == vendor]
    return [case for case in cases if case["expected"]["outcome"] == "answered" and "body" in case["answer"]]


def _read(vendor: str, body: Any, subjects: list[str], *, status: int = 200) -> ProviderAnswer:
    return PROVIDERS[vendor].read(HttpAnswer(status, {}, body), subjects)


def _shown(verdict: Any) -> dict[str, Any]:
    return {
        "standing": str(verdict.standing),
        "reasons": list(verdict.reasons),
        "flags": sorted(verdict.flags),
        "details": dict(verdict.details),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.stem}")
def test_a_recorded_answer_means_what_its_file_says(listener: Listener, case: Path) -> None:
    recorded = _recorded(case)
    answer, expected = recorded["answer"], recorded["expected"]
    listener.status, listener.headers = answer["status"], answer.get("headers", {})
    listener.content = answer["text"].encode() if "text" in answer else json.dumps(answer["body"]).encode()
    client = _client(case.parent.name, listener.url)
    found = client.ask(recorded["subjects"])
    client.close()
    assert found.outcome == expected["outcome"]
    assert {subject: _shown(verdict) for subject, verdict in found.verdicts.items()} == expected.get("verdicts", {})
    assert found.billed == expected.get("billed")
    assert found.poll_reference == expected.get("poll_reference")
    assert found.retry_after == expected.get("retry_after")
    assert found.code == expected.get("code")
    assert found.http_status == answer["status"]


def test_every_vendor_has_recorded_answers() -> None:
    assert {case.parent.name for case in CASES} == set(PROVIDERS)


def test_the_registry_is_what_can_be_configured() -> None:
    assert {vendor: str(provider.quirks.kind) for vendor, provider in PROVIDERS.items()} == VENDOR_LOOKUPS
    assert {vendor: provider.quirks.batch_size for vendor, provider in PROVIDERS.items()} == VENDOR_BATCH_SIZES


@VENDORS
def test_a_batch_that_the_vendor_does_not_take_is_refused_with_the_settings(vendor: str) -> None:
    most = PROVIDERS[vendor].quirks.batch_size
    account = {"vendor": vendor, "key": {"env": "KEY"}, "account": "AC1", "base_url": "http://127.0.0.1:9"}
    VerificationSettings.model_validate({"providers": {"ours": account | {"batch_size": most}}})
    with pytest.raises(
        ValidationError, match=rf"providers\.ours\.batch_size is {most + 1}; {vendor} takes at most {most} "
    ):
        VerificationSettings.model_validate({"providers": {"ours": account | {"batch_size": most + 1}}})


@VENDORS
def test_the_request_carries_key_and_subject_and_shows_neither(listener: Listener, vendor: str) -> None:
    provider, subject = PROVIDERS[vendor], _subject(vendor)
    client = _client(vendor, listener.url)
    client.ask([subject])
    [sent] = listener.sent
    query = parse_qs(urlsplit(sent.path).query)
    body = json.loads(sent.content) if sent.content else {}
    place, _, name = provider.quirks.key_in.partition(":")
    held = {
        "query": lambda: query[name] == [KEY],
        "body": lambda: body[name] == KEY,
        "header": lambda: sent.headers[name.lower()] == KEY,
        "basic": lambda: sent.headers["authorization"] == f"Basic {b64encode(f'AC1:{KEY}'.encode()).decode()}",
    }
    assert held[place]()
    assert subject in json.dumps(body) or subject in unquote(urlsplit(sent.path).path) or [subject] in query.values()
    request = provider.request([subject])
    shown = "".join(map(repr, (request, client, vars(client), vars(vars(client)["_transport"]))))
    assert KEY not in shown
    assert subject not in shown
    client.close()


@VENDORS
def test_a_vendor_without_connection_was_not_asked(vendor: str) -> None:
    client = _client(vendor, "http://127.0.0.1:9")
    assert client.ask([_subject(vendor)]) == ProviderAnswer(Outcome.NOT_SENT)
    client.close()


@VENDORS
def test_an_answer_that_got_lost_may_have_been_paid(listener: Listener, vendor: str) -> None:
    listener.answer_with = hang_up
    client = _client(vendor, listener.url)
    assert client.ask([_subject(vendor)]) == ProviderAnswer(Outcome.LOST)
    client.close()


@VENDORS
@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524, 408, 401, 302, 404, 405, 402, 413, 422])
@pytest.mark.parametrize("body", [None, "sorry", {}, {"error": "x"}, {"success": False, "message": "x"}])
def test_a_status_means_the_same_with_any_body(vendor: str, status: int, body: Any) -> None:
    quirks = PROVIDERS[vendor].quirks
    found = _read(vendor, body, [_subject(vendor)], status=status)
    if status in quirks.maybe_paid:
        assert found.outcome is Outcome.LOST
    elif status >= 500 or status == 408:
        assert found.outcome is Outcome.BROKEN
    elif status == 402:
        assert found.outcome is Outcome.OUT_OF_CREDIT
    elif status in (413, 422):
        assert found.outcome is Outcome.REJECTED
    else:
        assert found.outcome is Outcome.REFUSED
    assert not found.verdicts
    assert found.code == f"HTTP_{status}"


@VENDORS
@pytest.mark.parametrize("wait", ["30", "1e9", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "nan", ""])
def test_a_time_to_wait_is_taken_if_it_is_one(vendor: str, wait: str) -> None:
    found = PROVIDERS[vendor].read(HttpAnswer(503, {"retry-after": wait}, None), [_subject(vendor)])
    assert found.retry_after == {"30": 30, "1e9": 86_400}.get(wait)


@VENDORS
@pytest.mark.parametrize("body", [None, [], {}, "valid", 7, True, {"status": None}, [[]], {"email_batch": None}])
def test_a_200_that_is_not_the_vendors_may_have_been_paid(vendor: str, body: Any) -> None:
    assert _read(vendor, body, [_subject(vendor)]).outcome is Outcome.LOST


@VENDORS
def test_the_case_of_the_echoed_subject_does_not_matter(vendor: str) -> None:
    for case in _answered(vendor):
        subjects = [subject.swapcase() for subject in case["subjects"]]
        found = _read(vendor, case["answer"]["body"], subjects, status=case["answer"]["status"])
        expected = {subject.swapcase(): verdict for subject, verdict in case["expected"]["verdicts"].items()}
        assert {subject: _shown(verdict) for subject, verdict in found.verdicts.items()} == expected


@pytest.mark.parametrize("vendor", [name for name, provider in PROVIDERS.items() if provider.quirks.batch_size > 1])
def test_an_address_that_comes_twice_is_judged_and_billed_once(vendor: str) -> None:
    [case] = [case for case in _answered(vendor) if len(case["subjects"]) > 10]
    body = copy.deepcopy(case["answer"]["body"])
    entries = body["email_batch" if vendor == "zerobounce" else "results"]
    entries += copy.deepcopy(entries[::-1])
    found = _read(vendor, body, case["subjects"])
    assert {subject: _shown(verdict) for subject, verdict in found.verdicts.items()} == case["expected"]["verdicts"]
    assert found.billed == case["expected"]["billed"]


def test_of_two_verdicts_about_one_address_the_one_that_knows_counts() -> None:
    entries = [{"address": "a@example.com", "status": status} for status in ("unknown", "valid", "invalid")]
    found = _read("zerobounce", {"email_batch": entries}, ["a@example.com", "A@Example.com"])
    assert {subject: verdict.standing for subject, verdict in found.verdicts.items()} == {
        "a@example.com": Standing.VALID,
        "A@Example.com": Standing.VALID,
    }


@VENDORS
def test_what_is_asked_again_is_asked_over_http(listener: Listener, vendor: str) -> None:
    provider, subject = PROVIDERS[vendor], _subject(vendor)
    references = {"neverbounce": ["150970", "150970.results"], "hunter": ["again"]}.get(vendor)
    if references is None:
        with pytest.raises(NotImplementedError):
            provider.poll("1", [subject])
        return
    client = _client(vendor, listener.url)
    for reference in references:
        assert client.poll(reference, [subject]).outcome is Outcome.LOST  # {} says nothing; a lost poll is asked again
    asked = [(sent.method, urlsplit(sent.path).path, sent.content) for sent in listener.sent]
    client.close()
    expected = {
        "neverbounce": [
            ("POST", "/v4.2/jobs/status", {"job_id": 150970, "key": KEY}),
            ("POST", "/v4.2/jobs/results", {"job_id": 150970, "page": 1, "items_per_page": 1000, "key": KEY}),
        ],
        "hunter": [("GET", "/v2/email-verifier", None)],
    }[vendor]
    assert [(method, path, json.loads(content) if content else None) for method, path, content in asked] == expected


def test_hunter_is_polled_with_the_same_request() -> None:
    hunter = PROVIDERS["hunter"]
    assert hunter.poll("again", ["ada@example.com"]) == hunter.request(["ada@example.com"])


@pytest.mark.parametrize("vendor", [name for name, provider in PROVIDERS.items() if provider.quirks.batch_size == 1])
@pytest.mark.parametrize("subjects", [[], ["a@example.com", "b@example.com"]])
def test_a_vendor_of_single_look_ups_takes_exactly_one(vendor: str, subjects: list[str]) -> None:
    with pytest.raises(ValueError, match="one at a time"):
        PROVIDERS[vendor].request(subjects)


def test_zerobounce_is_given_up_only_after_it_has_given_up_itself() -> None:
    body = PROVIDERS["zerobounce"].request(["a@example.com"]).body
    assert body is not None
    assert body["timeout"] < ProviderSettings.model_fields["timeout_seconds"].default


@VENDORS
def test_the_quirks_are_possible(vendor: str) -> None:
    quirks = PROVIDERS[vendor].quirks
    assert quirks.vendor == vendor
    assert quirks.batch_size > 0
    assert quirks.in_flight > 0
    assert quirks.windows
    assert quirks.base_url.startswith("https://" if vendor != "reacher" else "http://127.0.0.1")
    assert quirks.poll_patience_seconds > quirks.poll_seconds > 0


def test_reacher_may_have_no_secret(listener: Listener) -> None:
    client = _client("reacher", listener.url, key=None)
    client.ask(["ada@example.com"])
    client.close()
    assert "x-reacher-secret" not in listener.sent[0].headers


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["valid", "unknown"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
STATUSES = st.sampled_from(
    [200, 200, 200, 201, 202, 204, 222, 301, 400, 401, 402, 403, 404, 429, 451, 500, 503, 524, 599]
)


def _is_sound(provider: Provider, found: ProviderAnswer, subjects: list[str]) -> None:
    assert isinstance(found.outcome, Outcome)
    assert set(found.verdicts) <= set(subjects)
    assert not found.verdicts or found.outcome is Outcome.ANSWERED
    assert found.billed is None or 0 <= found.billed <= len(subjects)
    assert (found.outcome is Outcome.POLL) == (found.poll_reference is not None)
    if found.poll_reference is not None:
        provider.poll(found.poll_reference, subjects)
    for verdict in found.verdicts.values():
        assert verdict.reasons
        assert set(verdict.reasons) <= REASONS
        assert set(verdict.flags) <= FLAGS
    if found.outcome is Outcome.POLL or found.code is not None:
        assert "@" not in f"{found.poll_reference}{found.code}"
    details = [value for verdict in found.verdicts.values() for value in verdict.details.values()]
    assert all(
        isinstance(value, str) and len(value) <= 40 and "@" not in value and " " not in value for value in details
    )
    json.dumps(details).encode()


@given(body=ODD, status=STATUSES)
@VENDORS
def test_no_answer_however_odd_raises_or_leaves_our_words(vendor: str, body: Any, status: int) -> None:
    subjects = [_subject(vendor)]
    _is_sound(PROVIDERS[vendor], _read(vendor, body, subjects, status=status), subjects)


def _places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path, *(place for key, value in inner for place in _places(value, (*path, key)))]


def _replaced(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(body)
    changed[path[0]] = _replaced(body[path[0]], path[1:], value)
    return changed


@given(data=st.data(), odd=ODD, status=STATUSES)
@VENDORS
def test_a_recorded_answer_with_something_odd_in_it_does_not_raise(
    vendor: str, data: st.DataObject, odd: Any, status: int
) -> None:
    cases = [_recorded(case) for case in CASES if case.parent.name == vendor]
    case = data.draw(st.sampled_from([case for case in cases if "body" in case["answer"]]))
    body = case["answer"]["body"]
    changed = _replaced(body, data.draw(st.sampled_from(_places(body))), odd)
    _is_sound(PROVIDERS[vendor], _read(vendor, changed, case["subjects"], status=status), case["subjects"])
    assert _read(vendor, changed, [], status=status).verdicts == {}
