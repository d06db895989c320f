"""Tokens of connected apps: by client credentials and by JWT bearer assertions.

As documented: no ``expires_in``, ``issued_at`` in milliseconds, the org's own address as ``instance_url``. Which error
answers which fault is partly from memory.
"""

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import parse_qs

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.crm.sandbox.tokens import UNKNOWN
from leads_pipeline.crm.sandbox.vendor import Incoming, PlayedEndpoint, Shared
from leads_pipeline.sandbox.answers import Answer

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
_LONGEST_SECONDS = 300  # until an assertion's end; about three minutes are documented
_FIRST_APPLICATION = 1


def access_token(shared: Shared, incoming: Incoming) -> Answer:
    """``POST /services/oauth2/token``."""
    sent = {name: values[0] for name, values in parse_qs((incoming.body or b"").decode("utf-8", "replace")).items()}
    options = shared.options
    assert isinstance(options, SalesforceOptions)
    match sent.get("grant_type"):
        case "client_credentials":
            client_id, secret = _basic(incoming) or (sent.get("client_id"), sent.get("client_secret"))
            if not client_id or options.consumer_key not in (None, client_id):
                return _refused("invalid_client_id", "client identifier invalid")
            application = shared.tokens.application_of(secret, tick=incoming.tick)
            if application == UNKNOWN:
                return _refused("invalid_client", "invalid client credentials")
        case grant if grant == JWT_BEARER:
            fault = _fault_of(sent.get("assertion", ""), options, now=incoming.now.timestamp())
            if fault is not None:
                return fault
            application = _FIRST_APPLICATION
        case _:
            return _refused("unsupported_grant_type", "grant type not supported")
    token, _seconds = shared.tokens.give(application, tick=incoming.tick)
    address = f"http://{incoming.headers.get('host', 'localhost')}"
    issued_at = str(int(incoming.now.timestamp() * 1000))
    return Answer(
        200,
        {
            "access_token": token,
            "signature": base64.b64encode(hashlib.sha256(issued_at.encode()).digest()).decode(),
            "scope": "api",
            "instance_url": address,
            "id": f"{address}/id/00Dak000000000AEAQ/005ak000000000AAAQ",
            "token_type": "Bearer",
            "issued_at": issued_at,
        },
    )


def _fault_of(assertion: str, options: SalesforceOptions, *, now: float) -> Answer | None:
    """What is wrong with an assertion, if anything is."""
    parts = assertion.split(".")
    try:
        header, claims = (_decoded(part) for part in parts[:2])
        signature = _bytes(parts[2])
    except (ValueError, IndexError, binascii.Error, msgspec.DecodeError):
        return _refused("invalid_grant", "invalid assertion")
    if header.get("alg") != "RS256":
        return _refused("invalid_grant", "invalid assertion")
    if not claims.get("iss") or options.consumer_key not in (None, claims["iss"]):
        return _refused("invalid_client_id", "client identifier invalid")
    if claims.get("aud") not in _AUDIENCES:
        return _refused("invalid_grant", "audience is invalid")
    try:
        ends = float(claims.get("exp", "nan"))  # simple-salesforce writes it as a text
    except (TypeError, ValueError):
        ends = float("nan")
    if not now < ends <= now + _LONGEST_SECONDS:
        return _refused("invalid_grant", "expired authorization code")
    if not claims.get("sub"):
        return _refused("invalid_grant", "user hasn't approved this consumer")
    if options.certificate is None:
        return None
    signed = ".".join(parts[:2]).encode()
    try:
        _public_key(options.certificate.read_bytes()).verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return _refused("invalid_grant", "invalid assertion")
    return None


def _public_key(pem: bytes) -> rsa.RSAPublicKey:
    key = (
        x509.load_pem_x509_certificate(pem).public_key()
        if b"BEGIN CERTIFICATE" in pem
        else serialization.load_pem_public_key(pem)
    )
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def _basic(incoming: Incoming) -> tuple[str, str] | None:
    scheme, _, given = incoming.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        return None
    return client_id, secret


def _decoded(part: str) -> dict[str, Any]:
    return msgspec.json.decode(_bytes(part), type=dict[str, Any])


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _refused(error: str, description: str) -> Answer:
    return Answer(400, {"error": error, "error_description": description})


ENDPOINT = PlayedEndpoint("oauth2/token", "POST", ("/services/oauth2/token",), access_token, limited_as=None)
