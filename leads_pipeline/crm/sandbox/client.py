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
