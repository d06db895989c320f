"""A process that plans and delivers, for tests that need more than one, or one that dies.

python -m leads_pipeline_tests.crm.deliver_process DATABASE_URL BASE_URL NUMBERS_JSON [WHEN]

It begins when nobody holds the advisory lock ``READY``, so that several begin together.

With a fourth argument it kills itself, as kill -9 does: once its first batch is ``claimed``, ``written`` down, ``sent``
with its answer unread, or ``answered`` and not settled; ``settled``: once its second batch is claimed.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.port import Courier, CrmClient, CrmRecord, CrmRequest, CrmResponse, RecordVerdict
from leads_pipeline.storage.database import engine_for
from leads_pipeline.telemetry import configure_logging
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import settings_for, sync

READY = 1_128


class Dies:
    """A client whose process is killed around its first batch."""

    def __init__(self, client: CrmClient, *, when: str) -> None:
        self._client = client
        self._when = when
        self._batches = 0
        self.traits = client.traits

    def send(self, request: CrmRequest) -> CrmResponse:
        if self._when == "written":
            _die()
        response = self._client.send(request)
        if self._when == "sent":
            _die()
        return response

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        self._batches += 1
        if self._when == "claimed" or (self._when == "settled" and self._batches == 2):
            _die()
        verdicts = self._client.deliver(records, courier=courier)
        if self._when == "answered":
            _die()
        return verdicts

    def close(self) -> None:
        self._client.close()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes nowhere")


def main(database_url: str, base_url: str, numbers: str, when: str | None = None) -> None:
    configure_logging(as_json=True)
    settings = settings_for(base_url, **json.loads(numbers))
    engine = engine_for(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock_shared(:ready)"), {"ready": READY})
    if when is None:
        report = sync(engine, settings, SystemClock())
        print(json.dumps({"delivered": report.delivered, "throttled": report.throttled}))  # noqa: T201
    else:
        clients = {name: Dies(client, when=when) for name, client in build_clients(settings).items()}
        sync(engine, settings, FrozenClock(NOW), clients=clients)


if __name__ == "__main__":
    main(*sys.argv[1:])
