"""The ways of OAuth 2.0 to be given an access token. Add another as a class with the members of ``TokenGrant``.

Keep out: when a token is asked for and where it is kept (``access_tokens``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr


class TokenGrant(Protocol):
    """What is sent to a token endpoint. Never shows a secret in its representation."""

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        ...

    def form(self, *, now: datetime) -> Mapping[str, str]:
        """The fields that it is posted."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """All on which the token depends, at least one secret among it: what seals the token is made of them."""
        ...


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """RFC 6749, section 6: a person has allowed it once, and the refresh token stands for that."""

    token_url: str
    client_id: str
    client_secret: SecretStr
    refresh_token: SecretStr

    def form(self, *, now: datetime) -> Mapping[str, str]:
        """See ``TokenGrant.form``."""
        return {
            "grant_type": "refresh_token",
            "client_id": self.client_id,
            "client_secret": self.client_secret.get_secret_value(),
            "refresh_token": self.refresh_token.get_secret_value(),
        }

    def secrets(self) -> tuple[str, ...]:
        """See ``TokenGrant.secrets``."""
        secrets = (self.client_secret.get_secret_value(), self.refresh_token.get_secret_value())
        return (self.token_url, self.client_id, *secrets)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """RFC 6749, section 4.4: the application acts for itself."""

    token_url: str
    client_id: str
    client_secret: SecretStr

    def form(self, *, now: datetime) -> Mapping[str, str]:
        """See ``TokenGrant.form``."""
        return {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret.get_secret_value(),
        }

    def secrets(self) -> tuple[str, ...]:
        """See ``TokenGrant.secrets``."""
        return (self.token_url, self.client_id, self.client_secret.get_secret_value())
