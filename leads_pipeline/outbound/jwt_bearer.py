"""An access token by an assertion that the application signs itself: RFC 7523, RS256.

Signed with ``cryptography``, which seals access tokens already; one algorithm and five claims need no library more.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from leads_pipeline.errors import ConfigError

# Salesforce takes no assertion that ends much later.
_LIFE_SECONDS = 180
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """The application acts as ``subject``, who has allowed it once. ``TokenGrant``.

    Raises:
        ConfigError: ``private_key`` is not an RSA key in PEM without a passphrase.
    """

    token_url: str
    issuer: str
    subject: str
    audience: str
    private_key: SecretStr
    _key: rsa.RSAPrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", _read(self.private_key))

    def form(self, *, now: datetime) -> Mapping[str, str]:
        """See ``TokenGrant.form``. A new assertion with each call."""
        claims = {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "exp": int(now.timestamp()) + _LIFE_SECONDS,
        }
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return {"grant_type": _GRANT_TYPE, "assertion": f"{signed}.{_base64url(signature)}"}

    def secrets(self) -> tuple[str, ...]:
        """See ``TokenGrant.secrets``."""
        return (self.token_url, self.issuer, self.subject, self.audience, self.private_key.get_secret_value())


def _read(pem: SecretStr) -> rsa.RSAPrivateKey:
    try:
        # An environment variable may hold the line breaks as two characters.
        key = serialization.load_pem_private_key(pem.get_secret_value().replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError("the private key for JWT assertions is no RSA key in PEM without a passphrase") from None
    return key


def _encoded(claims: Mapping[str, object]) -> str:
    return _base64url(json.dumps(claims, separators=(",", ":")).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
