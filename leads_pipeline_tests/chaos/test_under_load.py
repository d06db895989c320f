"""Sixty-four senders post while the machine breaks under them: every acknowledged lead is stored exactly once.

Short here, one fault at a time. ``make chaos`` runs the long one: all faults in turn, a million leads.
"""

import itertools
import json
from datetime import datetime
from pathlib import Path

import pytest

from leads_pipeline.capture.writer import PROBE_PAUSE_SECONDS
from leads_pipeline_tests.chaos.faults import FAULTS, Fault
from leads_pipeline_tests.chaos.invariant import assert_nothing_is_lost
from leads_pipeline_tests.chaos.senders import Senders
from leads_pipeline_tests.chaos.small_disk import small_disk
from leads_pipeline_tests.chaos.target import Target, beside_the_server, running_target, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

LEADS_BEFORE = 300
LEADS_AFTER = 300


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not (fault.needs_disk or fault.needs_redis)], ids=str)
def test_no_acknowledged_lead_is_lost_or_doubled_by(fault: Fault, own_state: Path, tmp_path: Path) -> None:
    with running_target(own_state, tmp_path, workers=2 if fault.needs_workers else 1) as target:
        break_under_load(target, fault)


def test_a_full_disk_is_refused_for_and_the_door_opens_by_itself_when_there_is_room(
    own_state: Path, tmp_path: Path
) -> None:
    with (
        small_disk(beside_the_server(own_state), megabytes=48) as disk,
        running_target(own_state, tmp_path, disk=disk) as target,
    ):
        (fault,) = (fault for fault in FAULTS if fault.needs_disk)
        break_under_load(target, fault)
        lasted = safe_modes(target.capture.log)
    # A full disk answers questions and refuses leads: each try to write costs those who wait, and two lines of the log.
    assert lasted
    assert min(lasted) > 0.9 * PROBE_PAUSE_SECONDS


REDIS_FAULTS = ("Redis killed", "Redis stopped for 3 s", "capture killed", "PostgreSQL killed", "worker killed")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in REDIS_FAULTS], ids=str)
def test_no_acknowledged_lead_in_redis_is_lost_or_doubled_by(fault: Fault, own_state: Path, tmp_path: Path) -> None:
    with running_target(own_state, tmp_path, in_redis=True) as target:
        break_under_load(target, fault)
        assert target.redis is not None
        with target.redis.client() as client:
            assert client.dbsize() > 0, "nothing was ever in Redis"


def break_under_load(target: Target, fault: Fault) -> Senders:
    """Inflict a fault on a target at which all senders post, and hold it to the invariant when it is over."""
    senders = Senders(target.port, target.key)
    senders.start()
    wait_for(lambda: len(senders.ledger.acknowledged) >= LEADS_BEFORE, "the load began")
    fault.inflict(target, senders)
    mended = len(senders.ledger.acknowledged)
    wait_for(lambda: len(senders.ledger.acknowledged) >= mended + LEADS_AFTER, "leads are taken again")
    senders.finish(seconds=60)
    account = assert_nothing_is_lost(target, senders.ledger)
    assert account.acknowledged == senders.ledger.posted, "every sender came through in the end"
    return senders


def safe_modes(log: Path) -> list[float]:
    """How many seconds each safe mode of the service lasted."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"safe mode ' in line]
    at = [(line["event"], datetime.fromisoformat(line["timestamp"])) for line in lines]
    return [
        (ended - began).total_seconds()
        for (event, began), (_next, ended) in itertools.pairwise(at)
        if event == "safe mode began"
    ]
