"""Every line of the golden corpora is read as it says, whichever library reads phone numbers."""

import pytest

from leads_pipeline.domain.emails import Email, parse_email
from leads_pipeline.domain.phone_engines import REFERENCE, PhoneEngine, accelerated
from leads_pipeline.domain.phones import Phone, parse_phone
from leads_pipeline_tests.domain.corpora import EmailLine, PhoneLine, email_lines, phone_lines

ENGINES = [engine for engine in (REFERENCE, accelerated()) if engine is not None]


@pytest.mark.parametrize("line", email_lines(), ids=lambda line: line.why)
def test_an_address_is_read_as_the_corpus_says(line: EmailLine) -> None:
    found = parse_email(line.raw)

    if not isinstance(found, Email):
        assert f"!{found.rule}/{found.value_class}" == line.outcome
        return
    key = line.outcome.lower() if line.key == "=" else line.key
    assert (found.address, found.key) == (line.outcome, key)
    assert (" ".join(sorted(found.flags)), found.suggestion or "") == (line.flags, line.suggestion)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("line", phone_lines(), ids=lambda line: line.why)
def test_a_number_is_read_as_the_corpus_says(line: PhoneLine, engine: PhoneEngine) -> None:
    found = parse_phone(line.raw, country=line.country, engine=engine)

    if not isinstance(found, Phone):
        assert f"!{found.rule}/{found.value_class}" == line.outcome
        return
    told = (found.number, found.region or "", found.type, found.time_zone or "", " ".join(found.flags))
    assert told == (line.outcome, line.region, line.type, line.time_zone, line.flags)


def test_every_line_says_why_it_is_there_and_none_stands_twice() -> None:
    emails, phones = email_lines(), phone_lines()

    assert all(line.why for line in [*emails, *phones])
    assert len({line.raw for line in emails}) == len(emails) >= 150
    assert len({(line.raw, line.country) for line in phones}) == len(phones) >= 150


def test_mailboxes_that_the_corpus_keeps_apart_are_never_compared_equal() -> None:
    """Each key belongs to one mailbox: the one that its lines with this key reach."""
    mailboxes: dict[str, set[str]] = {}
    for line in email_lines():
        found = parse_email(line.raw)
        if isinstance(found, Email):
            local, _, domain = found.address.lower().rpartition("@")
            if domain in ("gmail.com", "googlemail.com"):
                domain, local = "gmail.com", local.replace(".", "")
            if domain in (
                "gmail.com",
                "outlook.com",
                "hotmail.com",
                "live.com",
                "icloud.com",
                "fastmail.com",
                "proton.me",
            ):
                local = local.partition("+")[0] or local
            mailboxes.setdefault(found.key, set()).add(f"{local}@{domain}")
    assert {key: reached for key, reached in mailboxes.items() if len(reached) > 1} == {}
