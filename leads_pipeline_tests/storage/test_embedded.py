"""The embedded server's life cycle, with real processes. Root's part is in ``test_embedded_root``."""

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import psycopg
import pytest

from leads_pipeline.errors import EmbeddedServerError
from leads_pipeline.storage.embedded import EmbeddedServer, ServerState, shared_buffers_mb, usable_memory
from leads_pipeline_tests.conftest import remove_dead_sessions, sessions

STARTER = Path(__file__).with_name("starter.py")
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def own_server(own_state: Path) -> EmbeddedServer:
    return EmbeddedServer(own_state, durable=False)


def _start_in_a_process(state: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(STARTER), str(state), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _answer(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    answer: dict[str, str] = json.loads(process.stdout.readline())
    return answer


def _postmasters(server: EmbeddedServer) -> list[int]:
    data = str(server.directory / "data")
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if data in (process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _eventually(condition: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def _scalar(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def test_a_started_server_answers_and_a_stopped_one_comes_back_with_its_rows(own_server: EmbeddedServer) -> None:
    url = own_server.start()
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 42 as answer")
    assert own_server.status().state is ServerState.RUNNING
    assert own_server.stop()
    assert own_server.status().state is ServerState.STOPPED
    assert not own_server.stop()
    assert own_server.start() == url, "the port and the password are remembered"
    assert _scalar(url, "select answer from kept") == 42


def test_starting_a_running_server_gives_the_same_url_and_process(own_server: EmbeddedServer) -> None:
    url, pid = own_server.start(), own_server.status().pid
    assert own_server.start() == url
    assert own_server.status().pid == pid


def test_a_server_that_was_never_started_is_absent(own_server: EmbeddedServer, own_state: Path) -> None:
    assert own_server.status().state is ServerState.ABSENT
    assert not own_server.stop()
    with pytest.raises(EmbeddedServerError, match="leads db start"):
        own_server.url()
    assert list(own_state.iterdir()) == []


def test_a_removed_server_leaves_no_file_and_no_process(own_server: EmbeddedServer) -> None:
    own_server.start()
    own_server.remove()
    assert not own_server.directory.exists()
    assert _postmasters(own_server) == []


def test_settings_are_durable_unless_a_test_asks_otherwise(own_state: Path, server: EmbeddedServer) -> None:
    durable = EmbeddedServer(own_state).start()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert _scalar(durable, f"show {setting}") == "on"
        assert _scalar(server.url(), f"show {setting}") == "off"


@pytest.mark.parametrize(("gigabytes", "megabytes"), [(0.5, 128), (4, 512), (8, 1_024), (64, 1_024)])
def test_pages_are_kept_in_an_eighth_of_the_memory(gigabytes: float, megabytes: int) -> None:
    assert shared_buffers_mb(int(gigabytes * 2**30)) == megabytes


def test_a_server_has_the_buffers_that_the_machine_allows(server: EmbeddedServer) -> None:
    pages = _scalar(server.url(), "select cast(setting as integer) from pg_settings where name = 'shared_buffers'")
    assert isinstance(pages, int)
    megabytes = pages * 8 // 1024  # pages of 8 kB
    assert megabytes == shared_buffers_mb(usable_memory())
    assert 128 <= megabytes <= max(128, psutil.virtual_memory().total // 2**20 // 8)


LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


@pytest.mark.parametrize("name", LIMITS)
def test_a_containers_limit_counts_where_it_is_less_than_the_machines_memory(tmp_path: Path, name: str) -> None:
    _limit(tmp_path, name, "268435456\n")
    assert usable_memory(tmp_path) == 2**28


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("said", ["max\n", "9223372036854771712\n", "", None])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, name: str, said: str | None) -> None:
    if said is not None:
        _limit(tmp_path, name, said)
    assert usable_memory(tmp_path) == psutil.virtual_memory().total


def test_a_limit_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "memory.max").mkdir()
    assert usable_memory(tmp_path) == psutil.virtual_memory().total


def _limit(control_groups: Path, name: str, said: str) -> None:
    file = control_groups / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(said, encoding="ascii")


def test_the_database_knows_letters_beyond_ascii(server: EmbeddedServer) -> None:
    assert _scalar(server.url(), "select lower('É') || current_setting('server_encoding')") == "éUTF8"


def test_a_wrong_password_is_refused(server: EmbeddedServer) -> None:
    wrong = psycopg.conninfo.make_conninfo(server.url(), password="wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    assert "trust" not in str(_scalar(server.url(), "select string_agg(auth_method, ',') from pg_hba_file_rules"))


def test_it_listens_on_this_machine_only(server: EmbeddedServer) -> None:
    pid = server.status().pid
    assert pid is not None
    addresses = {connection.laddr.ip for connection in psutil.Process(pid).net_connections("inet")}
    assert addresses == {"127.0.0.1"}


def test_the_password_is_for_the_owner_only(server: EmbeddedServer) -> None:
    for name in ("password", "port", "lock", "alive"):
        assert (server.directory / name).stat().st_mode & 0o077 == 0
    assert (server.directory / "data").stat().st_mode & 0o077 == 0


def test_a_port_that_somebody_took_is_replaced(own_server: EmbeddedServer) -> None:
    port = psycopg.conninfo.conninfo_to_dict(own_server.start())["port"]
    own_server.stop()
    with socket.create_server(("127.0.0.1", int(str(port)))):
        moved = own_server.start()
        assert psycopg.conninfo.conninfo_to_dict(moved)["port"] != port
    assert own_server.url() == moved


def test_another_server_on_the_remembered_port_is_not_taken_for_ours(
    own_server: EmbeddedServer, server: EmbeddedServer
) -> None:
    own_server.start()
    own_server.stop()
    (own_server.directory / "port").write_text((server.directory / "port").read_text())
    assert own_server.status().state is ServerState.STOPPED
    assert own_server.start() != server.url()
    assert _scalar(own_server.url(), "show data_directory") == str(own_server.directory / "data")


def test_a_deep_directory_serves_too(own_state: Path) -> None:
    """A socket's path may have 107 bytes; nothing of ours may depend on it."""
    deep = own_state / ("d" * 100) / "with blanks, an apostrophe's and an é"
    server = EmbeddedServer(deep, durable=False)
    try:
        assert _scalar(server.start(), "select 1") == 1
    finally:
        server.remove()


def test_a_database_is_emptied_also_while_a_session_uses_it(own_server: EmbeddedServer) -> None:
    own_server.start()
    url = own_server.drop_and_create_database("demo")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table old (x integer)")
        assert own_server.drop_and_create_database("demo") == url
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert _scalar(url, "select to_regclass('old')") is None


def test_the_log_holds_no_value_of_a_failed_statement(server: EmbeddedServer, database_url: str) -> None:
    secret = secrets.token_hex(8)
    with psycopg.connect(database_url) as connection:
        connection.execute("create table public.people (email text unique)")
        connection.execute("insert into public.people values (%s)", (secret,))
        with pytest.raises(psycopg.errors.UniqueViolation, match=secret):
            connection.execute(f"insert into public.people values ('{secret}')")  # type: ignore[arg-type]
    log = (server.directory / "log" / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert secret not in log


def test_a_long_log_is_set_aside_at_a_start(own_server: EmbeddedServer) -> None:
    own_server.start()
    own_server.stop()
    log = own_server.directory / "log" / "postgres.log"
    with log.open("ab") as file:
        file.truncate(20 * 1024 * 1024)
    own_server.start()
    assert log.stat().st_size < 100_000
    assert log.with_name("postgres.log.1").stat().st_size > 10_000_000


def test_a_server_that_cannot_start_shows_the_end_of_its_log_and_the_way_out(own_server: EmbeddedServer) -> None:
    own_server.start()
    own_server.stop()
    (own_server.directory / "data" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedServerError, match=r"(?s)could not find the database system.*LEADS_DATABASE_URL"):
        own_server.start()


def test_data_of_another_major_version_is_refused_untouched(own_server: EmbeddedServer) -> None:
    own_server.start()
    own_server.stop()
    (own_server.directory / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServerError, match=r"was made by PostgreSQL 9\.6.*LEADS_DATABASE_URL"):
        own_server.start()


def test_a_lost_password_is_named_and_not_replaced(own_server: EmbeddedServer) -> None:
    own_server.start()
    own_server.stop()
    (own_server.directory / "password").unlink()
    with pytest.raises(EmbeddedServerError, match=r"password is gone.*LEADS_DATABASE_URL"):
        own_server.start()


def test_a_pid_file_that_names_another_program_does_not_stop_a_start(own_server: EmbeddedServer) -> None:
    """After a restart of the machine the old pid may be anybody's, also a living one's."""
    own_server.start()
    own_server.stop()
    pid_file = own_server.directory / "data" / "postmaster.pid"
    owner = (own_server.directory / "data").stat()
    pid_file.write_text(f"{os.getpid()}\n{own_server.directory / 'data'}\n")
    os.chown(pid_file, owner.st_uid, owner.st_gid)
    assert own_server.status().state is ServerState.STOPPED
    assert not own_server.stop(), "and that program is not ours to end"
    assert _scalar(own_server.start(), "select 1") == 1


def test_the_server_of_a_test_session_that_was_killed_is_removed_by_the_next(server: EmbeddedServer) -> None:
    state = sessions() / f"1-{secrets.randbelow(10**6)}" / "server"  # process 1 did not start in 1970
    state.mkdir(parents=True)
    left_over = EmbeddedServer(state, durable=False)
    left_over.start()
    remove_dead_sessions()
    assert left_over.status().state is ServerState.ABSENT
    assert _postmasters(left_over) == []
    assert not state.parent.exists()
    assert server.status().state is ServerState.RUNNING


@pytest.fixture
def orphans_are_ours() -> Iterator[None]:
    """Orphans become children of this process, which does not reap them, as pid 1 of many containers does not."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _reap(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.mark.usefixtures("orphans_are_ours")
def test_a_killed_postmaster_that_nobody_reaps_is_not_taken_for_a_living_one(own_server: EmbeddedServer) -> None:
    own_server.start()
    first = own_server.status().pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    _eventually(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE)
    _eventually(lambda: own_server.status().state is ServerState.STOPPED)  # its backends notice a little later
    assert _scalar(own_server.start(), "select 1") == 1
    second = own_server.status().pid
    assert second != first
    assert own_server.stop(), "a stop does not wait for the reaper either"
    _reap(first)
    _reap(second)


@pytest.mark.chaos
def test_racing_starters_make_one_postmaster(own_state: Path, own_server: EmbeddedServer) -> None:
    starters = [_start_in_a_process(own_state) for _ in range(6)]
    try:
        answers = [_answer(starter) for starter in starters]
        assert len({(answer.get("url"), answer.get("pid")) for answer in answers}) == 1, answers
        assert len(_postmasters(own_server)) == 1
    finally:
        for starter in starters:
            starter.communicate()
    assert _scalar(own_server.url(), "select 1") == 1, "it outlives those who started it"


@pytest.mark.chaos
def test_a_starter_that_is_killed_leaves_a_server_that_others_can_use_and_stop(
    own_state: Path, own_server: EmbeddedServer
) -> None:
    starter = _start_in_a_process(own_state)
    url = _answer(starter)["url"]
    starter.kill()
    starter.communicate()
    assert _scalar(url, "select 1") == 1
    assert own_server.url() == url
    assert own_server.stop()
    assert _postmasters(own_server) == []


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["password", "data.partial-*/base", "data", "log/postgres.log"])
def test_a_starter_that_is_killed_half_way_does_not_spoil_the_next_start(
    own_state: Path, own_server: EmbeddedServer, moment: str
) -> None:
    starter = _start_in_a_process(own_state)
    _eventually(lambda: list(own_server.directory.glob(moment)))
    starter.kill()
    starter.communicate()
    assert _scalar(own_server.start(), "select current_database()") == "leads"
    assert len(_postmasters(own_server)) == 1
    assert list(own_server.directory.glob("*.partial-*")) == []


@pytest.mark.chaos
def test_a_server_whose_starter_died_before_it_made_the_database_is_not_taken_for_ready(
    own_server: EmbeddedServer,
) -> None:
    maintenance = own_server.start().rpartition("/")[0] + "/postgres"
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute("drop database leads with (force)")
    assert own_server.status().state is ServerState.STARTING
    with pytest.raises(EmbeddedServerError, match="leads db start"):
        own_server.url()
    assert _scalar(own_server.start(), "select current_database()") == "leads"


class _Writers:
    """Sessions that insert and note what was acknowledged, and come back after every loss of the connection."""

    def __init__(self, url: Callable[[], str], sessions: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self.up = threading.Event()
        self.acknowledged: SimpleQueue[str] = SimpleQueue()
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(sessions)]
        self.up.set()
        for thread in self._threads:
            thread.start()

    def _write(self) -> None:
        while not self._stop.is_set():
            self.up.wait()
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(self._url(), autocommit=True) as session,
            ):
                while not self._stop.is_set():
                    token = secrets.token_hex(8)
                    session.execute("insert into written values (%s)", (token,))
                    self.acknowledged.put(token)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)


@pytest.mark.slow
@pytest.mark.chaos
def test_a_killed_postmaster_loses_no_acknowledged_row(own_state: Path) -> None:
    server = EmbeddedServer(own_state)
    url = server.start()
    with psycopg.connect(url) as connection:
        connection.execute("create table written (token text primary key)")
    writers = _Writers(lambda: url, sessions=4)
    acknowledged: set[str] = set()
    for _ in range(4):
        for _ in range(300):
            acknowledged.add(writers.acknowledged.get(timeout=60))
        pid = server.status().pid
        assert pid is not None
        writers.up.clear()
        os.kill(pid, signal.SIGKILL)
        assert server.start() == url
        assert server.status().pid != pid
        writers.up.set()
    writers.stop()
    while not writers.acknowledged.empty():
        acknowledged.add(writers.acknowledged.get())
    with psycopg.connect(url) as connection:
        stored = {row[0] for row in connection.execute("select token from written")}
    assert len(acknowledged) >= 1200
    assert acknowledged - stored == set()
