"""Which sandboxes stand in for the vendors of a configuration: those at an http address, or a port, of this machine.

Add a kind of vendor here; what a sandbox answers stands in ``crm.sandbox`` and ``verification.sandbox``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import dns.exception
import dns.message
import dns.query
import httpx

from leads_pipeline.config import Destination, ProviderSettings, Settings
from leads_pipeline.crm.sandbox.options import SandboxOptions, Window
from leads_pipeline.crm.sandbox.vendors import VENDORS
from leads_pipeline.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Below it stands a resolver of the machine's own.
_FIRST_FREE_PORT = 1024
# The options of a sandbox that the command line calls otherwise.
_FLAGS = {"window_seconds": "--per", "more_windows": "--window", "custom_properties": "--property"}


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
    # Environment variables of what its clients show; it demands what is in the first.
    secret_envs: tuple[str, ...] = ()
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
    return {
        name: item
        for name, item in settings.destinations.items()
        if item.vendor in VENDORS and (address := item.address()) is not None and _is_local(address)
    }


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
        address = destination.address()
        assert address is not None  # what is local has an address
        vendor = VENDORS[destination.vendor]
        envs = tuple(ref.env for ref in vendor.secrets_of(destination))
        options = replace(
            _limited_as(vendor.account_for(destination), destination), store=_store(settings.state_path, name)
        )
        port = _port(address)
        yield LocalSandbox(
            name=f"sandbox-{name}",
            title="Sandbox CRM",
            vendor=name,
            address=address,
            port=port,
            setting=f"destinations.{name}.base_url in leads.yaml",
            arguments=(
                "--vendor", destination.vendor, "--host", "127.0.0.1", "--port", str(port),
                *(part for env in envs[:1] for part in ("--token-env", env)),
                *_arguments(options),
            ),
            is_ready=partial(answers, f"{address.rstrip('/')}/_sandbox/report"),
            secret_envs=envs,
        )  # fmt: skip


def _limited_as(options: SandboxOptions, destination: Destination) -> SandboxOptions:
    """The account with the limits that leads.yaml states; where it states none, the vendor's own."""
    limits = destination.limits
    windows = [Window(item.most, item.seconds) for item in limits.windows if item.unit == "requests"]
    if windows:
        first, *more = windows
        options = replace(options, requests=first.most, window_seconds=first.seconds, more_windows=tuple(more))
    if limits.daily:
        options = replace(options, daily=limits.daily.requests, time_zone=limits.daily.time_zone)
    return options


def _arguments(options: SandboxOptions) -> Iterator[str]:
    """What `leads sandbox serve` must be told so that it plays the account of ``options``."""
    for option in fields(options):
        value = getattr(options, option.name)
        if value == option.default:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            yield _FLAGS.get(option.name, f"--{option.name.replace('_', '-')}")
            yield f"{one.most}/{one.seconds}" if isinstance(one, Window) else str(one)


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
            secret_envs=(provider.key.env,) if provider.key else (),
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
