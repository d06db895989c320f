"""What a service tells systemd, and the sockets that it is handed, in the two protocols that need no library.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html, …/sd_listen_fds.html. Without systemd nothing
here does anything.
"""

import contextlib
import os
import socket
from dataclasses import dataclass

from leads_pipeline.config import ServiceManager, service_manager

_FIRST_DESCRIPTOR = 3


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells the service manager how the service is; a manager that does not listen is no fault of the service's."""

    manager: ServiceManager

    @property
    def beat_seconds(self) -> float | None:
        """How often ``alive`` must be said; ``None`` if nobody waits for it."""
        seconds = self.manager.watchdog_seconds
        return None if seconds is None else seconds / 3

    def ready(self, status: str) -> None:
        """Connections are taken."""
        self._say(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """No connection is taken any more; what was accepted is being finished."""
        self._say("STOPPING=1\nSTATUS=finishing what was accepted")

    def alive(self) -> None:
        """The watchdog's beat."""
        self._say("WATCHDOG=1")

    def _say(self, state: str) -> None:
        address = self.manager.notify_socket
        if not address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.sendall(state.encode())


def notifier() -> Notifier:
    """The notifier of this process's environment."""
    return Notifier(service_manager())


def handed_sockets(manager: ServiceManager) -> list[socket.socket]:
    """The listening sockets that the service manager has opened for us; none if it has not."""
    found = []
    for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + manager.listen_fds):
        os.set_inheritable(descriptor, False)  # not for programs that we start
        found.append(socket.socket(fileno=descriptor))
    return found
