"""What a webhook has besides what every destination has."""

import ipaddress
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from leads_pipeline.config.base import MISPLACED_SECRET, SecretRef, WebAddress
from leads_pipeline.config.destinations.generic import GenericSettings

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# Ours, and those that say how long a body is or where it ends.
_TAKEN = frozenset(
    {
        "webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length", "transfer-encoding",
        "connection", "host", "accept-encoding",
    }
)  # fmt: skip


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError(
            MISPLACED_SECRET,
            "a name and a password do not stand in an address; allowed: headers: {Authorization: {env: NAME}}",
        )
    if parts.fragment:
        raise ValueError("what follows # is never sent; take it away")
    return value


def _header_name(value: str) -> str:
    if not _HEADER.fullmatch(value):
        raise ValueError("not the name of an HTTP header; allowed: letters, digits and dashes, such as X-Api-Key")
    if value.lower() in _TAKEN:
        raise ValueError("this header is set by ourselves; allowed: any other, such as Authorization")
    return value


class WebhookSettings(GenericSettings):
    """An address that contacts are posted to, signed as standardwebhooks.com says."""

    vendor: Literal["webhook"] = Field(description="Whose API it speaks.")
    url: Annotated[WebAddress, AfterValidator(_address)] = Field(
        description="Where contacts are posted to: https, or http on this machine. It must hold no secret."
    )
    plain_http: bool = Field(False, description="Post to another machine over http, readable on the way.")
    secret: SecretRef = Field(description="Names the variable that holds whsec_…, with which requests are signed.")
    previous_secret: SecretRef | None = Field(
        None, description="While the receiver changes to a new secret: requests are signed with both."
    )
    headers: dict[Annotated[str, AfterValidator(_header_name)], SecretRef] = Field(
        default_factory=dict, description="Further headers of each request, by name; their values are secrets."
    )
    batch_size: Annotated[int, Field(gt=0, le=1000)] = Field(
        1, description="Events in one request; with more than one the receiver must answer with a result for each."
    )

    @model_validator(mode="after")
    def _nobody_reads_it_on_the_way(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not self.plain_http and not _is_this_machine(parts.hostname or ""):
            raise ValueError(
                "contacts would be readable on the way to url; allowed: https://, http:// to this machine, or "
                "plain_http: true"
            )
        return self

    def secrets(self) -> dict[str, SecretRef]:
        """See ``DestinationSettings.secrets``."""
        return super().secrets() | {f"headers.{name}": reference for name, reference in self.headers.items()}


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
