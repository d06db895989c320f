"""The control side of a sandbox that runs, over HTTP: what it saw, and how it should fail."""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from leads_pipeline.errors import LeadsError
from leads_pipeline.sandbox.faults import FaultRule

TIMEOUT_SECONDS = 30.0


class ControlClient:
    """Asks one sandbox. Every method raises ``LeadsError`` if it cannot be reached or refuses."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def report(self) -> dict[str, Any]:
        """What the sandbox saw; docs/sandbox.md explains each number."""
        found: dict[str, Any] = self._ask("GET", "/_sandbox/report")
        return found

    def faults(self) -> list[dict[str, Any]]:
        """The rules in force, each with how often it ``fired``."""
        found: list[dict[str, Any]] = self._ask("GET", "/_sandbox/faults")
        return found

    def set_faults(self, rules: Sequence[FaultRule | dict[str, Any]]) -> list[dict[str, Any]]:
        """Replace the rules."""
        found: list[dict[str, Any]] = self._ask("PUT", "/_sandbox/faults", content=msgspec.json.encode(list(rules)))
        return found

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self._ask("DELETE", "/_sandbox/faults")

    def reset(self) -> None:
        """Forget everything that it saw, its limits and its faults."""
        self._ask("POST", "/_sandbox/reset")

    def _ask(
        self, method: str, path: str, *, content: bytes | None = None, params: dict[str, str | int] | None = None
    ) -> Any:
        if self._http is None:
            # Plain HTTP to a server of ours: neither certificates nor a proxy of the environment have a part in it.
            self._http = httpx.Client(
                base_url=self.base_url,
                timeout=TIMEOUT_SECONDS,
                trust_env=False,
                verify=False,  # noqa: S501
            )
        try:
            response = self._http.request(method, path, content=content, params=params)
        except httpx.HTTPError as error:
            raise LeadsError(
                f"the sandbox at {self.base_url} cannot be reached ({type(error).__name__}). "
                "Start it with `leads sandbox serve`, or name the right address with --url."
            ) from error
        if response.status_code >= 400:
            raise LeadsError(f"the sandbox at {self.base_url} refused: {_reason(response)}")
        return response.json() if response.content else None


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
