"""The providers' accounts of one call of the step, opened as they are needed, closed together."""

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.errors import ConfigError
from leads_pipeline.telemetry import get_logger
from leads_pipeline.verification.account import Account
from leads_pipeline.verification.client import ProviderClient

_log = get_logger(__name__)


class Accounts:
    """By their names in leads.yaml."""

    def __init__(self, engine: sa.Engine, settings: VerificationSettings, *, clock: Clock, simulated: bool) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._simulated = simulated
        self._accounts: dict[str, Account] = {}
        self._clients: dict[str, ProviderClient] = {}
        self._unusable: dict[str, str] = {}

    def get(self, name: str) -> Account | None:
        """The account; ``None`` if leads.yaml does not name it, or its key is missing."""
        settings = self._settings.providers.get(name)
        if settings is not None and name not in self._accounts and name not in self._unusable:
            try:
                key = settings.key.resolve() if settings.key is not None else None
            except ConfigError:
                self._unusable[name] = "no key"
                _log.error("verification_key_missing", provider=name)
                return None
            account = Account(name, self._settings, engine=self._engine, clock=self._clock, simulated=self._simulated)
            self._accounts[name] = account
            self._clients[name] = ProviderClient(account.provider, settings, key)
        return self._accounts.get(name)

    def client(self, account: Account) -> ProviderClient:
        """What an account that ``get`` gave is asked through."""
        return self._clients[account.name]

    def why_not(self, name: str) -> str:
        """Why ``get`` gave none."""
        return self._unusable.get(name, "not in leads.yaml")

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
