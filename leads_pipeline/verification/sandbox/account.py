"""One provider account that is played: limits, bills, faults and what it saw, behind one lock."""

from collections.abc import Callable
from random import Random
from threading import RLock

from leads_pipeline.clock import Clock
from leads_pipeline.sandbox.faults import FaultInjector
from leads_pipeline.sandbox.observations import Observations
from leads_pipeline.verification.sandbox.ledger import Ledger
from leads_pipeline.verification.sandbox.limits import Limit, Limits
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Vendor


class ProviderAccount:
    """Whoever reads or changes anything in here holds ``lock``. ``reset`` replaces everything."""

    def __init__(
        self,
        options: ProviderOptions,
        make_vendor: Callable[[ProviderOptions], Vendor],
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        self.options = options
        self.clock = clock
        self.lock = RLock()
        self._make_vendor = make_vendor
        self._random = random
        self._begin()

    @property
    def faults(self) -> FaultInjector:
        return self._faults

    @property
    def observations(self) -> Observations:
        return self._observations

    def reset(self) -> None:
        """Forget bills, jobs, counts, limits and faults."""
        with self.lock:
            self._begin()

    def _begin(self) -> None:
        self.vendor = self._make_vendor(self.options)
        self.batch_size = self.options.batch_size or self.vendor.batch_size
        self.limits = Limits(self._limits() if self.options.limited else {})
        self.ledger = Ledger(self.options.credit)
        self.throttled = 0
        self._faults = FaultInjector(self._random, clock=self.clock)
        self._observations = Observations()

    def _limits(self) -> dict[str, Limit]:
        calls = self.options.calls_per_minute
        if calls is None:
            return dict(self.vendor.limits)
        return {name: limit.with_calls_per_minute(calls) for name, limit in self.vendor.limits.items()}
