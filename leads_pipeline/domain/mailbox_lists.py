"""Which mail domains are disposable or free providers', and which local parts are an office's.

Three lists, each with what a tenant's configuration adds to it (``deny``: gets the flag) and takes off it (``allow``:
never gets it). Keep out: the names themselves (``domain.data.mailboxes``) and what follows from a flag.
"""

from dataclasses import dataclass
from functools import lru_cache

from leads_pipeline.domain.data import mailboxes

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class MailboxLists:
    """What is known, and what one tenant knows better. Compared by identity: ``mailbox_lists`` makes each one once."""

    disposable_allow: frozenset[str] = _NONE
    disposable_deny: frozenset[str] = _NONE
    free_allow: frozenset[str] = _NONE
    free_deny: frozenset[str] = _NONE
    role_allow: frozenset[str] = _NONE
    role_deny: frozenset[str] = _NONE

    def is_disposable(self, domain: str) -> bool:
        """Whether ``domain`` (lower case, A-label) or one above it is; the nearest one that a list names decides."""
        name = domain
        while "." in name:
            if name in self.disposable_deny:
                return True
            if name in self.disposable_allow:
                return False
            if name in mailboxes.DISPOSABLE_DOMAINS:
                return True
            name = name.partition(".")[2]
        return False

    def is_free(self, domain: str) -> bool:
        """Whether anybody may open a mailbox at just this domain: below a provider's name a firm may live."""
        if domain in mailboxes.FREE_DOMAINS:
            return domain not in self.free_allow
        return domain in self.free_deny

    def is_role(self, local: str) -> bool:
        """Whether the mailbox ``local`` (lower case, without a tag) is an office's."""
        if local in mailboxes.ROLE_LOCAL_PARTS:
            return local not in self.role_allow
        return local in self.role_deny

    def names(self, domain: str) -> bool:
        """Whether a tenant's own list says anything of ``domain``: then it is known and no slip."""
        return (
            domain in self.disposable_allow
            or domain in self.disposable_deny
            or domain in self.free_allow
            or domain in self.free_deny
        )


KNOWN = MailboxLists()


@lru_cache(maxsize=256)
def mailbox_lists(
    *,
    disposable_allow: frozenset[str] = _NONE,
    disposable_deny: frozenset[str] = _NONE,
    free_allow: frozenset[str] = _NONE,
    free_deny: frozenset[str] = _NONE,
    role_allow: frozenset[str] = _NONE,
    role_deny: frozenset[str] = _NONE,
) -> MailboxLists:
    """The lists with these changes: equal changes give the same object, so that what was judged by it is remembered.

    Domains are in lower case and A-label form, local parts in lower case.
    """
    changes = (disposable_allow, disposable_deny, free_allow, free_deny, role_allow, role_deny)
    return MailboxLists(*changes) if any(changes) else KNOWN
