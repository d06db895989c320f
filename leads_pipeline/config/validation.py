"""What leads.yaml adds to what the product knows of mail domains and mailboxes, and what it takes back."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from leads_pipeline.config.base import Model

_LOCAL_PART = re.compile(r"[^\s@+]{1,64}")


def _mail_domain(value: str) -> str:
    """In lower case and A-label form: the form in which domains are looked up."""
    # Most files name no domain, and the door reads its settings without paying for this.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - few files name a domain

    try:
        found = validate_email(f"a@{value}", check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise ValueError("allowed: a mail domain such as example.com, without @ and without *") from None
    return found.ascii_domain


def _local_part(value: str) -> str:
    if not _LOCAL_PART.fullmatch(value):
        raise ValueError("allowed: what stands before the @ of an address, without a +tag, such as info")
    return value.lower()


MailDomain = Annotated[str, AfterValidator(_mail_domain)]
LocalPart = Annotated[str, AfterValidator(_local_part)]


class OwnDomains(Model):
    """Mail domains about which you know better."""

    allow: tuple[MailDomain, ...] = Field((), description="These never get the flag.")
    deny: tuple[MailDomain, ...] = Field((), description="These always get it.")

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        _refuse_both(self.allow, self.deny)
        return self


class OwnLocalParts(Model):
    """Mailboxes about which you know better, by what stands before the @."""

    allow: tuple[LocalPart, ...] = Field((), description="These never get the flag.")
    deny: tuple[LocalPart, ...] = Field((), description="These always get it.")

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        _refuse_both(self.allow, self.deny)
        return self


def _refuse_both(allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
    if both := set(allow) & set(deny):
        raise ValueError(f"{', '.join(sorted(both))} stands in allow and in deny; allowed: in one of them")


class ValidationSettings(Model):
    """What is noticed about a mailbox: own lists above those that the product brings."""

    disposable_domains: OwnDomains = Field(
        OwnDomains(), description="Flag disposable_mailbox; a domain stands for those below it too."
    )
    free_domains: OwnDomains = Field(OwnDomains(), description="Flag free_mailbox; just the domain itself.")
    role_local_parts: OwnLocalParts = Field(OwnLocalParts(), description="Flag role_mailbox, whatever the domain.")

    def lists(self, of_tenant: "ValidationSettings | None" = None) -> dict[str, frozenset[str]]:
        """The sets that ``domain.mailbox_lists`` takes, by its names. Where the two disagree, the tenant's holds."""
        own = of_tenant or ValidationSettings()
        return {
            **_merged("disposable", self.disposable_domains, own.disposable_domains),
            **_merged("free", self.free_domains, own.free_domains),
            **_merged("role", self.role_local_parts, own.role_local_parts),
        }


def _merged(
    name: str, everybodys: OwnDomains | OwnLocalParts, own: OwnDomains | OwnLocalParts
) -> dict[str, frozenset[str]]:
    allow, deny = frozenset(own.allow), frozenset(own.deny)
    return {
        f"{name}_allow": allow | (frozenset(everybodys.allow) - deny),
        f"{name}_deny": deny | (frozenset(everybodys.deny) - allow),
    }
