"""Whether a lane's leads are taken: by the buffer's room and by what rules have ordered, asked by every request.

Both are looked up by a task of its own, at most once a second.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from leads_pipeline.buffer.bounds import BufferGauge, Reading, pause_after
from leads_pipeline.buffer.port import BufferDepth
from leads_pipeline.clock import Clock
from leads_pipeline.domain.buffer_bounds import Level
from leads_pipeline.domain.orders import NO_ORDERS, Orders
from leads_pipeline.domain.stage import Lane
from leads_pipeline.telemetry import get_logger

_log = get_logger(__name__)

AsyncDepths = Callable[[], Awaitable[Sequence[BufferDepth]]]
AsyncOrders = Callable[[datetime], Awaitable[Orders]]


class Admission:
    """What the door asks before it takes a lead.

    The buffer is measured in the background and its level remembered: asking costs a look into a set. Until the first
    measurement, and when none has succeeded for ``bounds.LAST_LEVEL_SECONDS``, every lane is open. ``processes`` is how
    many measure the same buffer.
    """

    def __init__(
        self,
        depths: AsyncDepths,
        gauge: BufferGauge,
        *,
        clock: Clock,
        processes: int = 1,
        orders: AsyncOrders | None = None,
    ) -> None:
        """``orders`` reads what rules have ordered the door to refuse; ``None``: no rule is heard."""
        self._depths = depths
        self._read_orders = orders
        self._orders = NO_ORDERS
        self._orders_fail = False
        self._gauge = gauge
        self._clock = clock
        self._processes = processes
        self._refused: frozenset[Lane] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def is_open(self, lane: Lane, tenant: str | None = None) -> bool:
        """Whether a tenant's leads of this lane are taken now; without a tenant, whether there is room for them."""
        if lane in self._refused:
            return False
        if tenant is None or not self._orders.in_force:
            return True
        return not self._orders.at(self._clock.now()).refuses(tenant, lane)

    @property
    def level(self) -> Level:
        """What decides which lanes are open."""
        return self._gauge.level

    @property
    def reading(self) -> Reading | None:
        """The last measurement."""
        return self._gauge.reading

    def start(self) -> None:
        """Begin to measure, in the running loop."""
        self._task = asyncio.create_task(self._measure_until_closed(), name="buffer bounds")

    async def close(self) -> None:
        """Stop measuring."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _measure_until_closed(self) -> None:
        while True:
            began, before = self._clock.monotonic(), self._gauge.level
            try:
                reading = self._gauge.measured(await self._depths())
                if reading.level is not before:
                    _log.warning(
                        "buffer changed its level",
                        before=before,
                        level=reading.level,
                        fill=round(reading.fill.worst, 3),
                    )
            except Exception as error:  # noqa: BLE001 - the door must not close, nor this task end, over a measurement
                self._gauge.failed(error)
            self._refused = self._gauge.level.refused
            await self._read()
            await asyncio.sleep(pause_after(self._clock.monotonic() - began, share=self._processes))

    async def _read(self) -> None:
        """Take in what is ordered. What is known stands while that cannot be read, each order until its own end."""
        if self._read_orders is None:
            return
        try:
            self._orders = await self._read_orders(self._clock.now())
            self._orders_fail = False
        except Exception as error:  # noqa: BLE001 - the door must not close, nor this task end, over a rule
            if not self._orders_fail:
                _log.warning("orders could not be read", error_class=type(error).__name__)
            self._orders_fail = True
