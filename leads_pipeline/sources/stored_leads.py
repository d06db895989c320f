"""From a stored lead to its verdict: for validation, and for whoever asks what validation would say.

A post is read by its source's kind and mapping as leads.yaml has them now; rows of files are canonical since they were
imported. What a person corrected goes over both. The raw lead itself stays as it was sent.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from leads_pipeline.config import Settings
from leads_pipeline.domain.mailbox_lists import mailbox_lists
from leads_pipeline.domain.validation import VALIDATOR_FAILED, Rejection, ValidLead, set_aside, validate
from leads_pipeline.sources.port import Quarantine
from leads_pipeline.sources.reading import PostReader
from leads_pipeline.storage.consent import MALFORMED_CONSENT_KEY
from leads_pipeline.storage.leads import RawLead
from leads_pipeline.storage.source_fields import FieldCount
from leads_pipeline.telemetry import get_logger

_log = get_logger(__name__)

Validator = Callable[..., ValidLead | Rejection]

# The home market of a tenant that the configuration no longer knows; its leads were accepted and must go on.
_UNCONFIGURED_COUNTRY = "US"


class StoredLeads:
    """One tenant's stored leads on their way to canonical fields, and what fields their posts had (``count``)."""

    def __init__(self, settings: Settings, tenant: str) -> None:
        self._settings = settings
        self._tenant = tenant
        self._readers: dict[str, PostReader] = {}
        self._countries = _home_countries(settings, tenant)
        self._lists = mailbox_lists(**settings.mailbox_lists(tenant))
        self.count = FieldCount()

    def judge(self, raw: RawLead, validator: Validator = validate) -> ValidLead | Rejection:
        """The validator's verdict; a lead on which it, or reading the payload, breaks is quarantined alone."""
        if raw.quarantine is not None and not raw.released:
            return set_aside(raw.quarantine)
        country = self._countries.get(raw.source, self._countries[""])
        try:
            return validator(self.lead_of(raw), country=country, today=raw.received_at.date(), lists=self._lists)
        except Exception as error:  # noqa: BLE001 - a fault in a rule must not hold up every other lead
            # Not the error's words: they may quote the lead.
            _log.error("validator_failed", lead_id=str(raw.lead_id), error_type=type(error).__name__)
            return VALIDATOR_FAILED

    def lead_of(self, raw: RawLead) -> Mapping[str, Any]:
        """The canonical fields, with the corrections of every revision up to the one that is judged."""
        lead = self._as_sent(raw)
        corrections: list[dict[str, str | None]] = json.loads(raw.corrections)
        return corrected(lead, corrections) if corrections else lead

    def sent(self, raw: RawLead) -> Mapping[str, Any]:
        """The fields under the source's own names, as ``leads sources test`` shows them; of a file's row its own."""
        try:
            payload: dict[str, Any] = json.loads(raw.payload)
            return payload if raw.imported else self._reader(raw.source).kind.fields(payload)
        except Exception as error:  # noqa: BLE001 - one lead's odd payload must not hold up the others
            _log.error("fields_unreadable", lead_id=str(raw.lead_id), error_type=type(error).__name__)
            return {}

    def uses(self) -> dict[str, dict[str, str]]:
        """What the fields that came are for, by source."""
        return {source: reader.uses for source, reader in self._readers.items()}

    def _as_sent(self, raw: RawLead) -> Mapping[str, Any]:
        if raw.quarantine == Quarantine.UNREADABLE_BODY:
            return {}  # the body as it came: no field of a lead
        payload: dict[str, Any] = json.loads(raw.payload)
        if raw.imported:
            return payload
        payload.pop(MALFORMED_CONSENT_KEY, None)  # ours, no field of the source
        lead, names = self._reader(raw.source).read(payload)
        if raw.revision == 1:  # a lead that is judged again did not come again
            self.count.add(raw.source, names)
        return lead

    def _reader(self, source: str) -> PostReader:
        reader = self._readers.get(source)
        if reader is None:
            reader = self._readers[source] = PostReader(self._settings.source(self._tenant, source))
        return reader


def corrected(lead: Mapping[str, Any], corrections: list[dict[str, str | None]]) -> dict[str, Any]:
    """A lead with corrections on it, in their order. One without a value takes the field away."""
    fields = dict(lead)
    for correction in corrections:
        for name, value in correction.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = value
    return fields


def _home_countries(settings: Settings, tenant: str) -> Mapping[str, str]:
    """The country to assume for each source of the tenant; under "" the tenant's own."""
    tenant_settings = settings.tenants.get(tenant)
    if tenant_settings is None:
        return {"": _UNCONFIGURED_COUNTRY}
    home = tenant_settings.country
    return {"": home, **{name: source.country or home for name, source in tenant_settings.sources.items()}}
