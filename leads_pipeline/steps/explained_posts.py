"""What a vendor's request would become, without a database: for whoever writes a source's mapping.

The same functions as in the door and in validation, one after the other. A signature is not asked for: a request that
was copied from a log has none that still holds.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from leads_pipeline.config import Settings, SourceSettings
from leads_pipeline.domain.consent import parse_consent
from leads_pipeline.domain.consent_mapping import consent_statements
from leads_pipeline.domain.field_mapping import FieldPlan
from leads_pipeline.domain.lane_rules import lane_of
from leads_pipeline.domain.mailbox_lists import mailbox_lists
from leads_pipeline.domain.posted_lead import storage_fault
from leads_pipeline.domain.schema_drift import CONSENT, LANE
from leads_pipeline.domain.stage import Lane
from leads_pipeline.domain.triage import Circumstances, Triage, triage
from leads_pipeline.domain.validation import Rejection, set_aside, validate
from leads_pipeline.errors import NotFound
from leads_pipeline.sources.fetching import VENDORS
from leads_pipeline.sources.port import Delivery, Post, SourceOptions, Unreadable, kept_raw, with_fetched
from leads_pipeline.sources.reading import PostReader

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class ExplainedField:
    """One field of a post. ``used_for``: canonical fields, ``consent``, ``lane``; none: kept with the raw lead.

    ``taken`` is false where another field with a value goes before it, or its own value is empty.
    """

    name: str
    value: Any
    used_for: tuple[str, ...]
    taken: bool


@dataclass(frozen=True, slots=True)
class ExplainedPost:
    """What one post becomes. Exactly one of ``lead``, ``rejected_for`` and ``fetched_from`` says how it goes on.

    ``consent`` holds the statements with ``understood``; ``fetched_from`` is the address at which the vendor is asked
    before there is anything to judge. ``triage`` is that of a lead that comes alone: how many came before it, from
    where, is not known here.
    """

    event_id: str | None
    lane: Lane
    consent: tuple[dict[str, Any], ...]
    fields: tuple[ExplainedField, ...]
    lead: dict[str, Any] | None = None
    triage: Triage | None = None
    rejected_for: tuple[dict[str, str], ...] = ()
    fetched_from: str | None = None


def explain_posts(
    body: bytes,
    *,
    settings: Settings,
    tenant: str,
    source: str,
    now: datetime,
    content_type: str | None = None,
    fetched: Mapping[str, Any] | None = None,
) -> list[ExplainedPost] | Unreadable:
    """What ``body`` becomes if the source is sent it. ``fetched``: what the vendor answers when asked for the lead.

    Raises:
        NotFound: leads.yaml has no such source.
    """
    source_settings = settings.source(tenant, source)
    if source_settings is None:
        raise NotFound(f"{settings.path} has no source {source!r} of a tenant {tenant!r}")
    reader = PostReader(source_settings)
    media_type = content_type or guessed_type(body, reader.kind.media_types)
    delivery = Delivery(
        method="POST",
        url=source_settings.public_url or f"/v1/in/{tenant}/{source}",
        headers={"content-type": media_type, "content-length": str(len(body))},
        query={},
        body=body,
        received_at=now,
    )
    posts = reader.kind.read(delivery, SourceOptions(honeypot=source_settings.honeypot))
    if isinstance(posts, Unreadable):
        return posts
    explainer = _Explainer(settings, tenant, source, reader, source_settings, now, fetched)
    return [explainer.explained(post) for post in posts]


def guessed_type(body: bytes, media_types: frozenset[str]) -> str:
    """The media type that a body looks like, among those that a kind takes."""
    start = body.lstrip()[:2]
    if start == b"--" and "multipart/form-data" in media_types:
        boundary = body.lstrip()[2:].split(b"\n", 1)[0].strip().decode("latin-1")
        return f"multipart/form-data; boundary={boundary}"
    if FORM in media_types and (start[:1] not in (b"{", b"[") or "application/json" not in media_types):
        return FORM
    return "application/json"


def as_json(post: ExplainedPost) -> dict[str, Any]:
    """The same as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(asdict(post), enc_hook=str)
    return plain


@dataclass(frozen=True, slots=True)
class _Explainer:
    """What all posts of one request are read with."""

    settings: Settings
    tenant: str
    name: str
    reader: PostReader
    source: SourceSettings
    now: datetime
    fetched: Mapping[str, Any] | None

    def explained(self, post: Post) -> ExplainedPost:
        if storage_fault(post.payload) is not None:
            post = kept_raw(json.dumps(post.payload).encode())
        payload = post.payload if self.fetched is None else with_fetched(post.payload, self.fetched)
        fields = self.reader.kind.fields(payload)
        plan = self.reader.plan(tuple(fields))
        mapped = plan.apply(fields)
        explained = ExplainedPost(
            event_id=post.event_id,
            lane=lane_of(fields, self.source.lane_rules, default=Lane(self.source.lane)),
            consent=tuple(_statements(post, fields, self.source, now=self.now)),
            fields=tuple(
                ExplainedField(
                    name,
                    value,
                    used_for=(uses := _uses_of(name, plan, self.source)),
                    taken=bool(uses) and (plan.meanings[name] is None or name in mapped.used.values()),
                )
                for name, value in fields.items()
            ),
        )
        if post.quarantine is not None:
            return _rejected(explained, set_aside(post.quarantine))
        if post.reference is not None and self.fetched is None:
            vendor = VENDORS[self.source.kind]
            base = (self.source.api_url or vendor.base_url).rstrip("/")
            return replace(explained, fetched_from=base + vendor.path(post.reference, self.source))
        return self._judged(explained, payload, fields)

    def _judged(self, explained: ExplainedPost, payload: dict[str, Any], fields: Mapping[str, Any]) -> ExplainedPost:
        lead, _names = self.reader.read(payload)
        verdict = validate(
            lead,
            country=self.source.country or self.settings.tenants[self.tenant].country,
            today=self.now.date(),
            lists=mailbox_lists(**self.settings.mailbox_lists(self.tenant)),
        )
        if isinstance(verdict, Rejection):
            return _rejected(explained, verdict)
        values = {name: value for name, value in asdict(verdict).items() if value not in (None, {}, ())}
        came = Circumstances(tenant=self.tenant, source=self.name, lane=explained.lane, sent=fields)
        return replace(
            explained,
            lead={name: value for name, value in values.items() if not name.endswith(("_key", "_raw"))},
            triage=triage(verdict, came, policy=self.settings.verification),
        )


def _uses_of(name: str, plan: FieldPlan, source: SourceSettings) -> tuple[str, ...]:
    uses = [field for field, origins in plan.origins.items() if any(origin.field == name for origin in origins)]
    if any(name in (item.path, item.text_version_path) for item in source.consent):
        uses.append(CONSENT)
    if any(name == rule.field for rule in source.lane_rules):
        uses.append(LANE)
    return tuple(uses)


def _rejected(explained: ExplainedPost, rejection: Rejection) -> ExplainedPost:
    return replace(explained, rejected_for=tuple(finding.as_reason() for finding in rejection.reasons))


def _statements(
    post: Post, fields: Mapping[str, Any], source: SourceSettings, *, now: datetime
) -> list[dict[str, Any]]:
    """Each statement as the door would keep it, and whether it can be understood."""
    found: list[dict[str, Any]] = []
    for statement in [*post.consent, *consent_statements(fields, source.consent)]:
        parsed = parse_consent([statement], context=post.context, received_at=now)
        shown = statement if isinstance(statement, dict) else {"granted": statement}
        found.append({**shown, "understood": not parsed.malformed})
    return found
