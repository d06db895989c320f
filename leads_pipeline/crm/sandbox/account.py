"""One account that is played: its contacts, its quota, its faults and what it saw, behind one lock."""

from random import Random
from threading import RLock

from leads_pipeline.clock import Clock
from leads_pipeline.crm.sandbox.hubspot.calls import Account
from leads_pipeline.crm.sandbox.hubspot.store import ContactStore
from leads_pipeline.crm.sandbox.limits import AccountLimits
from leads_pipeline.crm.sandbox.observations import CrmObservations
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.sandbox.faults import FaultInjector


class PlayedAccount:
    """Whoever reads or changes anything in here holds ``lock``. ``reset`` replaces everything but the file."""

    def __init__(self, options: SandboxOptions, *, clock: Clock, random: Random) -> None:
        self.options = options
        self.clock = clock
        self.random = random
        self.lock = RLock()
        self._store = ContactStore(
            options.store, key_property=options.key_property, custom_properties=options.custom_properties
        )
        self._begin()

    @property
    def faults(self) -> FaultInjector:
        return self.shared.faults

    @property
    def observations(self) -> CrmObservations:
        return self.shared.observations

    def reset(self) -> None:
        """Forget contacts, counts, limits and faults."""
        with self.lock:
            self._store.clear()
            self._begin()

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self._store.close()

    def _begin(self) -> None:
        self.limits = AccountLimits(self.options)
        self.shared = Account(
            options=self.options,
            store=self._store,
            faults=FaultInjector(self.random, clock=self.clock),
            observations=CrmObservations(self.options.window_seconds),
            random=self.random,
        )
