"""Every error that a caller may want to tell apart.

A class exists only where a caller acts differently. Refused *data* is a value (a rejection, a verdict), never one of
these. A message says what was tried, what happened and what to do; it never holds a lead's content or a secret.

    LeadsError                  anything this product raises on purpose; a command prints it and exits 1
    ├── ConfigError             leads.yaml or the environment is wrong: the user mends it; exit 2
    ├── DatabaseError           the database did not do what was asked
    │   ├── DatabaseUnavailable it cannot be reached: try again later (HTTP 503)
    │   └── SchemaOutdated      the schema is not this version's: run `leads db upgrade`
    ├── EmbeddedServerError     our own PostgreSQL could not be started, stopped or found
    ├── ImportFileError         a file cannot be read as leads at all (a bad row is data, not this)
    ├── NotFound                the thing that was asked for by id or name does not exist
    ├── CredentialsRefused      a vendor gives no access token for what is configured: nothing was sent
    ├── IdentityRefused         a decision about who is whom cannot be taken, or taken back, as things are
    └── CrmError                a request to a CRM failed as a whole; `crm.port` has the verdict classes
        ├── AccountParked           the CRM must not be asked before an instant: what is not sent yet goes back
        └── Overtaken               records of a request must no longer go as they are: it is built without them
"""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class LeadsError(Exception):
    """Anything that this product raises on purpose."""


class ConfigError(LeadsError):
    """The configuration is wrong. ``faults`` holds one line per fault, each with path, value and what is allowed."""

    def __init__(self, message: str, *, faults: tuple[str, ...] = ()) -> None:
        self.faults = faults
        super().__init__("\n".join([message, *(f"  - {fault}" for fault in faults)]))


class DatabaseError(LeadsError):
    """The database did not do what was asked."""


class Unavailability(StrEnum):
    """Why a store takes nothing for now."""

    UNREACHABLE = "unreachable"
    READ_ONLY = "read_only"
    DISK_FULL = "disk_full"


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, or takes no writes; the same call may succeed later."""

    def __init__(self, message: str, *, why: Unavailability = Unavailability.UNREACHABLE) -> None:
        self.why = why
        super().__init__(message)


class SchemaOutdated(DatabaseError):
    """The database's schema is not the one that this version needs."""


class EmbeddedServerError(LeadsError):
    """Our own PostgreSQL could not be started, stopped or found."""


class ImportFileError(LeadsError):
    """A file cannot be read as leads at all."""


class NotFound(LeadsError):
    """What was asked for by id or name does not exist."""


class IdentityRefused(LeadsError):
    """A decision about who is whom cannot be taken, or taken back, as things are.

    ``first`` are the decisions that would have to be taken back before, in that order; ``links`` those that forbid it.
    """

    def __init__(self, message: str, *, first: tuple[UUID, ...] = (), links: tuple[UUID, ...] = ()) -> None:
        self.first = first
        self.links = links
        super().__init__(message)


class CredentialsRefused(LeadsError):
    """A vendor gives no access token. ``code``: what it called that, or a code of ours; the message says what to do."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class CrmError(LeadsError):
    """A request to a CRM failed as a whole."""


class AccountParked(CrmError):
    """An account must not be asked again before ``until``; nothing of this request was sent."""

    def __init__(self, message: str, *, until: datetime, reason: str) -> None:
        self.until = until
        self.reason = reason
        super().__init__(message)


class Overtaken(CrmError):
    """Some of the records of a request must no longer be sent as they were claimed; nothing of it was sent."""

    def __init__(self, outbox_ids: Collection[int]) -> None:
        self.outbox_ids = frozenset(outbox_ids)
        super().__init__(f"{len(self.outbox_ids)} records have changed, or must not be sent any more")
