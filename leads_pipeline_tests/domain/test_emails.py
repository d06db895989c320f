"""E-mail addresses: what is taken, what is compared, what is only noticed."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.data import mailboxes
from leads_pipeline.domain.emails import Email, EmailFault, parse_email, suggested_domain


def taken(raw: str) -> Email:
    email = parse_email(raw)
    assert isinstance(email, Email), email
    return email


def refused(raw: str) -> tuple[str, str]:
    fault = parse_email(raw)
    assert isinstance(fault, EmailFault), fault
    return fault.rule, fault.value_class


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("Anna.Smith@Example.COM", "Anna.Smith@example.com"),
        ("  anna@firm.com\u200b ", "anna@firm.com"),
        ("mailto:anna@firm.com?subject=hello", "anna@firm.com"),
        ("Anna Smith <anna@firm.com>", "anna@firm.com"),
        ("INFO@firm.com", "info@firm.com"),
        ("anna@Müller.de", "anna@müller.de"),
        ("anna@xn--mller-kva.de", "anna@müller.de"),
        ("o'brien+x/y@firm.com", "o'brien+x/y@firm.com"),
    ],
)
def test_an_address_is_kept_deliverable_with_the_case_of_its_local_part(raw: str, address: str) -> None:
    assert taken(raw).address == address


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("Anna.Smith+spring@GMAIL.com", "annasmith@gmail.com"),
        ("anna.smith@googlemail.com", "annasmith@gmail.com"),
        ("Anna.Smith+spring@outlook.com", "anna.smith@outlook.com"),
        ("Anna.Smith+spring@firm.com", "anna.smith+spring@firm.com"),
        ("anna@Müller.de", "anna@xn--mller-kva.de"),
        ("+tag@gmail.com", "+tag@gmail.com"),
    ],
)
def test_the_match_key_drops_only_what_the_provider_ignores(raw: str, key: str) -> None:
    assert taken(raw).key == key


@pytest.mark.parametrize(
    ("raw", "value_class"),
    [
        ("anna.firm.com", "no_at_sign"),
        ("anna@firm.com; bob@firm.com", "several_addresses"),
        ("anna@firm.com, bob@firm.com", "several_addresses"),
        ("anna@firm", "bad_domain"),
        ("anna@localhost", "bad_domain"),
        ("anna@-firm.com", "bad_domain"),
        ("anna@", "bad_domain"),
        ("@firm.com", "bad_local_part"),
        ("an na@firm.com", "bad_local_part"),
        (".anna@firm.com", "bad_local_part"),
        ("an..na@firm.com", "bad_local_part"),
        ("a" * 65 + "@firm.com", "address_too_long"),
    ],
)
def test_a_malformed_address_is_refused_with_its_class(raw: str, value_class: str) -> None:
    assert refused(raw) == ("email_invalid", value_class)


@pytest.mark.parametrize("raw", ["n/a", "none", "-", "test@test.com", "noemail@firm.com", "a@a.com", "email@email.com"])
def test_a_placeholder_is_not_taken_for_an_address(raw: str) -> None:
    assert refused(raw) == ("email_placeholder", "placeholder")


@pytest.mark.parametrize("raw", ["test@firm.com", "anna@test.com", "a@b.com", "doe@mail.com"])
def test_an_address_that_only_looks_like_a_placeholder_on_one_side_is_taken(raw: str) -> None:
    assert taken(raw).address == raw


@pytest.mark.parametrize(
    ("raw", "flags"),
    [
        ("sales@firm.com", {"role_mailbox"}),
        ("sales+spring@gmail.com", {"role_mailbox", "free_mailbox"}),
        ("anna@gmail.com", {"free_mailbox"}),
        ("anna@mailinator.com", {"disposable_mailbox"}),
        ("anna@gmial.com", {"email_typo_suspected"}),
        ("anna@firm.example", {"email_domain_reserved"}),
        ("anna@firm.com", set()),
    ],
)
def test_what_is_noticed_about_a_mailbox_does_not_refuse_it(raw: str, flags: set[str]) -> None:
    assert set(taken(raw).flags) == flags


def test_a_misspelt_provider_on_the_disposable_list_is_a_typo_first() -> None:
    assert "gmial.com" in mailboxes.DISPOSABLE_DOMAINS
    email = taken("anna@gmial.com")
    assert (email.address, email.suggestion) == ("anna@gmial.com", "gmail.com")
    assert "disposable_mailbox" not in email.flags


@pytest.mark.parametrize(
    "domain", ["gmal.com", "gmaill.com", "gamil.com", "gmail.co", "hotmial.com", "yahooo.com", "outlok.com"]
)
def test_a_slip_in_a_large_providers_name_is_suspected(domain: str) -> None:
    assert suggested_domain(domain) is not None


@pytest.mark.parametrize(
    "domain",
    [
        "cox.com",
        "wise.com",
        "mail.com",
        "ymail.com",
        "hotmail.ca",
        "hotmail.fr",
        "yahoo.co.jp",
        "gmx.com",
        "live.se",
        "outlook.cz",
        "hotmail.bg",
        "five.com",
        "firm.com",
    ],
)
def test_other_providers_and_companies_are_not_taken_for_a_slip(domain: str) -> None:
    assert suggested_domain(domain) is None


def test_no_free_provider_is_itself_suspected() -> None:
    assert [domain for domain in sorted(mailboxes.FREE_DOMAINS) if suggested_domain(domain)] == []


LOCAL_CHARACTERS = "abzABZ019.!#$%&'*+/=?^_`{|}~-\"(),:;<>[]\\ éßñ用"
DOMAINS = st.sampled_from(
    [
        "firm.com",
        "FIRM.com",
        "gmail.com",
        "müller.de",
        "xn--mller-kva.de",
        "a-b.co.uk",
        "firm",
        "localhost",
        "-a.com",
        "a..com",
        "x.test",
    ]
)


@settings(max_examples=400, deadline=None)
@given(local=st.text(alphabet=LOCAL_CHARACTERS, max_size=70), domain=DOMAINS)
@example(local="INFO", domain="firm.com")
@example(local="Sales", domain="müller.de")
@example(local="a" * 64, domain="firm.com")
@example(local="a" * 65, domain="firm.com")
def test_the_short_way_agrees_with_email_validator(local: str, domain: str) -> None:
    """Where ours takes an address, it is the library's normal form; where the library refuses one, so do we."""
    address = f"{local}@{domain}"
    try:
        expected = validate_email(address, check_deliverability=False, test_environment=True, strict=True).normalized
    except EmailNotValidError:
        expected = None
    ours = parse_email(address)
    if any(character in address for character in ' ,;<>"') or address.count("@") != 1:
        return  # display names and lists of addresses are read before the syntax is
    if isinstance(ours, EmailFault) and ours.rule == "email_placeholder":
        assert expected is not None or local == ""
        return
    assert (ours.address if isinstance(ours, Email) else None) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gets_an_answer(raw: str) -> None:
    assert isinstance(parse_email(raw), Email | EmailFault)


@settings(max_examples=200, deadline=None)
@given(local=st.from_regex(r"[A-Za-z0-9]{1,10}(\.[A-Za-z0-9]{1,10})?(\+[a-z]{1,5})?", fullmatch=True), domain=DOMAINS)
def test_a_key_is_the_key_of_itself(local: str, domain: str) -> None:
    email = parse_email(f"{local}@{domain}")
    if isinstance(email, Email):
        again = parse_email(email.key)
        assert not isinstance(again, Email) or again.key == email.key


def test_a_top_level_domain_of_one_letter_is_no_domain() -> None:
    fault = parse_email("ellie@oguzmanco.m")

    assert isinstance(fault, EmailFault)
    assert fault.value_class == "bad_domain"
