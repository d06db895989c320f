"""The control side of a sandbox CRM that runs: also its contacts, and how often each was written."""

from collections.abc import Iterator
from typing import Any

from leads_pipeline.sandbox.client import ControlClient


class SandboxClient(ControlClient):
    """Asks one sandbox CRM. Every method raises ``LeadsError`` if it cannot be reached or refuses."""

    def contacts(self, *, archived: bool = False) -> Iterator[dict[str, Any]]:
        """Every contact, in the order of ids: ``id``, ``properties``, ``archived``."""
        after: str | None = "0"
        while after is not None:
            page = self._ask("GET", f"/_sandbox/contacts?after={after}&limit=1000&archived={str(archived).lower()}")
            yield from page["contacts"]
            after = page["after"]

    def writes_per_lead_key(self, *, at_least: int = 1) -> dict[str, int]:
        """How often each lead key was written, those below ``at_least`` left out."""
        writes: dict[str, int] = {}
        after: str | None = ""
        while after is not None:
            page = self._ask("GET", "/_sandbox/writes", params={"after": after, "at_least": at_least})
            writes |= page["writes"]
            after = page["after"]
        return writes

    def arrivals(self) -> Iterator[dict[str, Any]]:
        """Every request of the log, oldest first; docs/sandbox.md explains the fields."""
        after: int | None = 0
        while after is not None:
            page = self._ask("GET", "/_sandbox/arrivals", params={"after": after})
            yield from page["arrivals"]
            after = page["after"]

    def fullest_windows(
        self, *seconds: float, application: int | None = None, endpoint: str | None = None
    ) -> list[dict[str, Any]]:
        """The most ``requests`` and ``accepted`` ones in any window of so many ``seconds``, from the log."""
        params: dict[str, str | int] = {"seconds": ",".join(map(str, seconds))}
        if application is not None:
            params["application"] = application
        if endpoint is not None:
            params["endpoint"] = endpoint
        found: list[dict[str, Any]] = self._ask("GET", "/_sandbox/windows", params=params)["windows"]
        return found

    def expire_tokens(self) -> int:
        """End every token that the sandbox gave out; returns how many there were."""
        return int(self._ask("POST", "/_sandbox/tokens/expire")["expired"])
