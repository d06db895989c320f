"""E-mail addresses: what is taken, what is compared, what is only noticed."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leads_pipeline.domain import emails
from leads_pipeline.domain.data import mailboxes
from leads_pipeline.domain.emails import Email, EmailFault, parse_email, suggested_domain
from leads_pipeline.domain.mailbox_lists import KNOWN
from leads_pipeline.domain.text import cleaned
from leads_pipeline.synthetic.leads import generate_leads
from leads_pipeline_tests.domain.corpora import email_lines


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
LOCAL_PARTS = st.one_of(
    st.text(alphabet=LOCAL_CHARACTERS, max_size=70),
    st.from_regex(r"[A-Za-z0-9]{1,9}([._+-][A-Za-z0-9]{1,9}){0,3}", fullmatch=True),
    st.sampled_from(
        ["info", "INFO", "Sales", "postMaster", "www", "contact", "Contact", "sales+x", "a" * 64, "a" * 65]
    ),
)
TOP_LEVELS = [
    "com",
    "co.uk",
    "museum",
    "c",
    "xn--p1ai",
    "рф",
    "test",
    "example",
    "local",
    "onion",
    "arpa",
    "invalid",
    "1a",
]
DOMAINS = st.one_of(
    st.sampled_from(
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
        ]
    ),
    st.builds(
        lambda labels, top: ".".join([*labels, top]),
        st.lists(
            st.one_of(
                st.text(alphabet="abzAZ019-", max_size=8),
                st.text(alphabet="abz-ÄäßéΩж用。．_ ", max_size=6),
                st.sampled_from(["xn--mller-kva", "xn--", "ab--c", "a" * 63, "a" * 64, "Straße"]),
            ),
            min_size=1,
            max_size=4,
        ),
        st.sampled_from(TOP_LEVELS),
    ),
)


def changed(raw: str, edits: list[tuple[int, str, str]]) -> str:
    """``raw`` with single characters inserted, replaced and taken out."""
    for place, kind, character in edits:
        at = place % (len(raw) + 1)
        raw = raw[:at] + (character if kind != "delete" else "") + raw[at + (kind != "insert") :]
    return raw


EDITS = st.lists(
    st.tuples(
        st.integers(0, 80),
        st.sampled_from(["insert", "replace", "delete"]),
        st.sampled_from("aZ0.-_+@' \u200b\t\u0000éÜß用。\"\\()"),
    ),
    max_size=3,
)
FUZZED_CORPUS = st.builds(changed, st.sampled_from([line.raw for line in email_lines()]), EDITS)


def expected_of(address: str) -> str | None:
    """What email-validator makes of it."""
    try:
        return validate_email(address, check_deliverability=False, test_environment=True, strict=True).normalized
    except EmailNotValidError:
        return None


def agrees(address: str) -> None:
    """Where ours takes an address, it is the library's normal form; where the library refuses one, so do we.

    Two things are ours: placeholders, and top-level domains of one letter, which no CRM takes.
    """
    expected, ours = expected_of(address), parse_email(address)
    if isinstance(ours, EmailFault):
        top_level = (expected or "").rpartition(".")[2]
        one_letter = len(top_level) == 1 and top_level.isascii()
        assert expected is None or ours.rule == "email_placeholder" or one_letter
    else:
        assert ours.address == expected


def is_one_address(text: str) -> bool:
    """Not a display name, a list or a link: those are read before the syntax is."""
    return text.count("@") == 1 and not set(text) & set(" ,;<>＠") and not text.lower().startswith("mailto:")


@settings(max_examples=1000, deadline=None)
@given(local=LOCAL_PARTS, domain=DOMAINS)
@example(local="INFO", domain="firm.com")
@example(local="Sales", domain="müller.de")
@example(local="a" * 64, domain="firm.com")
@example(local="a" * 65, domain="firm.com")
@example(local="a", domain="firm.local")
def test_the_short_ways_agree_with_email_validator(local: str, domain: str) -> None:
    address = cleaned(f"{local}@{domain}")
    if is_one_address(address):
        agrees(address)


@settings(max_examples=1000, deadline=None)
@given(FUZZED_CORPUS)
def test_they_agree_on_a_fuzzed_corpus(raw: str) -> None:
    address = cleaned(raw)
    if is_one_address(address):
        agrees(address)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=40))
@example("firm.com")
@example("a" * 63 + ".com")
@example("a" * 64 + ".com")
@example(("a" * 60 + ".") * 4 + "com")
@example(("a" * 61 + ".") * 4 + "comcom")
def test_a_domain_that_is_plain_to_us_is_one_to_email_validator(domain: str) -> None:
    if emails._is_plain(domain):
        found = validate_email(f"a@{domain}", check_deliverability=False, test_environment=True)
        assert (found.ascii_domain, found.domain) == (domain, domain)


@settings(max_examples=400, deadline=None)
@given(st.one_of(FUZZED_CORPUS, st.builds("{}@{}".format, LOCAL_PARTS, DOMAINS)))
def test_reading_what_was_read_changes_nothing(raw: str) -> None:
    email = parse_email(raw)
    if isinstance(email, Email):
        assert parse_email(email.address) == email


PROVIDERS = [
    "gmail.com",
    "googlemail.com",
    "outlook.com",
    "yahoo.com",
    "firm.com",
    "müller.de",
    "mueller.de",
    "GMAIL.com",
]
SHORT_LOCAL_PARTS = st.from_regex(r"[abAß](\.?[abAß]){0,2}(\+[ab])?", fullmatch=True)


@settings(max_examples=1000, deadline=None)
@given(SHORT_LOCAL_PARTS, st.sampled_from(PROVIDERS), SHORT_LOCAL_PARTS, st.sampled_from(PROVIDERS))
@example("a.b", "outlook.com", "ab", "outlook.com")
@example("a.b", "gmail.com", "ab", "googlemail.com")
@example("a+b", "yahoo.com", "a", "yahoo.com")
@example("ß", "firm.com", "ss", "firm.com")
def test_keys_are_equal_for_one_mailbox_and_for_no_two(one: str, at: str, other: str, other_at: str) -> None:
    """Stated here once more, provider by provider, as each says what reaches the same mailbox."""

    def mailbox(local: str, domain: str) -> tuple[str, str]:
        local, domain = local.lower(), domain.lower()
        if domain in ("gmail.com", "googlemail.com"):
            return local.partition("+")[0].replace(".", ""), "gmail.com"
        return (local.partition("+")[0] if domain == "outlook.com" else local), domain

    first, second = parse_email(f"{one}@{at}"), parse_email(f"{other}@{other_at}")
    if isinstance(first, Email) and isinstance(second, Email):
        assert (first.key == second.key) == (mailbox(one, at) == mailbox(other, other_at))


@pytest.mark.parametrize("target", mailboxes.TYPO_TARGETS)
def test_nearly_every_single_slip_in_a_large_providers_name_is_suspected(target: str) -> None:
    name, _, top = target.partition(".")
    slips = {name[:at] + name[at + 1 :] for at in range(1, len(name))}
    slips |= {name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in range(1, len(name) - 1)}
    slips |= {name[:at] + letter + name[at:] for at in range(1, len(name)) for letter in "aeiouln"}
    slips |= {name[:at] + letter + name[at + 1 :] for at in range(1, len(name)) for letter in "aeiouln"}
    domains = {f"{slip}.{top}" for slip in slips} - {target} - mailboxes.FREE_DOMAINS
    domains = {domain for domain in domains if not KNOWN.is_disposable(domain)}

    assert {domain for domain in domains if suggested_domain(domain) is None} == set()


def test_companies_are_not_taken_for_slips() -> None:
    """Names of the synthetic companies: none of them is anybody's misspelling."""
    payloads = [lead.payload for lead in generate_leads(3_000, seed=9)]
    domains = {payload["email"].rpartition("@")[2].lower() for payload in payloads if "@" in payload.get("email", "")}
    firms = {domain for domain in domains if domain.endswith((".example", ".test"))}

    assert len(firms) > 300
    assert {domain for domain in firms if suggested_domain(domain)} == set()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gets_an_answer(raw: str) -> None:
    assert isinstance(parse_email(raw), Email | EmailFault)


@settings(max_examples=200, deadline=None)
@given(st.one_of(FUZZED_CORPUS, st.builds("{}@{}".format, LOCAL_PARTS, DOMAINS)))
def test_a_key_is_the_key_of_itself(raw: str) -> None:
    email = parse_email(raw)
    if isinstance(email, Email):
        again = parse_email(email.key)
        assert not isinstance(again, Email) or again.key == email.key


def test_a_top_level_domain_of_one_letter_is_no_domain() -> None:
    fault = parse_email("ellie@oguzmanco.m")

    assert isinstance(fault, EmailFault)
    assert fault.value_class == "bad_domain"
