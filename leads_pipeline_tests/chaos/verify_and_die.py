"""Looks up what is due and kills itself with -9 around one call to the provider.

    python verify_and_die.py CONFIG MOMENT

MOMENT is ``recorded`` (the call is in the books, nothing was sent), ``sent`` (the provider has answered, and nobody has
written it down), or ``named`` (the call is written, its transaction is open).
"""

import os
import signal
import sys
from collections.abc import Sequence

import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.steps.verifications import verify_leads
from leads_pipeline.storage.open import open_database
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.port import ProviderAnswer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    config, moment = sys.argv[1:]
    ask = ProviderClient.ask

    def ask_and_die(client: ProviderClient, subjects: Sequence[str]) -> ProviderAnswer:
        if moment == "sent":
            ask(client, subjects)
        die()
        raise AssertionError

    def die_before_the_commit(connection: sa.Connection) -> None:
        mine = "select exists (select from verification_calls where xmin::text = pg_current_xact_id()::xid::text)"
        if connection.execute(sa.text(mine)).scalar():
            die()

    if moment == "named":
        sa.event.listen(sa.Engine, "commit", die_before_the_commit)
    else:
        ProviderClient.ask = ask_and_die  # type: ignore[assignment, method-assign]
    settings = load_settings(config)
    verify_leads(
        open_database(settings),
        settings=settings.verification,
        clock=SystemClock(),
        runner_id="doomed",
        budget_seconds=30,
    )
    raise SystemExit("still alive")


if __name__ == "__main__":
    main()
