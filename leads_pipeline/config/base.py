"""What every part of the configuration is made of: frozen models, names, secrets by reference."""

import ipaddress
import os
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from leads_pipeline.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _valid_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("allowed: a lower-case letter, then up to 62 lower-case letters, digits or underscores")
    return value


def _valid_time_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("allowed: an IANA time zone such as UTC or Europe/Vienna")
    return value


def _valid_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("allowed: an IP address or a network such as 10.0.0.0/8") from None


def resolver_address(value: str) -> tuple[str, int]:
    """``192.0.2.53``, ``192.0.2.53:5353``, ``2001:db8::53`` or ``[2001:db8::53]:5353`` as address and port.

    Raises:
        ValueError: it is none of these.
    """
    host, port = value, "53"
    if host.startswith("[") and "]" in host:
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":") if rest else port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        address = ""
    if not address or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError("allowed: an IP address, or one with a port such as 192.0.2.53:5353 or [2001:db8::53]:5353")
    return address, int(port)


def _valid_resolver(value: str) -> str:
    resolver_address(value)
    return value


Name = Annotated[str, AfterValidator(_valid_name)]
TimeZone = Annotated[str, AfterValidator(_valid_time_zone)]
Network = Annotated[str, AfterValidator(_valid_network)]
Resolver = Annotated[str, AfterValidator(_valid_resolver)]
LaneName = Literal["real_time", "near_real_time", "batch"]
Fraction = Annotated[float, Field(ge=0, le=1)]

# The kind of a fault whose value is a secret, which must not be repeated.
MISPLACED_SECRET = "misplaced_secret"  # noqa: S105 - the name of a kind of fault

# Patterns that the faults of the file put into words.
ORIGIN = r"^(https?://[^/*]+|\*)$"
WEB_ADDRESS = r"^https?://"


def _readable_address(value: str) -> str:
    """No client can be built for another one. A fault does not repeat it, as it may hold a password."""
    fault = None
    try:
        parts = urlsplit(value)
        if any(sign.isspace() or not sign.isprintable() for sign in value):
            fault = "it holds a space, or a sign that cannot be printed"
        elif not parts.hostname or parts.port == 0:
            fault = "it names no host, or a port that nobody has"
        elif re.fullmatch(r"[\d.]+", parts.hostname):
            ipaddress.IPv4Address(parts.hostname)
    except ValueError:
        fault = "it cannot be read"
    if fault is not None:
        example = "https://hooks.example.com/contacts"
        raise PydanticCustomError(
            MISPLACED_SECRET, "{fault}; allowed: an address such as {example}", {"fault": fault, "example": example}
        )
    return value


# Where a vendor, or somebody's receiver, is.
WebAddress = Annotated[str, Field(pattern=WEB_ADDRESS), AfterValidator(_readable_address)]


class Model(BaseModel):
    """A frozen part of the configuration that knows no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class SecretRef(Model):
    """A secret, named by the environment variable that holds it."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of an environment variable.")]

    def resolve(self) -> SecretStr:
        """The secret's value.

        Raises:
            ConfigError: the variable is not set or empty.
        """
        value = os.environ.get(self.env, "")
        if not value:
            raise ConfigError(f"the environment variable {self.env} is not set; leads.yaml refers to it as a secret")
        return SecretStr(value)
