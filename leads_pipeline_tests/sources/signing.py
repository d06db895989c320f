"""Requests as vendors send them: signed by the vendors' rules, without the product's code; and recorded samples."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from leads_pipeline.sources.port import Delivery, Secrets

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
SECRET = "s3cret-of-the-vendor"
STANDARD_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
HUBSPOT_URL = "https://leads.example.com/v1/in/acme/crm"

JSON = {"content-type": "application/json"}


def delivery(
    body: bytes | str,
    headers: dict[str, str] | None = None,
    *,
    url: str = "https://leads.example.com/v1/in/acme/crm",
    method: str = "POST",
    received_at: datetime = NOW,
) -> Delivery:
    """A request as the door hands it to a kind."""
    return Delivery(
        method=method,
        url=url,
        headers={name.lower(): value for name, value in (JSON | (headers or {})).items()},
        query=dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)),
        body=body.encode() if isinstance(body, str) else body,
        received_at=received_at,
    )


def hubspot_headers(
    body: bytes, *, secret: str = SECRET, url: str = HUBSPOT_URL, at: datetime = NOW, method: str = "POST"
) -> dict[str, str]:
    timestamp = str(int(at.timestamp() * 1000))
    signed = f"{method}{url}".encode() + body + timestamp.encode()
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": timestamp,
    }


def meta_headers(body: bytes, *, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def typeform_headers(body: bytes, *, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return {"Typeform-Signature": "sha256=" + base64.b64encode(digest).decode()}


def standard_headers(
    body: bytes, *, secret: str = STANDARD_SECRET, event_id: str = "msg_1", at: datetime = NOW
) -> dict[str, str]:
    timestamp = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


@dataclass(frozen=True)
class Sample:
    """One signed request of ``webhook_vectors.json``, made with the vendors' own libraries where there is one."""

    delivery: Delivery
    secrets: Secrets


def recorded(name: str) -> dict[str, Any]:
    text = Path(__file__).with_name("webhook_vectors.json").read_text(encoding="utf-8")
    [vector] = [vector for vector in json.loads(text) if vector["name"] == name]
    found: dict[str, Any] = vector
    return found


def sample(name: str) -> Sample:
    vector = recorded(name)
    arrived = delivery(
        vector["body"],
        vector["headers"],
        url=vector.get("url", "https://leads.example.com/v1/in/acme/x"),
        received_at=datetime.fromtimestamp(vector["now"], UTC),
    )
    return Sample(arrived, Secrets(signing=vector["secret"]))


def without_header(arrived: Delivery, name: str) -> Delivery:
    return replace(arrived, headers={key: value for key, value in arrived.headers.items() if key != name.lower()})
