"""A tenant's own lists of mail domains and mailboxes, from leads.yaml to the flags of a lead."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from leads_pipeline.config import parse_settings
from leads_pipeline.domain.emails import Email, parse_email
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.domain.mailbox_lists import KNOWN, MailboxLists, mailbox_lists
from leads_pipeline.domain.stage import Lane
from leads_pipeline.domain.validation import ValidLead
from leads_pipeline.errors import ConfigError
from leads_pipeline.sources.stored_leads import StoredLeads
from leads_pipeline.storage.leads import RawLead

FILE = """
tenants:
  acme:
    sources: {website: {}}
    validation:
      disposable_domains: {allow: [mailinator.com]}
      free_domains: {deny: [mail.firm.example]}
  beta:
    sources: {website: {}}
validation:
  disposable_domains: {allow: [trashmail.com], deny: [MÜLL.de, mailinator.com]}
  free_domains: {allow: [hey.com]}
  role_local_parts: {allow: [Hello], deny: [showroom]}
"""


def flags(address: str, lists: MailboxLists) -> set[str]:
    email = parse_email(address, lists=lists)
    assert isinstance(email, Email), email
    return set(email.flags)


def lists_of(tenant: str) -> MailboxLists:
    return mailbox_lists(**parse_settings(FILE, path=Path("leads.yaml")).mailbox_lists(tenant))


@pytest.mark.parametrize(
    ("address", "acme", "beta", "everybody"),
    [
        ("anna@trashmail.com", set(), set(), {"disposable_mailbox"}),
        ("anna@mailinator.com", set(), {"disposable_mailbox"}, {"disposable_mailbox"}),
        ("anna@a.mailinator.com", set(), {"disposable_mailbox"}, {"disposable_mailbox"}),
        ("anna@müll.de", {"disposable_mailbox"}, {"disposable_mailbox"}, set()),
        ("anna@hey.com", set(), set(), {"free_mailbox"}),
        (
            "anna@mail.firm.example",
            {"free_mailbox", "email_domain_reserved"},
            {"email_domain_reserved"},
            {"email_domain_reserved"},
        ),
        ("hello@firm.com", set(), set(), {"role_mailbox"}),
        ("Showroom+x@firm.com", {"role_mailbox"}, {"role_mailbox"}, set()),
    ],
)
def test_a_tenants_lists_stand_above_everybodys_and_those_above_the_products(
    address: str, acme: set[str], beta: set[str], everybody: set[str]
) -> None:
    assert flags(address, lists_of("acme")) == acme
    assert flags(address, lists_of("beta")) == flags(address, lists_of("unheard_of")) == beta
    assert flags(address, KNOWN) == everybody


def test_a_domain_that_a_list_names_is_no_slip() -> None:
    assert flags("anna@gmaul.com", KNOWN) == {"email_typo_suspected"}
    assert flags("anna@gmaul.com", mailbox_lists(free_allow=frozenset({"gmaul.com"}))) == set()
    assert flags("anna@gmaul.com", mailbox_lists(disposable_deny=frozenset({"gmaul.com"}))) == {"disposable_mailbox"}


def test_equal_lists_are_the_same_object_so_that_what_was_judged_is_remembered() -> None:
    assert lists_of("acme") is lists_of("acme")
    assert lists_of("acme") is not lists_of("beta")
    assert mailbox_lists() is KNOWN


def test_the_lists_of_the_file_reach_the_lead() -> None:
    settings = parse_settings(FILE, path=Path("leads.yaml"))
    raw = RawLead(
        LeadId(UUID(int=1)),
        1,
        "website",
        Lane.REAL_TIME,
        datetime(2026, 1, 15, tzinfo=UTC),
        json.dumps({"email": "anna@mailinator.com"}),
    )

    judged = {tenant: StoredLeads(settings, tenant).judge(raw) for tenant in ("acme", "beta")}

    assert {tenant: lead.flags for tenant, lead in judged.items() if isinstance(lead, ValidLead)} == {
        "acme": (),
        "beta": ("disposable_mailbox",),
    }


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (
            "disposable_domains: {deny: ['@firm.com']}",
            (
                "validation.disposable_domains.deny.0 = '@firm.com': "
                "allowed: a mail domain such as example.com, without @ and without *"
            ),
        ),
        (
            "free_domains: {allow: ['*.firm.com']}",
            (
                "validation.free_domains.allow.0 = '*.firm.com': "
                "allowed: a mail domain such as example.com, without @ and without *"
            ),
        ),
        (
            "role_local_parts: {deny: ['info@firm.com']}",
            (
                "validation.role_local_parts.deny.0 = 'info@firm.com': "
                "allowed: what stands before the @ of an address, without a +tag, such as info"
            ),
        ),
        (
            "free_domains: {allow: [firm.com], deny: [FIRM.com]}",
            "validation.free_domains: firm.com stands in allow and in deny; allowed: in one of them",
        ),
        (
            "free_domains: [firm.com]",
            "validation.free_domains: must be a mapping with the keys allow, deny",
        ),
        (
            "disposable_domain: {}",
            "validation.disposable_domain: there is no such key",
        ),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_with_what_is_allowed(value: str, fault: str) -> None:
    text = f"tenants: {{acme: {{sources: {{website: {{}}}}}}}}\nvalidation: {{{value}}}\n"

    with pytest.raises(ConfigError) as caught:
        parse_settings(text, path=Path("leads.yaml"))

    assert caught.value.faults == (fault,)
