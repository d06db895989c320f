"""Several processes on one port: how they share it, die, come back and end."""

import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline_tests.capture.processes import Service, metric, service
from leads_pipeline_tests.capture.running import make_key, wait_until


def post(url: str, key: str, number: str) -> httpx.Response:
    """One lead, over a connection of its own."""
    return httpx.post(
        f"{url}/v1/leads",
        json={"number": number},
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
        trust_env=False,
    )


def stored(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text("select payload ->> 'number' from buffer")).scalars())


def connections_of(running: Service) -> Counter[int]:
    """How many senders' connections each worker holds."""
    return Counter(
        {
            worker.pid: sum(
                found.status == psutil.CONN_ESTABLISHED and found.laddr.port == running.port
                for found in worker.net_connections("tcp")
            )
            for worker in running.workers()
        }
    )


def test_workers_share_the_connections_and_one_scrape_counts_for_all(
    database_url: str, engine: sa.Engine, clock: FrozenClock, tmp_path: Path
) -> None:
    key = make_key(engine, clock)
    with service(tmp_path, database_url, "--workers", "2") as running:
        clients = [
            httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60)
            for _ in range(24)
        ]
        for number, client in enumerate(clients):
            assert client.post("/v1/leads", json={"number": str(number)}).status_code == 202
        assert len(running.workers()) == 2
        assert sum(connections_of(running).values()) == 24
        assert min(connections_of(running).values()) > 0
        # Each scrape is a new connection, so that both workers answer; the counts are the same and never go back.
        scrapes = [metric(running.url, "leads_capture_leads_total", result="accepted") for _ in range(12)]
        assert set(scrapes) == {24.0}
        seen = [metric(running.url, "leads_capture_requests_total", route="/metrics") for _ in range(12)]
        assert seen == [float(12 + place) for place in range(12)]
        wait_until(lambda: metric(running.url, "leads_capture_workers") == 2)
        for client in clients:
            client.close()
        assert running.end() == 0
    assert len(stored(engine)) == 24


def test_a_worker_that_dies_is_started_again_and_its_counts_stay(
    database_url: str, engine: sa.Engine, clock: FrozenClock, tmp_path: Path
) -> None:
    key = make_key(engine, clock)
    with service(tmp_path, database_url, "--workers", "2") as running:
        for number in range(10):
            assert post(running.url, key, str(number)).status_code == 202
        before = {worker.pid for worker in running.workers()}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(running.workers()) == 2 and not before & {worker.pid for worker in running.workers()})
        assert post(running.url, key, "after").status_code == 202
        assert metric(running.url, "leads_capture_leads_total", result="accepted") == 11
        assert running.end() == 0
    assert running.errors.count("capture worker ended") == 2
    assert len(stored(engine)) == 11


@pytest.mark.parametrize("workers", ["1", "2"])
def test_64_senders_lose_nothing_that_was_acknowledged_when_the_service_is_stopped(
    database_url: str, engine: sa.Engine, clock: FrozenClock, tmp_path: Path, workers: str
) -> None:
    key = make_key(engine, clock)
    acknowledged: list[str] = []
    others: list[str] = []

    def send(sender: int) -> None:
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as client:
            for place in range(10_000):
                number = f"{sender}-{place}"
                try:
                    answer = client.post("/v1/leads", json={"number": number}, timeout=30)
                except httpx.TransportError as error:
                    others.append(type(error).__name__)
                    return
                if answer.status_code != 202:
                    others.append(str(answer.status_code))
                    return
                acknowledged.append(number)

    with service(tmp_path, database_url, "--workers", workers) as running, ThreadPoolExecutor(64) as pool:
        sending = [pool.submit(send, sender) for sender in range(64)]
        wait_until(lambda: len(acknowledged) > 500)
        assert running.end() == 0
        for sender in sending:
            sender.result(timeout=60)
    found = stored(engine)
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    assert len(others) == 64
    assert set(others) <= {"503", "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
    assert "Traceback" not in running.errors


def test_an_interrupt_ends_it_as_well(database_url: str, tmp_path: Path) -> None:
    with service(tmp_path, database_url) as running:
        assert running.end(signal.SIGINT) == 0
    with service(tmp_path, database_url, "--workers", "2") as running:
        workers = running.workers()
        assert running.end(signal.SIGINT) == 0
        assert not any(worker.is_running() for worker in workers)


def test_workers_end_when_their_supervisor_is_killed(database_url: str, tmp_path: Path) -> None:
    with service(tmp_path, database_url, "--workers", "2") as running:
        workers = running.workers()
        running.running.kill()
        _gone, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == []


def test_workers_do_not_share_a_port_with_a_service_that_is_there(database_url: str, tmp_path: Path) -> None:
    with (
        service(tmp_path, database_url, "--workers", "2") as running,
        pytest.raises(AssertionError, match="Address already in use"),
        service(tmp_path, database_url, "--workers", "2", port=running.port),
    ):
        pass


def test_a_worker_whose_loop_stands_still_is_killed_and_replaced(
    database_url: str, engine: sa.Engine, tmp_path: Path
) -> None:
    """A stopped process stands for a loop that hangs; the patience is shortened in the process itself."""
    starter = tmp_path / "impatient.py"
    starter.write_text(
        "import sys\n"
        "from leads_pipeline.capture import workers\n"
        "from leads_pipeline.cli import main\n"
        "workers.SILENT_SECONDS = 3.0\n"
        "sys.argv = ['leads', *sys.argv[4:]]\n"
        "main()\n"
    )
    with service(tmp_path, database_url, "--workers", "2", through=[sys.executable, str(starter)]) as running:
        [stuck, sound] = running.workers()
        stuck.suspend()
        wait_until(lambda: not stuck.is_running() and len(running.workers()) == 2)
        assert sound.is_running()
        assert post(running.url, make_key(engine, SystemClock()), "1").status_code == 202
        assert running.end() == 0
    assert "capture worker does not answer" in running.errors


def test_a_connection_that_waits_while_a_worker_is_replaced_is_answered(database_url: str, tmp_path: Path) -> None:
    answers: list[int] = []
    with service(tmp_path, database_url, "--workers", "2") as running:
        for worker in running.workers():
            worker.suspend()
        asking = [
            threading.Thread(
                target=lambda: answers.append(
                    httpx.get(f"{running.url}/healthz", timeout=30, trust_env=False).status_code
                )
            )
            for _ in range(8)
        ]
        for thread in asking:
            thread.start()
        wait_until(lambda: _waiting_connections(running.port) >= 8)
        for worker in running.workers():
            worker.kill()
        for thread in asking:
            thread.join(timeout=60)
        assert running.end() == 0
    assert answers == [200] * 8


def _waiting_connections(port: int) -> int:
    """Connections that the kernel has established, seen from the senders' side."""
    return sum(
        found.status == psutil.CONN_ESTABLISHED and bool(found.raddr) and found.raddr.port == port
        for found in psutil.Process().net_connections("tcp")
    )
