"""Every fault in turn, again and again, under one load that never pauses.

``LEADS_CHAOS_LEADS`` says how many leads must be acknowledged at least, half of them with each kind of buffer
(``make chaos``: a million, and five rounds of faults; otherwise one round is enough), and ``LEADS_CHAOS_SECONDS`` after
how long each half stops all the same. It ends with a table.
"""

import contextlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from leads_pipeline_tests.chaos.faults import FAULTS, Fault
from leads_pipeline_tests.chaos.invariant import Account, assert_nothing_is_lost
from leads_pipeline_tests.chaos.senders import Ledger, Senders
from leads_pipeline_tests.chaos.small_disk import small_disk
from leads_pipeline_tests.chaos.target import Target, beside_the_server, running_target, wait_for

LEADS = int(os.environ.get("LEADS_CHAOS_LEADS", "0")) // 2
MOST_SECONDS = float(os.environ.get("LEADS_CHAOS_SECONDS", "1200"))
ROUNDS = 5 if LEADS else 1
CALM_LEADS = 2_000 if LEADS else 200
# Full of ballast it is full; without it the buffer has room for what comes while no worker lives.
DISK_MEGABYTES = 2_048 if LEADS else 256
BATCH_LEADS = 50 if LEADS else 5

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(MOST_SECONDS + 300)]


@dataclass(frozen=True)
class Inflicted:
    """One fault, and how long nobody's lead was taken meanwhile."""

    fault: Fault
    seconds_without: float


@pytest.mark.parametrize("in_redis", [False, True], ids=["buffer_in_postgresql", "buffer_in_redis"])
def test_every_acknowledged_lead_is_there_once_after_every_fault_in_turn(
    in_redis: bool, own_state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as stack:
        # Redis keeps its file where this test does: to fill that disk is not ours.
        disk = (
            None
            if in_redis
            else stack.enter_context(small_disk(beside_the_server(own_state), megabytes=DISK_MEGABYTES))
        )
        target = stack.enter_context(running_target(own_state, tmp_path, disk=disk, workers=2, in_redis=in_redis))
        faults = [fault for fault in FAULTS if can_be_inflicted(fault, target)]
        account, table = break_in_turn(target, faults)
    with capsys.disabled():
        sys.stdout.write(f"\n{table}\n")
    assert account.acknowledged >= LEADS, f"stopped after {MOST_SECONDS:.0f} s"


def can_be_inflicted(fault: Fault, target: Target) -> bool:
    """Whether there is what the fault breaks."""
    return (target.disk is not None or not fault.needs_disk) and (target.redis is not None or not fault.needs_redis)


def break_in_turn(target: Target, faults: Sequence[Fault]) -> tuple[Account, str]:
    """Inflict the faults in turn until enough leads came through; the account, and the table for people."""
    senders = Senders(target.port, target.key, batchers=16, batch_leads=BATCH_LEADS)
    ledger = senders.ledger
    began = time.monotonic()
    inflicted: list[Inflicted] = []
    senders.start()
    for fault in itertools.cycle(faults):
        enough = len(ledger.acknowledged) >= LEADS and len(inflicted) >= ROUNDS * len(faults)
        if enough or time.monotonic() > began + MOST_SECONDS:
            break
        ledger.longest_gap = 0.0
        fault.inflict(target, senders)
        wait_for_more(ledger, CALM_LEADS, after=fault)
        inflicted.append(Inflicted(fault, ledger.longest_gap))
    senders.finish(seconds=120)
    seconds = time.monotonic() - began
    account = assert_nothing_is_lost(target, ledger)
    return account, table_of(inflicted, ledger, account, seconds=seconds)


def wait_for_more(ledger: Ledger, leads: int, *, after: Fault) -> None:
    wanted = len(ledger.acknowledged) + leads
    wait_for(lambda: len(ledger.acknowledged) >= wanted, f"leads are taken after: {after.name}", seconds=120)


def table_of(inflicted: Sequence[Inflicted], ledger: Ledger, account: Account, *, seconds: float) -> str:
    """What was done, what the senders were told, and what became of it."""
    lines = ["fault                          times   seconds without a lead taken: median    worst"]
    for fault in dict.fromkeys(each.fault for each in inflicted):
        gaps = [each.seconds_without for each in inflicted if each.fault is fault]
        lines.append(f"{fault.name:30s} {len(gaps):5d} {statistics.median(gaps):38.1f} {max(gaps):8.1f}")
    told = account.acknowledged
    lines += [
        "",
        f"{told:,} leads acknowledged in {seconds:,.0f} s ({told / seconds:,.0f} a second), {len(inflicted)} faults",
    ]
    lines += [f"lost {len(account.lost)}, doubled {len(account.doubled)}, under another id {len(account.renamed)}"]
    lines += [f"{count:12,d}  {said}" for said, count in sorted(ledger.answers.items())]
    return "\n".join(lines)
