"""What is broken on purpose. Each fault breaks one thing under load and mends it again, as its operator would.

Add a fault here and to ``FAULTS``; the test and the long run take it from there, and docs/chaos.md names it.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from leads_pipeline_tests.chaos.senders import Senders
from leads_pipeline_tests.chaos.target import Target, faketime_environment, hold, wait_for

# Longer than the door waits for a commit's answer (buffer.reconnecting.ANSWER_SECONDS) takes too long for every test.
STOPPED_SECONDS = 3.0
BROKEN_SECONDS = 2.0
HOUR = 3_600
STEPS = (HOUR, -HOUR, 400 * 24 * HOUR, 0)  # seconds


@dataclass(frozen=True)
class Fault:
    """``inflict`` returns when what it broke is mended; the senders post all the while."""

    name: str
    inflict: Callable[[Target, Senders], None]
    needs_disk: bool = False
    needs_redis: bool = False
    needs_workers: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


def kill_capture(target: Target, senders: Senders) -> None:
    target.capture.kill()
    target.capture.start()


def restart_capture(target: Target, senders: Senders) -> None:
    assert target.capture.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    target.capture.start()


def kill_a_capture_worker(target: Target, senders: Senders) -> None:
    """One of those that share the port; the supervisor starts another."""
    before = {process.pid for process in target.capture_workers()}
    os.kill(min(before), signal.SIGKILL)
    wait_for(
        lambda: len(pids := {process.pid for process in target.capture_workers()}) == len(before) and pids != before,
        "the supervisor starts another worker",
    )


def kill_the_supervisor(target: Target, senders: Senders) -> None:
    """Its workers notice, finish what they took and end by themselves."""
    workers = target.capture_workers()
    target.capture.kill(alone=True)
    _gone, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "a worker outlives its supervisor"
    target.capture.start()


def kill_postgresql(target: Target, senders: Senders) -> None:
    os.kill(target.postgres_processes()[0].pid, signal.SIGKILL)
    target.server.start()


def kill_a_backend(target: Target, senders: Senders) -> None:
    """One that serves the door: PostgreSQL ends every session and recovers, as after any crash of a backend."""
    wait_for(lambda: bool(_sessions_of_the_door(target)), "the door is connected")
    with contextlib.suppress(ProcessLookupError):  # PostgreSQL was quicker to end it
        os.kill(_sessions_of_the_door(target)[0], signal.SIGKILL)
    wait_for(lambda: _answers(target), "PostgreSQL recovers by itself")


def end_the_sessions(target: Target, senders: Senders) -> None:
    with target.superuser() as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )


def stop_postgresql_for_a_while(target: Target, senders: Senders) -> None:
    processes = target.postgres_processes()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    try:
        hold(STOPPED_SECONDS)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def make_postgresql_read_only(target: Target, senders: Senders) -> None:
    refused_before = senders.ledger.refused
    with target.superuser() as connection:
        connection.execute("alter system set default_transaction_read_only = on")
        connection.execute("select pg_reload_conf()")
        if target.redis is None:  # which takes leads without PostgreSQL
            wait_for(lambda: senders.ledger.refused > refused_before, "a lead is refused while nothing can be written")
        hold(BROKEN_SECONDS)
        connection.execute("alter system reset default_transaction_read_only")
        connection.execute("select pg_reload_conf()")


def fill_the_disk(target: Target, senders: Senders) -> None:
    """Under load, until a lead is refused for it; what the worker gives back is taken as well."""
    disk = target.disk
    assert disk is not None
    refused_before = senders.ledger.refused

    def is_noticed() -> bool:
        disk.fill()
        return senders.ledger.refused > refused_before

    try:
        wait_for(is_noticed, "the full disk is noticed")
        hold(BROKEN_SECONDS)
    finally:
        disk.clear()


def kill_the_worker(target: Target, senders: Senders) -> None:
    target.worker.kill()
    hold(0.5)
    target.worker.start()


def step_the_clock(target: Target, senders: Senders) -> None:
    """The service's wall clock jumps an hour ahead, two back, to a year without partitions, and home."""
    with _stepped_clock(target) as step:
        for seconds in STEPS:
            step(seconds)
            wait_for(
                lambda seconds=seconds: abs(senders.ledger.last_id_ahead_seconds() - seconds) < HOUR / 2,
                f"leads are taken, and their ids are {seconds} seconds ahead",
            )


def leave_in_mid_body(target: Target, senders: Senders) -> None:
    """Half of all requests are broken off by their sender."""
    usual, senders.impatience = senders.impatience, 0.5
    try:
        hold(BROKEN_SECONDS)
    finally:
        senders.impatience = usual


def kill_redis(target: Target, senders: Senders) -> None:
    assert target.redis is not None
    target.redis.kill()
    hold(0.3)
    target.redis.start()


def stop_redis_for_a_while(target: Target, senders: Senders) -> None:
    assert target.redis is not None
    target.redis.pause()
    try:
        hold(STOPPED_SECONDS)
    finally:
        target.redis.resume()


FAULTS = (
    Fault("capture killed", kill_capture),
    Fault("capture restarted", restart_capture),
    Fault("capture worker killed", kill_a_capture_worker, needs_workers=True),
    Fault("capture supervisor killed", kill_the_supervisor, needs_workers=True),
    Fault("PostgreSQL killed", kill_postgresql),
    Fault("PostgreSQL backend killed", kill_a_backend),
    Fault("sessions ended", end_the_sessions),
    Fault("PostgreSQL stopped for 3 s", stop_postgresql_for_a_while),
    Fault("PostgreSQL read-only", make_postgresql_read_only),
    Fault("disk full", fill_the_disk, needs_disk=True),
    Fault("worker killed", kill_the_worker),
    Fault("clock stepped", step_the_clock),
    Fault("senders leave", leave_in_mid_body),
    Fault("Redis killed", kill_redis, needs_redis=True),
    Fault("Redis stopped for 3 s", stop_redis_for_a_while, needs_redis=True),
)


def _sessions_of_the_door(target: Target) -> list[int]:
    """Their processes; first of all one that commits leads, if the buffer is in PostgreSQL."""
    with target.superuser() as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where application_name like 'leads_capture%' "
            "order by application_name = 'leads_capture writer' desc, pid"
        ).fetchall()
    return [row[0] for row in rows]


def _answers(target: Target) -> bool:
    with contextlib.suppress(Exception), target.superuser() as connection:
        return connection.execute("select 1").fetchone() == (1,)
    return False


@contextlib.contextmanager
def _stepped_clock(target: Target) -> Iterator[Callable[[int], None]]:
    """The service under a clock that can be stepped while it runs; afterwards under the machine's own again."""

    def step(seconds: int) -> None:
        target.clock_file.write_text(f"{seconds:+d}\n")

    environment = faketime_environment(target)
    step(0)
    target.capture.end(signal.SIGTERM)
    target.capture.start(**environment)
    try:
        yield step
    finally:
        target.capture.end(signal.SIGTERM)
        target.capture.start()
