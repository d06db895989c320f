"""What an operation is given, and how it reads the request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.limits import AccountLimits
from leads_pipeline.crm.sandbox.observations import CrmObservations
from leads_pipeline.crm.sandbox.salesforce.answers import WholeRefused, not_found, unparsed
from leads_pipeline.crm.sandbox.salesforce.fields import OBJECTS, Field, fields_of
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.crm.sandbox.salesforce.store import RecordStore
from leads_pipeline.crm.sandbox.vendor import Incoming
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultInjector


@dataclass(frozen=True, slots=True)
class Org:
    """What the requests of one org share. ``kept`` is what they remember beside records: jobs and query cursors."""

    options: SalesforceOptions
    store: RecordStore
    limits: AccountLimits
    faults: FaultInjector
    observations: CrmObservations
    random: Random
    kept: "Kept"

    def fields(self, object_type: str) -> dict[str, Field]:
        """The fields of an object.

        Raises:
            WholeRefused: there is no such object.
        """
        name = next((known for known in OBJECTS if known.lower() == object_type.lower()), None)
        if name is None:
            raise WholeRefused(not_found())
        options = self.options
        return fields_of(name, key=options.key_property, unique=options.unique_key, custom=options.custom_properties)


@dataclass(slots=True)
class Kept:
    """What an org remembers beside its records, until a reset."""

    jobs: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bulk_batches: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request after the token, the limits and the faults."""

    org: Org
    endpoint: str
    incoming: Incoming
    body: bytes = field(repr=False)

    @property
    def path(self) -> Mapping[str, str]:
        return self.incoming.path

    @property
    def object_type(self) -> str:
        """The object that the path names, as it is written.

        Raises:
            WholeRefused: there is no such object.
        """
        given = self.path["object"]
        self.org.fields(given)
        return next(known for known in OBJECTS if known.lower() == given.lower())

    def json(self) -> dict[str, Any]:
        """The body, an object.

        Raises:
            WholeRefused: it is none.
        """
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise WholeRefused(unparsed("The HTTP entity body is required and must be a JSON object")) from None


Operation = Callable[[Call], Answer]
