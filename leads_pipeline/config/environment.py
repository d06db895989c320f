"""What else the environment says, and where the project's own files are."""

import os
from dataclasses import dataclass
from pathlib import Path

DATABASE_URL_VARIABLE = "LEADS_DATABASE_URL"
LOOKUP_DATABASE_URL_VARIABLE = "LEADS_LOOKUP_DATABASE_URL"


def database_url() -> str | None:
    """The PostgreSQL to use instead of the embedded one, or ``None``."""
    return os.environ.get(DATABASE_URL_VARIABLE) or None


def lookup_database_url() -> str | None:
    """The login with which the HTTP door reads contacts, or ``None``: its own, with another role."""
    return os.environ.get(LOOKUP_DATABASE_URL_VARIABLE) or None


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """What systemd has put into the environment of a service that it started."""

    notify_socket: str | None
    listen_fds: int
    watchdog_seconds: float | None


def service_manager() -> ServiceManager:
    """What systemd tells this process; nothing where something else started it."""

    def is_meant_for_us(variable: str) -> bool:
        return os.environ.get(variable, str(os.getpid())) == str(os.getpid())

    descriptors, watchdog = os.environ.get("LISTEN_FDS", ""), os.environ.get("WATCHDOG_USEC", "")
    handed = descriptors.isdigit() and "LISTEN_PID" in os.environ and is_meant_for_us("LISTEN_PID")
    watched = watchdog.isdigit() and is_meant_for_us("WATCHDOG_PID")
    return ServiceManager(
        notify_socket=os.environ.get("NOTIFY_SOCKET") or None,
        listen_fds=int(descriptors) if handed else 0,
        watchdog_seconds=int(watchdog) / 1e6 if watched else None,
    )


def inherited_environment() -> dict[str, str]:
    """A copy of the environment for a child process."""
    return dict(os.environ)


def project_file(name: str) -> Path:
    """A file or directory of the repository that is read at run time: in a checkout, or as shipped in the wheel."""
    package = Path(__file__).parent.parent
    checkout = package.parent / name
    return checkout if checkout.exists() else package / "_project" / name
