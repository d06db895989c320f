"""One account that is played: a vendor, its quota, its faults and what it saw, behind one lock."""

from datetime import timedelta
from random import Random
from threading import RLock

from leads_pipeline.clock import Clock
from leads_pipeline.crm.sandbox.arrivals import Arrivals
from leads_pipeline.crm.sandbox.limits import API
from leads_pipeline.crm.sandbox.observations import CrmObservations
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.crm.sandbox.others import OtherApplication
from leads_pipeline.crm.sandbox.tokens import PLAYED, Tokens
from leads_pipeline.crm.sandbox.vendor import Shared
from leads_pipeline.crm.sandbox.vendors import VENDORS
from leads_pipeline.sandbox.faults import FaultInjector

# What the application that the sandbox plays itself is called among the endpoints.
OTHERS = "another application"


class PlayedAccount:
    """Whoever reads or changes anything in here holds ``lock``. ``reset`` replaces everything but the file."""

    def __init__(self, options: SandboxOptions, *, clock: Clock, random: Random) -> None:
        self.options = options
        self.clock = clock
        self.random = random
        self.lock = RLock()
        self.vendor = VENDORS[options.vendor].play(options)
        self._begin()

    @property
    def faults(self) -> FaultInjector:
        return self.shared.faults

    @property
    def observations(self) -> CrmObservations:
        return self.shared.observations

    def reset(self) -> None:
        """Forget contacts, counts, limits, tokens and faults."""
        with self.lock:
            self.vendor.clear()
            self._begin()

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self.vendor.close()

    def catch_up(self) -> None:
        """Let the other application that is played ask for what it has asked until now."""
        now, tick = self.clock.now(), self.clock.monotonic()
        for at in self._others.due(tick):
            admission = self.shared.limits.admit(now=now - timedelta(seconds=tick - at), tick=at, limited_as=API)
            status = 429 if admission.refused else 200
            self.arrivals.add(
                tick=at, endpoint=OTHERS, application=PLAYED, status=status, accepted=not admission.refused
            )

    def _begin(self) -> None:
        began = self.clock.monotonic()
        self.arrivals = Arrivals(began=began)
        self._others = OtherApplication(self.options.others_per_second, began=began)
        self.shared = Shared(
            options=self.options,
            limits=self.vendor.limits(),
            faults=FaultInjector(self.random, clock=self.clock),
            observations=CrmObservations(self.options.windows),
            tokens=Tokens(self.options, random=self.random),
            random=self.random,
        )
