"""Which sandboxes stand in for the vendors of a configuration: those at an http address, or a port, of this machine.

Add a kind of vendor here; what a sandbox answers stands in ``crm.sandbox`` and ``verification.sandbox``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import dns.exception
import dns.message
import dns.query
import httpx

from leads_pipeline.config import Destination, ProviderSettings, Settings
from leads_pipeline.crm.sandbox.hubspot.properties import names_beyond
from leads_pipeline.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Below it stands a resolver of the machine's own.
_FIRST_FREE_PORT = 1024


@dataclass(frozen=True, slots=True)
class LocalSandbox:
    """One sandbox that we start. ``setting`` is what moves it; ``arguments`` are those of `leads sandbox serve`."""

    name: str
    title: str
    vendor: str
    address: str
    port: int
    setting: str
    arguments: tuple[str, ...] = field(repr=False)
    is_ready: Callable[[], bool] = field(repr=False)
    token_env: str | None = None
    over_udp: bool = False


def local_sandboxes(settings: Settings) -> list[LocalSandbox]:
    """Every sandbox that a configuration needs.

    Raises:
        ConfigError: an address has no port, or two of them are the same.
    """
    found = [*_crms(settings), *_providers(settings), *_dns(settings)]
    settings_by_port: dict[int, str] = {}
    for sandbox in found:
        other = settings_by_port.setdefault(sandbox.port, sandbox.setting)
        if other != sandbox.setting:
            raise ConfigError(f"{other} and {sandbox.setting} are at the same port, {sandbox.port}: give each its own")
    return found


def local_crms(settings: Settings) -> dict[str, Destination]:
    """The destinations whose CRM is a sandbox that we start."""
    return {name: item for name, item in settings.destinations.items() if _is_local(item.base_url)}


def local_providers(settings: Settings) -> dict[str, ProviderSettings]:
    """The verification providers that are a sandbox that we start."""
    return {
        name: item
        for name, item in settings.verification.providers.items()
        if item.base_url is not None and _is_local(item.base_url)
    }


def answers(url: str) -> bool:
    """Whether an HTTP GET gives a 2xx."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def answers_dns(host: str, port: int) -> bool:
    """Whether a DNS server answers a question."""
    try:
        dns.query.udp(dns.message.make_query(".", "NS"), host, port=port, timeout=2)
    except (dns.exception.DNSException, OSError):
        return False
    return True


def _crms(settings: Settings) -> Iterator[LocalSandbox]:
    for name, destination in local_crms(settings).items():
        port = _port(destination.base_url)
        windows = [window for window in destination.limits.windows if window.unit == "requests"]
        arguments = [
            "--vendor", destination.vendor, "--host", "127.0.0.1", "--port", str(port),
            *(part for first in windows[:1] for part in ("--requests", str(first.most), "--per", str(first.seconds))),
            *(part for more in windows[1:] for part in ("--window", f"{more.most}/{more.seconds}")),
            "--token-env", destination.token.env,
            "--key-property", destination.key_property,
            *(part for own in names_beyond(destination.properties()) for part in ("--property", own)),
            "--store", str(_store(settings.state_path, name)),
        ]  # fmt: skip
        if destination.limits.daily:
            arguments += ["--daily", str(destination.limits.daily.requests)]
            arguments += ["--time-zone", destination.limits.daily.time_zone]
        yield LocalSandbox(
            name=f"sandbox-{name}",
            title="Sandbox CRM",
            vendor=name,
            address=destination.base_url,
            port=port,
            setting=f"destinations.{name}.base_url in leads.yaml",
            arguments=tuple(arguments),
            is_ready=partial(answers, f"{destination.base_url}/_sandbox/report"),
            token_env=destination.token.env,
        )


def _providers(settings: Settings) -> Iterator[LocalSandbox]:
    for name, provider in local_providers(settings).items():
        assert provider.base_url is not None  # what is local has an address
        port = _port(provider.base_url)
        arguments = ["--vendor", provider.vendor, "--host", "127.0.0.1", "--port", str(port)]
        for option, value in (
            ("--token-env", provider.key.env if provider.key else None),
            ("--account", provider.account),
            ("--calls-per-minute", provider.calls_per_minute),
            ("--batch-size", provider.batch_size),
        ):
            if value is not None:
                arguments += [option, str(value)]
        yield LocalSandbox(
            name=f"sandbox-provider-{name}",
            title="Provider",
            vendor=f"{name}, a sandbox",
            address=provider.base_url,
            port=port,
            setting=f"verification.providers.{name}.base_url in leads.yaml",
            arguments=tuple(arguments),
            is_ready=partial(answers, f"{provider.base_url.rstrip('/')}/_sandbox/report"),
            token_env=provider.key.env if provider.key else None,
        )


def _dns(settings: Settings) -> Iterator[LocalSandbox]:
    mx = settings.verification.mx
    for host, port in mx.addresses if mx.enabled else ():
        if host in _LOOPBACK and port >= _FIRST_FREE_PORT:
            yield LocalSandbox(
                name=f"sandbox-dns-{port}",
                title="DNS",
                vendor="a sandbox",
                address=f"{host}:{port}",
                port=port,
                setting="verification.mx.resolvers in leads.yaml",
                arguments=("--vendor", "dns", "--host", host, "--port", str(port)),
                is_ready=partial(answers_dns, host, port),
                over_udp=True,
            )


def _is_local(base_url: str) -> bool:
    return urlsplit(base_url).scheme == "http" and urlsplit(base_url).hostname in _LOOPBACK


def _port(base_url: str) -> int:
    port = urlsplit(base_url).port
    if port is None:
        raise ConfigError(f"a sandbox needs a port in its base_url, {base_url} has none")
    return port


def _store(state: Path, name: str) -> Path:
    return state / f"sandbox-{name}.sqlite"
