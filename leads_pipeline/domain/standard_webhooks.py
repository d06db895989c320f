"""The signature of standardwebhooks.com, version 1: the same for what comes in and for what goes out. Pure.

Keep out: which headers are read (``sources``), and when a request is signed (``outbound.signing``).
"""

import base64
import binascii
import hashlib
import hmac

ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"

KEY_PREFIX = "whsec_"
# Of the key, as the specification asks of those who make one.
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64


def key_of(secret: str) -> bytes:
    """The key that a secret, with ``whsec_`` or without, stands for; empty if it stands for none."""
    try:
        return base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


def signature(key: bytes, *, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,…`` over the id, the seconds since 1970 in digits, and the body as it is sent, byte for byte."""
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
